from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from pertcast.anchor import WEIGHTINGS, GeneCorrection, Populations, Weighting, gene_features, response, source_weights
from pertcast.anchor._choice import _mean_kept
from pertcast.anchor._correction import _gene_weights

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(0)
STATES, STATE, TRUST = RNG.normal(size=(6, 3)), RNG.normal(size=3), RNG.uniform(0.2, 1, size=6)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_sum_to_one(weighting: Weighting) -> None:
    weights = source_weights(STATES, STATE, TRUST, weighting)
    assert weights.sum() == pytest.approx(1)
    assert source_weights(STATES[:1], STATE, TRUST[:1], weighting).tolist() == [1.0]
    order = np.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(source_weights(STATES[order], STATE, TRUST[order], weighting), weights[order])
    np.testing.assert_allclose(source_weights(STATES * 7 + 1, STATE * 7 + 1, TRUST * 3, weighting), weights)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_equal_states_leave_the_trust(weighting: Weighting) -> None:
    weights = source_weights(np.tile(STATE, (6, 1)), STATE, TRUST, weighting)
    np.testing.assert_allclose(weights, TRUST / TRUST.sum())


@pytest.mark.parametrize("weighting", [w for w in WEIGHTINGS if w.kind == "ridge"])
def test_states_that_differ_by_rounding_leave_the_trust(weighting: Weighting) -> None:
    """The mean of equal states can differ from them in the last digit."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(2, 5))
        states, trust = np.tile(rng.normal(size=64), (n, 1)), rng.uniform(5, 50, size=n)
        weights = source_weights(states, states[0] + 1, trust, weighting)
        np.testing.assert_allclose(weights, trust / trust.sum())


def test_kernel_closed_form() -> None:
    states, trust = np.array([[1.0], [-2.0], [4.0]]), np.array([1.0, 0.5, 2.0])
    expected = trust * np.exp(-np.array([1, 2, 4]) / (0.3 * 2))
    found = source_weights(states, np.zeros(1), trust, Weighting("kernel", 0.3))
    np.testing.assert_allclose(found, expected / expected.sum())


def test_kernel_knows_no_other_sources_where_most_are_at_the_target() -> None:
    states, trust = np.array([[0.0], [0.0], [0.0], [5.0]]), np.array([1.0, 2.0, 3.0, 4.0])
    found = source_weights(states, np.zeros(1), trust, Weighting("kernel", 0.3))
    np.testing.assert_allclose(found, [1 / 6, 2 / 6, 3 / 6, 0])


@pytest.mark.parametrize("scale", [0.3, 10.0])
@pytest.mark.parametrize("trust", [np.ones(6), TRUST])
def test_ridge_weights_predict_as_ridge_regression_does(scale: float, trust: np.ndarray) -> None:
    shifts = RNG.normal(size=(6, 4))
    share = trust / trust.sum()
    spread = share @ np.square(STATES - share @ STATES).sum(1)
    model = Ridge(alpha=scale * spread).fit(STATES, shifts, sample_weight=trust / trust.mean())
    found = source_weights(STATES, STATE, trust, Weighting("ridge", scale)) @ shifts
    np.testing.assert_allclose(found, model.predict(STATE[None])[0])


def test_an_extrapolating_ridge_has_negative_weights() -> None:
    weights = source_weights(np.array([[0.0], [1.0]]), np.array([4.0]), np.ones(2), Weighting("ridge", 0.3))
    assert weights[0] < 0 < 1 < weights[1]


def test_response_adds_increases_and_scales_decreases() -> None:
    weights = np.array([0.75, 0.25])
    sources = np.array([[4.0, 2.0, 1.0], [8.0, 2.0, 1.0]])
    shifts = np.array([[-2.0, 1.0, 0.0], [-6.0, 3.0, -1.0]])
    control = np.array([10.0, 7.0, 0.0])
    linear = response(weights, control, sources, shifts, nonnegative=False)
    np.testing.assert_allclose(linear, [-3, 1.5, -0.25])
    share = response(weights, control, sources, shifts, nonnegative=True)
    reach = 5.001 + (10 - 5.001) * 5.001**2 / (5.001**2 + 0.1**2)
    np.testing.assert_allclose(share, [-reach * 3 / 5.001, 1.5, 0])


def test_a_lost_gene_is_lost_and_no_more() -> None:
    control, sources = np.array([3.0]), np.array([[2.0]])
    lost = response(np.ones(1), control, sources, -sources, nonnegative=True)
    np.testing.assert_allclose(lost, -3, rtol=2e-3)
    assert -3 <= response(np.ones(1), control, sources, -9 * sources, nonnegative=True) < -2.99


def test_an_extrapolated_decrease_starts_at_zero() -> None:
    weights, level = np.array([2.0, -1.0]), np.array([3.0])
    for change in (-2.001, -1.999, -1.9):
        found = response(weights, level, np.full((2, 1), 3.0), np.array([[-1.0], [change]]), nonnegative=True)
        np.testing.assert_allclose(found, -2 - change, rtol=1e-3)


def test_gene_features_by_hand(build: Callable[..., Populations]) -> None:
    populations = build({"A": RNG.normal(size=(3, 5))}, RNG.normal(size=(3, 2)), control_mean=RNG.uniform(size=(3, 5)))
    control, state = RNG.uniform(size=5), RNG.normal(size=2)
    found = gene_features(populations, np.array([0, 2]), state, control)
    before, shift = populations.control_mean[[0, 2]], populations.shift[[0, 2]]
    assert found.shape == (5, 12)
    expected = [control, shift.mean(0), before.mean(0), (before + shift).mean(0), shift.std(0)]
    np.testing.assert_allclose(found[:, :5], np.stack(expected, 1))
    views: list[Any] = [(5, Weighting("kernel", 0.3)), (9, Weighting("ridge", 1.0))]
    for column, view in views:
        weights = source_weights(populations.state[[0, 2]], state, np.ones(2), view)
        np.testing.assert_allclose(found[:, column], weights @ shift)


def test_a_correction_learns_a_rule_that_genes_share() -> None:
    features = [RNG.normal(size=(300, 2)) for _ in range(3)]
    rule = [np.where(x[:, 0] > 0, 1.0, -0.5) for x in features]
    fit = GeneCorrection().fit(features, rule, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(fit.predict(np.array([[1.0, 0.0], [-1.0, 0.0]])), [1.0, -0.5], atol=0.02)
    ignored = GeneCorrection().fit(features, [rule[0], rule[1], 9 * rule[2]], [1.0, 1.0, 0.0])
    np.testing.assert_allclose(ignored.predict(np.array([[1.0, 0.0]])), [1.0], atol=0.02)


@pytest.mark.parametrize("max_rows", [200_000, 300])
def test_corrections_do_not_depend_on_the_order_of_genes_and_populations(
    monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    monkeypatch.setattr("pertcast.anchor._correction._MAX_ROWS", max_rows)
    features = RNG.normal(size=(6, 150, 3))
    residuals, weights = features[:, :, 0] * features[:, :, 1] + RNG.normal(size=(6, 150)), RNG.uniform(1, 9, size=6)
    genes, populations = RNG.permutation(150), RNG.permutation(6)
    asked = RNG.normal(size=(50, 3))
    found = GeneCorrection().fit(list(features), list(residuals), list(weights)).predict(asked)
    features, residuals = features[populations][:, genes], residuals[populations][:, genes]
    moved = GeneCorrection().fit(list(features), list(residuals), list(1e-6 * weights[populations])).predict(asked)
    np.testing.assert_allclose(moved, found, rtol=1e-9)
    assert found.std() > 0.1


def test_populations_count_by_their_weights() -> None:
    """Opposite rules of weights 3 and 1 leave (3 - 1) / 4 of the first one."""
    features = [RNG.integers(0, 4, size=(20_000, 2)).astype(float) for _ in range(2)]
    residuals = [RNG.normal(size=20_000) + x[:, 0] * factor for x, factor in zip(features, (1, -1), strict=True)]
    asked = np.array([[a, b] for a in range(4) for b in range(4)], dtype=float)
    found = GeneCorrection().fit(features, residuals, [3.0, 1.0]).predict(asked)
    np.testing.assert_allclose(found.reshape(4, 4).mean(1), [0, 0.5, 1, 1.5], atol=0.1)


def test_genes_count_by_how_little_their_shifts_vary_in_the_other_populations() -> None:
    """Weighted means of squares of the others, halfway to the mean of all; the row's own residual plays no part."""
    residuals, weights = np.array([[1.0, 2.0], [3.0, 0.0], [9.0, 1.0]]), np.array([[1.0], [2.0], [1.0]])
    variance = np.array([[(18 + 81) / 3, 1 / 3], [(1 + 81) / 2, 5 / 2], [(1 + 18) / 3, 4 / 3]])
    expected = weights / np.sqrt(variance + variance.mean())
    np.testing.assert_allclose(_gene_weights(residuals, weights), expected / expected.mean())
    np.testing.assert_array_equal(_gene_weights(residuals[:1], weights[:1]), [[1.0, 1.0]])
    np.testing.assert_array_equal(_gene_weights(0 * residuals, weights).T, [[0.75, 1.5, 0.75]] * 2)


