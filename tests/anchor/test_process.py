from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pertcast.anchor import AnchorQuery, Populations, ShiftProcess
from pertcast.anchor._factors import CovarianceFactors

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]

ONE_CONTEXT = np.zeros((1, 2))


def query(*parts: str, context: str = "c0", batch: str = "batch", n_control: int = 10**6) -> AnchorQuery:
    return AnchorQuery(parts, 1.0, np.zeros(1), np.zeros(2), context, batch, n_control)


def forecast(process: ShiftProcess, asked: AnchorQuery) -> np.ndarray:
    rows, weights = process.weights(asked.conditions, np.arange(len(process.populations)))
    return weights.sum(0) @ process.populations.shift[rows]


@pytest.fixture
def random_effects(build: Build) -> ShiftProcess:
    """Eight perturbations of one context, 50 perturbed cells and 200 controls, unit variance between cells."""
    rng = np.random.default_rng(0)
    populations = build({f"P{i}": rng.normal(size=(1, 6)) + 1 for i in range(8)}, ONE_CONTEXT)
    populations = replace(populations, n_perturbed=np.full(8, 50), n_control=np.full(8, 200))
    process = ShiftProcess(populations)
    process.log_variance = np.log([0.5, 0.3])  # any, own
    process._factors = CovarianceFactors(process._covariance)
    process.kernel.strength = {}
    return process


def test_terms_of_one_context(random_effects: ShiftProcess) -> None:
    assert (random_effects.kernel.perturbation_terms, random_effects.kernel.context_terms) == (["any", "own"], ["all"])


def test_a_new_perturbation_has_the_shrunken_mean_shift(random_effects: ShiftProcess) -> None:
    mean = random_effects.populations.shift.mean(0)
    noise, between = 1 / 50, 0.5
    # Random effects with equal variances: the grand mean times n a / (n a + b + e).
    elsewhere = 8 * between / (8 * (between + 1 / 200) + 0.3 + noise) * mean
    new_controls = query("new", batch="other", n_control=200)
    np.testing.assert_allclose(forecast(random_effects, new_controls), elsewhere, rtol=1e-3)
    # With the same controls, the noise of their mean is part of every shift, also of the new one.
    here = 8 * (between + 1 / 200) / (8 * (between + 1 / 200) + 0.3 + noise) * mean
    np.testing.assert_allclose(forecast(random_effects, query("new", n_control=200)), here, rtol=1e-3)


def test_a_measured_perturbation_is_drawn_to_the_mean(random_effects: ShiftProcess) -> None:
    p = random_effects.populations
    grand = 8 * 0.505 / (8 * 0.505 + 0.32) * p.shift.mean(0)
    expected = grand + 0.3 / 0.32 * (p.shift[2] - grand)
    # The residuals of the mean model, shrunk by own / (own + noise).
    np.testing.assert_allclose(forecast(random_effects, query("P2", n_control=200)), expected, rtol=2e-3)


def test_cells_decide_how_much_a_measurement_counts(build: Build) -> None:
    rng = np.random.default_rng(1)
    populations = build({f"P{i}": 3 * rng.normal(size=(1, 6)) for i in range(8)}, ONE_CONTEXT)
    many = ShiftProcess(populations)
    np.testing.assert_allclose(forecast(many, query("P0")), populations.shift[0], rtol=1e-3)
    few = ShiftProcess(replace(populations, n_perturbed=np.where(np.arange(8) == 0, 1, 10**6), cell_variance=1e4))
    assert np.linalg.norm(forecast(few, query("P0"))) < 0.3 * np.linalg.norm(populations.shift[0])


def test_variances_maximise_the_marginal_likelihood(build: Build) -> None:
    rng = np.random.default_rng(2)
    n_genes, shares = 50, np.array([0.5, 2.0])
    own, common = rng.normal(size=(60, n_genes)), rng.normal(size=n_genes)
    shifts = np.sqrt(shares[0]) * common + np.sqrt(shares[1]) * own
    process = ShiftProcess(build({f"P{i:02}": shifts[[i]] for i in range(60)}, ONE_CONTEXT))
    assert np.exp(process.log_variance[1]) == pytest.approx(2.0, rel=0.15)

    def likelihood(log_variance: np.ndarray) -> float:
        a, b = np.exp(log_variance)
        covariance = a * np.ones((60, 60)) + (b + 2e-6) * np.eye(60)
        return multivariate_normal(cov=covariance).logpdf(shifts.T).sum()

    scale = np.square(shifts).mean() / 2
    best = process.log_variance

    def objective(theta: np.ndarray) -> float:
        return likelihood(theta) - 0.02 * np.square(theta - np.log(scale)).sum()

    for step in ([0.2, 0], [-0.2, 0], [0, 0.05], [0, -0.05]):
        assert objective(best) > objective(best + np.array(step))


