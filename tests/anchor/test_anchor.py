from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pertcast.anchor import AnchorQuery, OwnGene, Populations, ShiftAnchor, Transfer, Weighting
from pertcast.anchor._choice import leave_out
from pertcast.anchor._factors import CovarianceFactors
from pertcast.anchor._regimes import left_out, regime_of

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]

N_GENES = 8
"""Few, so that the trees of the correction are quick."""


def query(*parts: str, state: np.ndarray | None = None, context: str = "new", control: float = 5.0) -> AnchorQuery:
    state = np.zeros(2) if state is None else state
    return AnchorQuery(parts, 1.0, np.full(N_GENES, control), state, context, "batch", 10**6)


def test_a_shift_that_follows_the_state_is_extrapolated(build: Build) -> None:
    rng = np.random.default_rng(0)
    states, slope = rng.normal(size=(9, 2)), rng.normal(size=(2, N_GENES))
    shifts = {name: states @ slope * size for name, size in (("A", 1.0), ("B", 2.0), ("C", -1.0))}
    anchor = ShiftAnchor(build(shifts, states), nonnegative=False)
    state = np.array([1.5, -1.0])
    error = np.linalg.norm(anchor.shift(query("B", state=state)) - 2 * state @ slope)
    uniform = np.linalg.norm(shifts["B"].mean(0) - 2 * state @ slope)
    assert error < 0.2 * uniform