def test_corrections_keep_the_share_of_their_mean_that_left_out_populations_speak_for() -> None:
    """The least squares of (r - c + (1 - k) m) in k, by hand: a third of the mean is right, and none or all at most."""
    features = [RNG.normal(size=(300, 2)) for _ in range(3)]
    whole = GeneCorrection().fit(features, [1 + x[:, 0] for x in features], [1.0] * 3).predict(features[0])
    part = GeneCorrection(0.25).fit(features, [1 + x[:, 0] for x in features], [1.0] * 3).predict(features[0])
    np.testing.assert_allclose(part, whole - 0.75 * whole.mean())
    means, trust = np.array([[1.0], [2.0], [-3.0]]), np.array([[0.5], [1.0], [0.25]])
    spread = RNG.normal(size=(3, 50))
    spread -= spread.mean(axis=1, keepdims=True)
    assert _mean_kept(means, means / 3 + spread, trust) == pytest.approx(1 / 3)
    assert _mean_kept(means, -means + spread, trust) == 0
    assert _mean_kept(means, 2 * means + spread, trust) == 1
    assert _mean_kept(0 * means, spread, trust) == 1
    noisy = RNG.normal(size=(3, 50)) + means / 2
    errors = [(trust * np.square(noisy - spread - k * means)).sum() for k in np.linspace(0, 1, 1001)]
    assert _mean_kept(means, noisy, trust) == pytest.approx(np.argmin(errors) / 1000, abs=1e-3)


