from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import AnchorQuery, EmbeddingRegression, Populations, ShiftAnchor

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]

N_GENES = 8
"""Few, so that the trees of the correction are quick."""


def query(*parts: str, state: np.ndarray | None = None, context: str = "new", control: float = 5.0) -> AnchorQuery:
    state = np.zeros(2) if state is None else state
    return AnchorQuery(parts, 1.0, np.full(N_GENES, control), state, context)


def test_a_shift_that_follows_the_state_is_found_by_ridge(build: Build) -> None:
    rng = np.random.default_rng(0)
    states, slope = rng.normal(size=(9, 2)), rng.normal(size=(2, N_GENES))
    shifts = {name: states @ slope * size for name, size in (("A", 1.0), ("B", 2.0), ("C", -1.0))}
    anchor = ShiftAnchor(build(shifts, states), nonnegative=False)
    assert anchor.weighting.kind == "ridge"
    assert anchor.shrinkage > 0.95
    state = np.array([1.5, -1.0])
    error = np.linalg.norm(anchor.shift(query("B", state=state)) - 2 * state @ slope)
    uniform = np.linalg.norm(shifts["B"].mean(0) - 2 * state @ slope)
    assert error < 0.4 * uniform


@pytest.mark.parametrize("nonnegative", [True, False])
def test_identical_shifts_are_forecast_exactly(build: Build, nonnegative: bool) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 2, size=N_GENES)
    populations = build({"A": np.tile(truth, (6, 1))}, rng.normal(size=(6, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anchor = ShiftAnchor(populations, nonnegative=nonnegative)
    np.testing.assert_allclose(anchor.shift(query("A", state=rng.normal(size=2))), truth, rtol=1e-6)
    assert anchor.shrinkage == pytest.approx(1)


def test_noise_is_shrunk_to_nothing(build: Build) -> None:
    rng = np.random.default_rng(3)
    shifts = {name: rng.normal(size=(5, N_GENES)) for name in "ABCDEF"}
    anchor = ShiftAnchor(build(shifts, rng.normal(size=(5, 2))), nonnegative=False)
    assert anchor.shrinkage < 0.2
    forecast = anchor.shift(query("A"))
    assert np.linalg.norm(forecast) < 0.25 * np.linalg.norm(shifts["A"][0])


def test_shrinkage_closed_form_for_two_contexts(build: Build) -> None:
    first = np.linspace(1, 2, N_GENES)
    anchor = ShiftAnchor(build({"A": np.stack([first, 0.5 * first])}, np.zeros((2, 2))), nonnegative=False)
    # Each context forecasts the other: along = 2 * 0.5, length = 1 + 0.25.
    assert anchor.shrinkage == pytest.approx(0.8)
    np.testing.assert_allclose(anchor.shift(query("A")), 0.8 * 0.75 * first)
    np.testing.assert_allclose(anchor.shift(query("A", context="c1")), 0.8 * first)


def combination_anchor(build: Build, factor: float) -> tuple[ShiftAnchor, dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    shifts = {name: np.tile(rng.normal(size=N_GENES), (3, 1)) + rng.normal(size=(3, N_GENES)) for name in "ABC"}
    shifts["A+B"] = factor * (shifts["A"] + shifts["B"]) + 0.3 * rng.normal(size=(3, N_GENES))
    shifts["A+B"][2] = np.nan
    return ShiftAnchor(build(shifts, np.zeros((3, 2))), nonnegative=False), shifts


def test_combinations_are_scaled_sums_of_their_parts(build: Build) -> None:
    anchor, shifts = combination_anchor(build, 0.6)
    total = (shifts["A"] + shifts["B"])[:2]
    fitted = (total * shifts["A+B"][:2]).sum() / np.square(total).sum()
    assert 0.5 < fitted < 0.7
    scale = (fitted + 3) / (1 + 3)  # one measured combination beside three of additivity
    assert anchor.combination_scale == pytest.approx(scale)
    measured = anchor.shift(query("A", "C", context="c1"))
    np.testing.assert_allclose(measured, scale * (shifts["A"][1] + shifts["C"][1]))
    new = anchor.shift(query("A", "C"))
    np.testing.assert_allclose(new, scale * (anchor.shift(query("A")) + anchor.shift(query("C"))))
    with_unknown = anchor.shift(query("A", "unheard", context="c1"))
    np.testing.assert_allclose(with_unknown, scale * shifts["A"][1])


@pytest.mark.parametrize(("factor", "expected"), [(2.0, 1.0), (-1.0, 0.75)])
def test_the_fitted_factor_of_combinations_is_cut_to_0_and_1(build: Build, factor: float, expected: float) -> None:
    assert combination_anchor(build, factor)[0].combination_scale == expected


def test_a_measured_combination_is_forecast_from_itself(build: Build) -> None:
    anchor, shifts = combination_anchor(build, 0.6)
    found = anchor._from_sources(query("A", "B"), *anchor._sources(query("A", "B")))
    np.testing.assert_allclose(found, anchor.shrinkage * shifts["A+B"][:2].mean(0), rtol=1e-5)


def test_nothing_is_known_of_an_unknown_perturbation(build: Build) -> None:
    anchor, _ = combination_anchor(build, 0.6)
    assert not anchor.shift(query("unheard")).any()


def test_mean_shift_is_the_mean_over_the_names(build: Build) -> None:
    anchor, shifts = combination_anchor(build, 0.6)
    here = anchor.mean_shift(query("anything", context="c2"), "ABC")
    np.testing.assert_allclose(here, np.mean([shifts[name][2] for name in "ABC"], axis=0))
    elsewhere = anchor.mean_shift(query("anything"), ["A", "C"])
    np.testing.assert_allclose(elsewhere, np.mean([anchor.shift(query(name)) for name in "AC"], axis=0))


def test_vectors_forecast_what_no_other_context_shows(build: Build) -> None:
    rng = np.random.default_rng(5)
    vectors = {name: rng.normal(size=3) for name in "ABCDEFX"}
    slope = rng.normal(size=(3, N_GENES))
    shifts = {name: vectors[name] @ slope + np.zeros((1, N_GENES)) for name in "ABCDEF"}
    anchor = ShiftAnchor(build(shifts, np.zeros((1, 2))), nonnegative=False, vectors=vectors)
    table = np.stack([vectors[n] for n in "ABCDEF"]), np.stack([shifts[n][0] for n in "ABCDEF"])
    expected = EmbeddingRegression(*table)
    np.testing.assert_allclose(anchor.shift(query("X")), expected.predict(vectors["X"]), rtol=1e-6)
    truth = vectors["X"] @ slope
    assert np.linalg.norm(anchor.shift(query("X")) - truth) < 0.5 * np.linalg.norm(truth)
    np.testing.assert_allclose(anchor.shift(query("B", context="c0")), expected.left_out[1], rtol=1e-6)
    without = ShiftAnchor(build(shifts, np.zeros((1, 2))), nonnegative=False)
    assert not without.shift(query("B", context="c0")).any()


def test_forecasts_never_fall_below_zero_expression(build: Build) -> None:
    rng = np.random.default_rng(6)
    control_mean = rng.uniform(0, 4, size=(4, N_GENES))
    shifts = {name: -control_mean * rng.uniform(0.5, 1, size=(4, N_GENES)) for name in "AB"}
    vectors = {name: rng.normal(size=2) for name in "ABX"}
    populations = build(shifts, rng.normal(size=(4, 2)), control_mean=control_mean)
    anchor = ShiftAnchor(populations, nonnegative=True, vectors=vectors)
    for parts in (("A",), ("B",), ("A", "B"), ("X",)):
        low = query(*parts, control=0.1)
        assert (anchor.shift(low) >= -0.1).all()
        assert anchor.shift(low).min() < 0
    assert anchor.mean_shift(query("X", control=0.1, context="c0"), "AB").min() == -0.1
    free = ShiftAnchor(populations, nonnegative=False, vectors=vectors)
    assert free.shift(query("A", control=0.1)).min() < -0.1


def test_a_rule_that_genes_share_is_corrected(build: Build) -> None:
    """Genes that are silent in the controls do not rise, whatever the other contexts show."""
    rng = np.random.default_rng(7)
    expressed = rng.random((8, 30)) < 0.5
    control_mean = np.where(expressed, 3.0, 0.0)
    shifts = {name: np.where(expressed, rng.uniform(1, 2, size=30), 0.0) for name in "A"}
    populations = build(shifts, rng.normal(size=(8, 2)), control_mean=control_mean)
    anchor = ShiftAnchor(populations, nonnegative=True)
    assert anchor.correction is not None
    assert set(anchor.fold_of_context) == {f"c{c}" for c in range(8)}
    target = anchor.query(0)
    rows, trust = anchor._sources(target)
    plain = anchor._from_sources(target, rows, trust)
    truth = populations.shift[0]
    assert np.linalg.norm(anchor.shift(target) - truth) < 0.6 * np.linalg.norm(plain - truth)
    fold = anchor.fold_corrections[anchor.fold_of_context["c0"]]
    expected = np.maximum(plain + fold.predict(anchor._features(target, rows, plain)), -target.control_mean)
    np.testing.assert_allclose(anchor.shift(target), expected)
    assert anchor._correction_for(query("A")) is anchor.correction