def test_noise_of_shared_controls_is_forecast_and_not_taken_for_a_response(build: Build) -> None:
    """Twelve perturbations without effect in each of six contexts whose control means are off by a unit normal."""
    rng = np.random.default_rng(3)
    off = rng.normal(size=(6, 30))
    shifts = {f"P{i}": off + 0.01 * rng.normal(size=(6, 30)) for i in range(12)}
    shifts["P0"][5] = np.nan
    populations = build(shifts, rng.normal(size=(6, 2)))
    n = len(populations)
    populations = replace(populations, n_control=np.full(n, 1), n_perturbed=np.full(n, 10**4), cell_variance=1.0)
    process = ShiftProcess(populations)
    state = populations.state[5]
    here = query("P0", context="c5", n_control=1)._replace(state=state)
    np.testing.assert_allclose(forecast(process, here), off[5], atol=0.2)
    elsewhere = query("P0", context="new", n_control=1)._replace(state=np.zeros(2))
    assert np.abs(forecast(process, elsewhere)).mean() < 0.35


def test_vectors_forecast_what_was_never_measured(build: Build) -> None:
    rng = np.random.default_rng(4)
    vectors = {f"P{i:02}": rng.normal(size=3) for i in range(30)}
    slope = rng.normal(size=(3, 8))
    shifts = {name: (vector @ slope)[None] for name, vector in list(vectors.items())[:29]}
    populations = build(shifts, ONE_CONTEXT)
    truth = vectors["P29"] @ slope
    with_vectors = forecast(ShiftProcess(populations, vectors), query("P29"))
    without = forecast(ShiftProcess(populations), query("P29"))
    assert np.linalg.norm(with_vectors - truth) < 0.1 * np.linalg.norm(truth)
    assert np.linalg.norm(without - truth) > 0.5 * np.linalg.norm(truth)


def test_combinations_tell_of_their_parts(build: Build) -> None:
    rng = np.random.default_rng(5)
    effects = {name: rng.normal(size=20) for name in "ABCDEFGH"}
    pairs = ["A+B", "C+D", "E+F", "G+H", "A+C", "B+E"]
    shifts = {name: effects[name][None] for name in "ACEFG"}
    shifts |= {pair: (effects[pair[0]] + effects[pair[2]])[None] for pair in pairs}
    process = ShiftProcess(build(shifts, ONE_CONTEXT))
    # B was never measured alone, but A+B and A were.
    truth = effects["B"] + effects["F"]
    assert np.linalg.norm(forecast(process, query("B", "F")) - truth) < 0.35 * np.linalg.norm(truth)


def test_the_order_of_populations_makes_no_difference(build: Build) -> None:
    rng = np.random.default_rng(6)
    populations = build({name: rng.normal(size=(5, 7)) for name in ("A", "B", "A+B")}, rng.normal(size=(5, 2)))
    order = rng.permutation(len(populations))
    names = ("context", "batch", "dosage", "group", "shift", "n_control", "n_perturbed")
    shuffled = replace(
        populations,
        perturbation=[populations.perturbation[i] for i in order],
        **{name: getattr(populations, name)[order] for name in names},
    )
    asked = query("A", context="new")._replace(state=np.ones(2))
    np.testing.assert_allclose(forecast(ShiftProcess(shuffled), asked), forecast(ShiftProcess(populations), asked))


def test_dosages_close_to_each_other_share_more(build: Build) -> None:
    rng = np.random.default_rng(7)
    low, high = rng.normal(size=10), rng.normal(size=10)
    shifts = {"A@low": low[None], "A@high": high[None], "B@low": -low[None], "B@high": -high[None]}
    dosage = {"A@low": 0.1, "A@high": 100.0, "B@low": 0.1, "B@high": 100.0}
    process = ShiftProcess(build(shifts, ONE_CONTEXT, dosage=dosage))
    near_low = forecast(process, query("A")._replace(dosage=0.15))
    assert np.linalg.norm(near_low - low) < 0.2 * np.linalg.norm(low - high)