@pytest.mark.parametrize("nonnegative", [True, False])
def test_identical_shifts_are_forecast(build: Build, nonnegative: bool) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 2, size=N_GENES)
    populations = build({"A": np.tile(truth, (6, 1))}, rng.normal(size=(6, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anchor = ShiftAnchor(populations, nonnegative=nonnegative)
    np.testing.assert_allclose(anchor.shift(query("A", state=rng.normal(size=2))), truth, rtol=1e-3)


def test_noise_is_shrunk_to_nothing(build: Build) -> None:
    rng = np.random.default_rng(3)
    shifts = {name: rng.normal(size=(5, N_GENES)) for name in "ABCDEF"}
    anchor = ShiftAnchor(build(shifts, rng.normal(size=(5, 2))), nonnegative=False)
    assert np.linalg.norm(anchor.shift(query("A"))) < 0.35 * np.linalg.norm(shifts["A"][0])


def test_a_condition_of_training_is_forecast_by_its_measurement(build: Build) -> None:
    rng = np.random.default_rng(4)
    shifts = {name: 3 * rng.normal(size=(5, N_GENES)) for name in "ABC"}
    anchor = ShiftAnchor(build(shifts, rng.normal(size=(5, 2))), nonnegative=False)
    np.testing.assert_allclose(anchor.shift(anchor.populations.query(7)), shifts["B"][2], rtol=0.02, atol=0.02)


def test_combinations_are_sums_of_their_parts(build: Build) -> None:
    rng = np.random.default_rng(5)
    shifts = {name: rng.normal(size=(1, N_GENES)) for name in "ABCDE"}
    shifts |= {pair: shifts[pair[0]] + shifts[pair[2]] for pair in ("A+B", "C+D")}
    anchor = ShiftAnchor(build(shifts, np.zeros((1, 2))), nonnegative=False)
    truth = (shifts["A"] + shifts["E"])[0]
    found = anchor.shift(query("A", "E", context="c0"))
    assert np.linalg.norm(found - truth) < 0.1 * np.linalg.norm(truth)


def test_an_unknown_perturbation_has_the_mean_shift(build: Build) -> None:
    rng = np.random.default_rng(6)
    common = rng.normal(size=N_GENES)
    shifts = {f"P{i}": (common + 0.1 * rng.normal(size=N_GENES))[None] for i in range(12)}
    anchor = ShiftAnchor(build(shifts, np.zeros((1, 2))), nonnegative=False)
    np.testing.assert_allclose(anchor.shift(query("unheard", context="c0")), common, atol=0.15)


def test_mean_shift_is_the_mean_over_the_names(build: Build) -> None:
    rng = np.random.default_rng(7)
    anchor = ShiftAnchor(
        build({name: rng.normal(size=(4, N_GENES)) for name in "ABC"}, rng.normal(size=(4, 2))), nonnegative=False
    )
    found = anchor.mean_shift(query("anything"), ["A", "C"])
    np.testing.assert_allclose(found, np.mean([anchor.shift(query(name)) for name in "AC"], axis=0))


def test_forecasts_never_fall_below_zero_expression(build: Build) -> None:
    rng = np.random.default_rng(8)
    control_mean = rng.uniform(0, 4, size=(4, N_GENES))
    shifts = {name: -control_mean * rng.uniform(0.5, 1, size=(4, N_GENES)) for name in "AB"}
    populations = build(shifts, rng.normal(size=(4, 2)), control_mean=control_mean)
    anchor = ShiftAnchor(populations, nonnegative=True)
    for parts in (("A",), ("B",), ("A", "B")):
        low = query(*parts, control=0.1)
        assert (anchor.shift(low) >= -0.1).all()
        assert anchor.shift(low).min() < 0
    free = ShiftAnchor(populations, nonnegative=False)
    assert free.shift(query("A", control=0.1)).min() < -0.1


def rising_genes(build: Build) -> tuple[ShiftAnchor, Populations]:
    """Genes that are silent in the controls do not rise, whatever the other contexts show."""
    rng = np.random.default_rng(9)
    expressed = rng.random((8, 30)) < 0.5
    control_mean = np.where(expressed, 3.0, 0.0)
    shifts = {"A": np.where(expressed, rng.uniform(1, 2, size=30), 0.0)}
    populations = build(shifts, rng.normal(size=(8, 2)), control_mean=control_mean)
    return ShiftAnchor(populations, nonnegative=True), populations


def test_a_rule_that_genes_share_is_corrected(build: Build) -> None:
    anchor, populations = rising_genes(build)
    transfer = anchor.transfers["context"]
    assert transfer.correction is not None
    expressed = np.arange(30) % 2 == 0
    level = populations.shift[populations.shift > 0].mean()
    new = AnchorQuery(("A",), 1.0, np.where(expressed, 3.0, 0.0), np.zeros(2), "new", "batch", 100)
    truth = np.where(expressed, level, 0.0)
    plain = anchor.forecasts.by_transfer(new, np.arange(8), transfer)
    assert np.linalg.norm(anchor.shift(new) - truth) < 0.6 * np.linalg.norm(plain - truth)


def test_what_no_rule_explains_is_not_corrected(build: Build) -> None:
    """Contexts differ from each other at random, around what each gene does: trees can only learn noise."""
    kept = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        shifts = {"A": rng.normal(scale=10, size=30) + rng.normal(size=(8, 30))}
        anchor = ShiftAnchor(build(shifts, rng.normal(size=(8, 2))), nonnegative=False)
        kept += anchor.transfers["context"].correction is not None
    assert kept <= 1


def test_choices_do_not_see_the_context_that_is_left_out(build: Build) -> None:
    """The weighting is judged on forecasts that stay the same whatever the own context holds."""
    rng = np.random.default_rng(10)
    populations = build({name: rng.normal(size=(5, N_GENES)) for name in "AB"}, rng.normal(size=(5, 2)))
    forecasts = []
    for size in (1.0, 1e3):
        shift = populations.shift.copy()
        shift[populations.context == "c3"] *= size
        anchor = ShiftAnchor(replace(populations, shift=shift), nonnegative=False)
        anchor.process.log_variance = np.zeros(anchor.process.kernel.n_terms)
        anchor.process.kernel.strength = {}
        anchor.process._scale = 1.0
        anchor.process._factors = CovarianceFactors(anchor.process._covariance)
        (case,) = [case for case in leave_out(anchor.forecasts, "context", seed=0) if case.row == 3]
        sources = anchor.forecasts.sources(case.query, case.rest)
        weighted = anchor.forecasts.by_weighting(case.query, sources, Weighting("ridge", 1.0))
        forecasts.append((anchor.forecasts.by_process(case.query, case.rest), weighted))
    np.testing.assert_allclose(forecasts[0], forecasts[1])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("A", "new", "b0"), "context"),
        (("C", "c0", "b0"), "perturbation"),
        (("A", "c0", "b9"), "batch"),
        (("A", "c0", "b0"), None),
    ],
)
def test_what_is_new(build: Build, asked: tuple[str, str, str], expected: str | None) -> None:
    populations = build({"A": np.ones((2, 3)), "C": np.array([[np.nan] * 3, [1.0] * 3])}, np.zeros((2, 2)))
    populations = replace(populations, batch=np.array(["b0"] * 3, dtype=object))
    name, context, batch = asked
    new = AnchorQuery((name,), 1.0, np.ones(3), np.zeros(2), context, batch)
    assert regime_of(populations, new) == expected


