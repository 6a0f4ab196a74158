"""Errors of training populations that are left out, against what they must be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import Populations, ShiftAnchor, forecast_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]


def sums(anchor: ShiftAnchor) -> dict[str, tuple[float, float]]:
    """Squared error and squared shift of each kind."""
    errors = forecast_errors(anchor)
    kinds = dict.fromkeys(error.left_out for error in errors)
    of = {kind: [error for error in errors if error.left_out == kind] for kind in kinds}
    return {kind: (sum(e.squared_error for e in es), sum(e.squared_shift for e in es)) for kind, es in of.items()}


def test_squares_are_those_of_the_truth_without_noise(build: Build) -> None:
    """Equal shifts in 6 contexts, each measured on 50 cells: what is left of the error is that of the other five."""
    rng, n_genes, n_contexts, variance, n = np.random.default_rng(0), 4000, 6, 1.0, 50
    truth = np.zeros(n_genes)
    truth[:100] = 3.0
    noise = rng.normal(scale=np.sqrt(variance / n), size=(n_contexts, n_genes))
    populations = build({"A": truth + noise}, rng.normal(size=(n_contexts, 2)))
    populations = replace(populations, n_perturbed=np.full(n_contexts, n), cell_variance=variance)
    anchor = ShiftAnchor(populations, nonnegative=False)
    anchor.transfers = {regime: each._replace(correction=None) for regime, each in anchor.transfers.items()}
    error, length = sums(anchor)["context"]
    assert length == pytest.approx(n_contexts * 100 * 9.0, rel=0.02)
    others = n_contexts * n_genes * variance / n / (n_contexts - 1)
    assert error == pytest.approx(others, rel=0.2)


def test_what_no_other_perturbation_tells_is_lost_whole(build: Build) -> None:
    """Perturbations that share nothing: without its own populations a shift is forecast as none."""
    shifts = 5 * np.eye(6)
    populations = build({name: np.tile(shifts[k], (3, 1)) for k, name in enumerate("ABCDEF")}, np.zeros((3, 1)))
    found = sums(ShiftAnchor(replace(populations, cell_variance=0.0), nonnegative=False))
    error, length = found["perturbation"]
    assert length == pytest.approx(18 * 25.0)
    assert 0.9 < error / length < 1.3
    assert found["context"][0] / length < 0.01


def test_combinations_are_forecast_by_their_parts(build: Build) -> None:
    rng = np.random.default_rng(1)
    alone = {name: rng.normal(size=8) for name in "ABCD"}
    pairs = {"A+B": alone["A"] + alone["B"], "B+C": alone["B"] + alone["C"], "C+D": alone["C"] + alone["D"]}
    populations = build({name: shift[None] for name, shift in (alone | pairs).items()}, np.zeros((1, 1)))
    error, length = sums(ShiftAnchor(replace(populations, cell_variance=0.0), nonnegative=False))["combination"]
    assert error / length < 0.02


def test_nothing_is_left_out_where_there_are_too_few(build: Build) -> None:
    populations = build({"A": np.ones((2, 4)), "B": np.ones((2, 4))}, np.zeros((2, 1)))
    assert {error.left_out for error in forecast_errors(ShiftAnchor(populations, nonnegative=False))} <= {"condition"}


def test_a_population_is_not_told_what_was_measured_in_it(build: Build) -> None:
    """A shift that is off by 1000 in each of 8 genes has an error of 8 million: nothing of it is in its forecast."""
    rng = np.random.default_rng(3)
    populations = build({"A": rng.normal(size=(5, 8)), "B": rng.normal(size=(5, 8))}, rng.normal(size=(5, 2)))
    populations = replace(populations, cell_variance=0.0)
    far = populations.shift.copy()
    far[3] += 1e3
    anchor = ShiftAnchor(populations, nonnegative=False)
    moved = ShiftAnchor(replace(populations, shift=far), nonnegative=False)
    moved.transfers = anchor.transfers = dict.fromkeys(anchor.transfers, type(anchor.transfers["context"])())
    for kind in ("context", "condition"):
        (error,) = [e.squared_error for e in forecast_errors(moved) if e.left_out == kind and e.row == 3]
        assert error == pytest.approx(8e6, rel=0.05)