def test_no_more_than_a_thousand_populations_are_used_the_relevant_ones_first(build: Build) -> None:
    rng = np.random.default_rng(8)
    shifts = {f"P{i}": rng.normal(size=(2, 2)) for i in range(520)}
    process = ShiftProcess(build(shifts, rng.normal(size=(2, 2))))
    rows, weights = process.weights(query("P3", context="c1").conditions, np.arange(1040))
    assert rows.shape == (1000,)
    assert weights.shape == (2, 1000)
    p = process.populations
    used = set(rows.tolist())
    assert set(p.rows_of[("P3",)]) <= used
    assert set(np.flatnonzero(p.context == "c1")) <= used


def test_of_more_those_with_the_perturbation_come_before_those_of_the_context(build: Build) -> None:
    rng = np.random.default_rng(8)
    shifts = {f"P{i}": rng.normal(size=(2, 2)) for i in range(1010)}
    for i in range(9, 1010):
        shifts[f"P{i}"][i // 1005] = np.nan  # nearly all have the second context only
    process = ShiftProcess(build(shifts, rng.normal(size=(2, 2))))
    p = process.populations
    rows, _ = process.weights(query("P3", context="c1").conditions, np.arange(len(p)))
    assert len(rows) == 1000 < (p.context == "c1").sum()
    assert set(p.rows_of[("P3",)]) <= set(rows.tolist())
    others = np.setdiff1d(rows, p.rows_of[("P3",)])
    assert (p.context[others] == "c1").all()


def of_one_context(build: Build, shifts: dict[str, np.ndarray]) -> ShiftProcess:
    return ShiftProcess(build({name: shift[None] for name, shift in shifts.items()}, ONE_CONTEXT))


def test_few_combinations_are_taken_for_additive(build: Build) -> None:
    """A strong part that was never alone explains its combinations, not an interaction in each of them."""
    rng = np.random.default_rng(5)
    alone = {f"P{i}": 0.5 * rng.normal(size=50) for i in range(10)}
    strong = {f"S{i}": rng.normal(size=50) for i in range(4)}
    pairs = [("S0", "P0"), ("S1", "P1"), ("S2", "P2"), ("S3", "P3")]
    together = {f"{p}+{s}": strong[s] + alone[p] for s, p in pairs}
    process = of_one_context(build, alone | together)
    truth = strong["S0"] + alone["P5"]
    assert np.linalg.norm(forecast(process, query("P5", "S0")) - truth) < 0.1 * np.linalg.norm(truth)


def test_interactions_are_found_where_many_combinations_show_them(build: Build) -> None:
    rng = np.random.default_rng(6)
    alone = {f"P{i:02}": rng.normal(size=50) for i in range(20)}
    pairs = rng.permutation([(a, b) for a in alone for b in alone if a < b])[:60].tolist()
    together = {f"{a}+{b}": alone[a] + alone[b] + rng.normal(size=50) for a, b in pairs}
    process = of_one_context(build, alone | together)
    whole = process.kernel.perturbation_terms.index("whole")
    assert np.exp(process.log_variance[whole]) == pytest.approx(1.0, rel=0.25)


def test_of_many_populations_similar_subsets_have_their_own_covariance(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of up to 20 populations of 24, by a covariance that is computed anew for each."""
    monkeypatch.setattr("pertcast.anchor._process._MAX_USED", 20)
    rng = np.random.default_rng(2)
    populations = build({f"P{i}": rng.normal(size=(3, 6)) + 1 for i in range(8)}, rng.normal(size=(3, 2)))
    counts = rng.integers(20, 90, size=(2, 24))
    process = ShiftProcess(replace(populations, n_perturbed=counts[0], n_control=counts[1]))
    completed = 0
    for name, context in [("P0", "c0"), ("P5", "c0"), ("P5", "c1"), ("new", "c0"), ("P2", "c1")]:
        asked = query(name, context=context, n_control=50).conditions
        completed += context in process._factors._kept
        rows, weights = process.weights(asked, np.arange(24))
        assert len(rows) == 20
        used = process.conditions.take(rows)
        signal = process.kernel.covariance(asked, used, np.exp(process.log_variance))[0]
        noise = process.kernel.shared_controls(asked, used)[0]
        expected = np.linalg.solve(process._covariance(rows, rows), np.stack([signal, noise]).T).T
        np.testing.assert_allclose(weights, expected, atol=1e-8)
    assert completed == 3