def test_of_many_rows_every_second_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in the first feature have opposite residuals."""
    monkeypatch.setattr("pertcast.anchor._correction._MAX_ROWS", 500)
    x = np.arange(1000.0)[:, None]
    found = GeneCorrection().fit([x], [np.where(np.arange(1000) % 2, 1.0, -1.0)], [1.0]).predict(x)
    np.testing.assert_allclose(found, 1, atol=0.01)


def test_trust_grows_with_both_numbers_of_cells(build: Callable[..., Populations]) -> None:
    populations = build({"A": np.ones((2, 3))}, np.zeros((2, 1)), n_cells=20)
    np.testing.assert_allclose(populations.weight, 0.25)
    assert build({"A": np.ones((2, 3))}, np.zeros((2, 1))).weight.min() > 0.999


def test_populations_are_checked(build: Callable[..., Populations]) -> None:
    good = build({"A": np.ones((2, 3)), "A+B": np.ones((2, 3))}, np.zeros((2, 1)))
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    assert {k: v.tolist() for k, v in good.rows_of.items()} == {("A",): [0, 1], ("A", "B"): [2, 3]}
    with pytest.raises(ValueError, match=r"4 populations.*'shift': 3"):
        Populations(**{**fields, "shift": good.shift[:3]})
    with pytest.raises(ValueError, match="2 control means, but 1 states"):
        Populations(**{**fields, "state": good.state[:1]})
    with pytest.raises(ValueError, match="not finite"):
        Populations(**{**fields, "shift": np.full((4, 3), np.nan)})
    with pytest.raises(ValueError, match="A state of the controls is not finite"):
        Populations(**{**fields, "state": good.state + np.nan})
    with pytest.raises(ValueError, match=r"fewest are .*'n_perturbed': 0"):
        Populations(**{**fields, "n_perturbed": np.array([4, 0, 4, 4])})