def test_what_is_left_out(build: Build) -> None:
    populations = build({"A": np.ones((3, 2)), "B": np.ones((3, 2))}, np.zeros((3, 2)))
    populations = replace(populations, batch=np.array(list("xyxyyx"), dtype=object))
    # Rows: A in c0, c1, c2, then B in c0, c1, c2.
    assert np.flatnonzero(left_out(populations, 1, "context")).tolist() == [1, 4]
    assert np.flatnonzero(left_out(populations, 1, "perturbation")).tolist() == [1]
    assert np.flatnonzero(left_out(populations, 1, "batch")).tolist() == [1, 3, 4]


def test_too_few_units_choose_nothing(build: Build) -> None:
    anchor = ShiftAnchor(build({"A": np.ones((2, 4)), "B": np.ones((2, 4))}, np.eye(2)), nonnegative=False)
    assert anchor.transfers["context"] == Transfer()


def test_the_own_gene_of_unseen_perturbations(build: Build) -> None:
    """Each knock-out halves its own gene and does nothing else."""
    names = [f"G{i}" for i in range(N_GENES)]
    control = np.linspace(1, 5, N_GENES)
    shifts = {name: -0.5 * control * (np.arange(N_GENES) == i) for i, name in enumerate(names[:-1])}
    populations = build({k: v[None] for k, v in shifts.items()}, np.zeros((1, 2)), control_mean=control[None])
    genes = {name: i for i, name in enumerate(names)}
    anchor = ShiftAnchor(populations, nonnegative=True, genes=genes)
    new = AnchorQuery((names[-1],), 1.0, control, np.zeros(2), "c0", "batch", 10**6)
    assert anchor.shift(new)[-1] == pytest.approx(-2.5, rel=0.05)
    assert np.abs(anchor.shift(new)[:-1]).max() < 0.4
    assert ShiftAnchor(populations, nonnegative=True).shift(new)[-1] == pytest.approx(0, abs=0.05)


def test_own_gene_follows_a_line_or_nothing() -> None:
    control = [1.0, 2.0, 3.0, 4.0, 6.0]
    line: Any = OwnGene(control, [1 + 0.5 * c for c in control]).line
    np.testing.assert_allclose(line, [1.0, 0.5])
    share: Any = OwnGene(control, [-0.7 * c for c in control]).line
    np.testing.assert_allclose(share, [0.0, -0.7], atol=1e-12)
    assert not OwnGene(control, [1.0, -1.0, 0.5, -0.5, 0.2]).line.any()


def test_an_anchor_survives_pickling(build: Build) -> None:
    rng = np.random.default_rng(11)
    populations = build({name: rng.normal(size=(5, 8)) + 1 for name in "AB"}, rng.normal(size=(5, 2)))
    anchor = ShiftAnchor(populations, nonnegative=True, vectors={"A": np.ones(2), "B": np.zeros(2)})
    copy: Any = pickle.loads(pickle.dumps(anchor))
    for row in range(len(populations)):
        np.testing.assert_array_equal(
            copy.shift(copy.populations.query(row)), anchor.shift(anchor.populations.query(row))
        )
    assert repr(copy) == repr(anchor)
    assert repr(anchor).startswith("ShiftAnchor[n_populations=10, context=")
