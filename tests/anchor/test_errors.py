"""Errors of training populations that are left out, against what they must be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import GeneCorrection, Populations, ShiftAnchor, Transfer, Weighting, forecast_errors

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


def test_what_a_perturbation_does_in_combinations_is_left_out_with_it(build: Build) -> None:
    """A+B says what A does; without it, too, A is forecast as what perturbations share: nothing here."""
    shifts = {name: 5 * np.eye(8)[k] for k, name in enumerate("ABCD")}
    shifts |= {"A+B": shifts["A"] + shifts["B"], "A+C": shifts["A"] + shifts["C"]}
    populations = build({name: shift[None] for name, shift in shifts.items()}, np.zeros((1, 1)))
    anchor = ShiftAnchor(replace(populations, cell_variance=0.0), nonnegative=False)
    row = populations.perturbation.index(("A",))
    (alone,) = [error for error in forecast_errors(anchor) if (error.left_out, error.row) == ("perturbation", row)]
    assert alone.squared_error > 0.5 * alone.squared_shift


def test_errors_are_those_of_the_chosen_transfer_with_its_correction(build: Build) -> None:
    """By hand: weighted shifts of the other contexts, and trees that were fitted on the other folds."""
    rng = np.random.default_rng(4)
    base = np.r_[np.full(150, 2.0), np.zeros(150)]
    scale = rng.uniform(0.5, 1.5, size=6)
    populations = build({"A": scale[:, None] * base + 0.05 * rng.normal(size=(6, 300))}, rng.normal(size=(6, 2)))
    anchor = ShiftAnchor(replace(populations, cell_variance=0.0), nonnegative=False)
    uniform = Transfer(Weighting("uniform"), shrinkage=0.5)
    anchor.transfers = dict.fromkeys(anchor.transfers, uniform)
    plain = {error.row: error for error in forecast_errors(anchor)}
    for row in range(6):
        forecast = 0.5 * np.delete(populations.shift, row, axis=0).mean(axis=0)
        truth = populations.shift[row]
        assert plain[row].squared_error == pytest.approx(np.square(forecast - truth).sum(), rel=1e-6)
        assert plain[row].pearson == pytest.approx(np.corrcoef(forecast, truth)[0, 1], rel=1e-6)
    anchor.transfers = dict.fromkeys(anchor.transfers, uniform._replace(correction=GeneCorrection()))
    corrected = {error.row: error for error in forecast_errors(anchor)}
    assert sum(e.squared_error for e in corrected.values()) < 0.8 * sum(e.squared_error for e in plain.values())

    noise = build({"A": rng.normal(size=(6, 300))}, rng.normal(size=(6, 2)))  # nothing to learn, only to overfit
    anchor = ShiftAnchor(replace(noise, cell_variance=0.0), nonnegative=False)
    anchor.transfers = dict.fromkeys(anchor.transfers, Transfer(correction=GeneCorrection()))
    error, length = sums(anchor)["context"]
    assert error > 0.97 * length


def test_forecasts_below_zero_are_cut(build: Build) -> None:
    """Controls at 5 lose 4 elsewhere; where they are at 1 no more than 1 can be lost."""
    populations = build({"A": np.full((5, 6), -4.0)}, np.zeros((5, 1)))
    control, shift = populations.control_mean.copy(), populations.shift.copy()
    control[0], shift[0] = 1.0, -1.0
    populations = replace(populations, control_mean=control, shift=shift, cell_variance=0.0)
    anchor = ShiftAnchor(populations, nonnegative=False)
    anchor.transfers = dict.fromkeys(anchor.transfers, Transfer(Weighting("uniform")))
    below = {error.row: error for error in forecast_errors(anchor)}
    anchor.nonnegative = True
    cut = {error.row: error for error in forecast_errors(anchor)}
    assert below[0].squared_error == pytest.approx(6 * 3.0**2)
    assert cut[0].squared_error == pytest.approx(0.0, abs=1e-9)
    assert cut[1].squared_error == pytest.approx(below[1].squared_error)


def test_a_screen_without_effects_is_noise_of_its_controls(build: Build) -> None:
    """Ten null perturbations share 50 controls in each of four contexts: all of the squared shift is control noise."""
    rng, n, n_genes, n_contexts = np.random.default_rng(5), 50, 500, 4
    controls = rng.normal(scale=n**-0.5, size=(n_contexts, n_genes))
    shifts = {name: rng.normal(scale=n**-0.5, size=(n_contexts, n_genes)) - controls for name in "ABCDEFGHIJ"}
    populations = build(shifts, rng.normal(size=(n_contexts, 2)))
    counts = np.full(len(populations), n)
    populations = replace(populations, n_perturbed=counts, n_control=counts, cell_variance=1.0)
    anchor = ShiftAnchor(populations, nonnegative=False)
    errors = forecast_errors(anchor)
    for kind in ("context", "condition", "perturbation"):
        here = [error for error in errors if error.left_out == kind]
        noise = sum(error.control_noise for error in here)
        assert noise == pytest.approx(len(here) * n_genes / n)
        assert sum(error.squared_shift for error in here) == pytest.approx(noise, rel=0.1)
    by_kind = sums(anchor)
    assert by_kind["context"][0] > 0.9 * by_kind["context"][1]
    assert by_kind["condition"][0] < 0.3 * by_kind["condition"][1]  # those that share the controls tell their noise


def test_what_is_judged_is_drawn_from_what_can_be_judged(build: Build) -> None:
    """Ten perturbations are measured in three contexts, and among 300 others in one context each."""
    rng, n = np.random.default_rng(6), 3
    shifts = {f"shared{i}": rng.normal(size=(n, 4)) for i in range(10)}
    for i in range(300):
        alone = np.full((n, 4), np.nan)
        alone[i % n] = rng.normal(size=4)
        shifts[f"alone{i}"] = alone
    populations = build(shifts, rng.normal(size=(n, 2)))
    assert len(populations) == 330
    errors = forecast_errors(ShiftAnchor(populations, nonnegative=False))
    for kind in ("context", "condition"):
        rows = [error.row for error in errors if error.left_out == kind]
        assert [populations.perturbation[row][0].startswith("shared") for row in rows] == [True] * 30
    assert sum(error.left_out == "perturbation" for error in errors) == 24_000 // 330


def test_rare_kinds_are_drawn_in_full(build: Build) -> None:
    """Five combinations among 150 single perturbations."""
    rng = np.random.default_rng(7)
    shifts = {f"P{i}": rng.normal(size=(1, 4)) for i in range(150)}
    shifts |= {f"P{i}+P{i + 1}": rng.normal(size=(1, 4)) for i in range(5)}
    errors = forecast_errors(ShiftAnchor(build(shifts, np.zeros((1, 1))), nonnegative=False))
    assert sum(error.left_out == "combination" for error in errors) == 5
    assert sum(error.left_out == "perturbation" for error in errors) == 120
