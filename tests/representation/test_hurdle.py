from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from pertcast.representation import Hurdle

N_GENES = 60


def rates(rng: np.random.Generator) -> np.ndarray:
    """Expected counts of each gene in a cell of mean depth: rare genes and a few abundant ones."""
    return np.exp(rng.uniform(np.log(0.02), np.log(3), N_GENES))


def draw(rng: np.random.Generator, rate: np.ndarray, n: int) -> np.ndarray:
    """Log-normalised Poisson counts of cells of unequal depth."""
    depth = rng.lognormal(0, 0.3, (n, 1))
    return np.log1p(4 * rng.poisson(rate * depth) / depth).astype(np.float32)


@pytest.fixture
def control() -> np.ndarray:
    rng = np.random.default_rng(0)
    return draw(rng, rates(rng), 3000)


def test_controls_keep_their_shares_and_values(control: np.ndarray) -> None:
    found = Hurdle(control).apply(control, np.random.default_rng(1))
    np.testing.assert_allclose((found > 0).mean(0), (control > 0).mean(0), atol=1.01 / len(control))
    np.testing.assert_allclose(found.mean(0), control.mean(0), rtol=1e-4)
    for gene in range(N_GENES):
        assert wasserstein_distance(found[:, gene], control[:, gene]) < 0.02


def test_a_known_change_of_rates_is_recovered(control: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    rate, factor = rates(rng), np.exp(np.random.default_rng(2).normal(0, 0.7, N_GENES))
    real = draw(np.random.default_rng(3), rate * factor, 3000)
    moved = np.maximum(control + real.mean(0) - control.mean(0), 0)
    found = Hurdle(control).apply(moved, np.random.default_rng(4), mean=real.mean(0))
    np.testing.assert_allclose((found > 0).mean(0), (real > 0).mean(0), atol=0.05)

    def distance(cells: np.ndarray) -> float:
        return float(np.mean([wasserstein_distance(cells[:, g], real[:, g]) for g in range(N_GENES)]))

    assert distance(found) < 0.25 * distance(moved)


def test_means_are_kept_and_cells_with_typical_values_come_first(control: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    moved = (control[:500] + rng.uniform(0, 0.5, N_GENES)).astype(np.float32)
    hurdle = Hurdle(control)
    found = hurdle.apply(moved, rng)
    np.testing.assert_allclose(found.mean(0), moved.mean(0), rtol=0.05, atol=0.01)
    n_checked = 0
    for gene in np.flatnonzero(hurdle.has_zeros):
        on = found[:, gene] > 0
        typical = moved[:, gene] >= control[control[:, gene] > 0, gene].mean() + 1e-5
        if on.any() and not on.all():
            assert on[typical].all() or typical[on].all()
            n_checked += typical.any()
        order = np.argsort(moved[on, gene])
        steps = np.diff(found[on, gene][order])
        assert (steps[np.diff(moved[on, gene][order]) > 0] >= 0).all()
    assert n_checked > N_GENES / 2


def test_what_small_shifts_have_in_common_correlates_genes_as_chance_does() -> None:
    """Values u of 0 to 2 p, on average p: draws correlate with p / 3 (1 - p), ranks would with nearly 1."""
    n, n_genes, share = 3000, 30, 0.2
    control = (np.random.default_rng(0).random((n, n_genes)) < share).astype(np.float32)
    common = np.linspace(0, 2 * share, n, dtype=np.float32)[:, None]
    moved = common + np.random.default_rng(1).uniform(0, 1e-5, (n, n_genes)).astype(np.float32)
    hurdle = Hurdle(control)
    found = hurdle.apply(moved, np.random.default_rng(2), np.full(n_genes, share))
    np.testing.assert_allclose((found > 0).mean(0), hurdle.expressing(np.full(n_genes, share)), atol=1 / n)
    correlation = np.corrcoef(found.T)[~np.eye(n_genes, dtype=bool)]
    assert abs(correlation.mean() - share / 3 / (1 - share)) < 0.02
    thirds = (found > 0).reshape(3, -1, n_genes).mean((1, 2))
    np.testing.assert_allclose(thirds, share * np.array([1, 3, 5]) / 3, rtol=0.1)


def test_expressing_share_rises_with_the_mean_and_is_0_at_0(control: np.ndarray) -> None:
    hurdle = Hurdle(control)
    shares = np.stack([hurdle.expressing(control.mean(0) * factor) for factor in (0, 0.2, 1, 2, 50)])
    assert (np.diff(shares, axis=0) >= 0).all()
    assert (shares[0] == 0).all()
    np.testing.assert_allclose(shares[2][hurdle.has_zeros], (control > 0).mean(0)[hurdle.has_zeros], atol=1e-5)


def test_silent_genes_stay_silent_and_dense_ones_as_they_are() -> None:
    rng = np.random.default_rng(6)
    control = np.c_[np.zeros(200), rng.uniform(1, 2, 200), np.log1p(rng.poisson(0.3, 200))].astype(np.float32)
    moved = control + np.array([0, 0.3, 0.2], dtype=np.float32)
    found = Hurdle(control).apply(moved, rng)
    assert not found[:, 0].any()
    np.testing.assert_array_equal(found[:, 1], moved[:, 1])
    assert (found[:, 2] == 0).any()


def test_one_cell_keeps_what_it_expresses_and_seeds_repeat(control: np.ndarray) -> None:
    hurdle = Hurdle(control)
    found = hurdle.apply(control[:1], np.random.default_rng(7))
    np.testing.assert_array_equal(found > 0, control[:1] > 0)
    np.testing.assert_allclose(found, control[:1], rtol=1e-5)
    np.testing.assert_array_equal(
        hurdle.apply(control[:50] / 2, np.random.default_rng(7)),
        hurdle.apply(control[:50] / 2, np.random.default_rng(7)),
    )


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.5])
@pytest.mark.parametrize("n", [1, 20, 200])
def test_means_of_few_cells_are_right_on_average(control: np.ndarray, factor: float, n: int) -> None:
    """Each gene, however rare: the mean over draws is within five standard errors of what was asked for."""
    hurdle, mean = Hurdle(control), factor * control.mean(0, dtype=np.float64)
    draws = np.stack([hurdle.apply(control[:n], np.random.default_rng(i), mean).mean(0) for i in range(400)])
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - mean) <= 5 * error + 1e-4 * mean).all()


def test_controls_without_any_zero_or_any_value() -> None:
    rng = np.random.default_rng(0)
    dense = rng.uniform(1, 2, (50, 3)).astype(np.float32)
    np.testing.assert_array_equal(Hurdle(dense).apply(dense, rng), dense)
    silent = np.zeros((50, 3), dtype=np.float32)
    np.testing.assert_array_equal(Hurdle(silent).apply(silent + 0.1, rng), silent + np.float32(0.1))


def test_negative_expression_is_refused(control: np.ndarray) -> None:
    below = control.copy()
    below[3, 5] = -0.25
    with pytest.raises(ValueError, match="`control` must hold no values below 0, but found -0.25"):
        Hurdle(below)
    with pytest.raises(ValueError, match=r"`cells` must hold no values below 0, but found -0.25.*np\.maximum"):
        Hurdle(control).apply(below, np.random.default_rng(8))
    with pytest.raises(ValueError, match="`cells` must hold no values below 0"):
        Hurdle(np.zeros_like(control)).apply(below, np.random.default_rng(8))


def test_no_controls_are_refused(control: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`control` holds no cells"):
        Hurdle(control[:0])


def test_quantiles_in_the_middle_of_each_cell_are_the_measured_values(control: np.ndarray) -> None:
    hurdle = Hurdle(control)
    gene = int(np.argmax((control > 0).sum(0)))
    values = np.sort(control[control[:, gene] > 0, gene])[::-1]
    middles = (np.arange(len(values)) + 0.5) / len(values)
    np.testing.assert_allclose(hurdle._quantiles(middles, np.full(len(values), gene)), values, rtol=1e-5)


def test_cells_that_are_alike_express_a_gene_at_random(control: np.ndarray) -> None:
    n = 400
    same = np.tile(control.mean(0), (n, 1)).astype(np.float32)
    found = Hurdle(control).apply(same, np.random.default_rng(0)) > 0
    position = np.arange(n) / (n - 1) - 0.5
    of_expressing = found.T @ position / found.sum(0)
    assert np.abs(of_expressing).mean() < 0.1  # 0.25 and more if the first or the last ones did
    assert np.abs(np.corrcoef(found[:, found.std(0) > 0].T) - np.eye((found.std(0) > 0).sum())).mean() < 0.1


def test_what_is_special_of_a_gene_is_forgotten_as_its_mean_moves_away(control: np.ndarray) -> None:
    n = len(control)
    wide, narrow = np.zeros((2, n), dtype=np.float32)
    wide[: n // 10], narrow[: n // 5] = 2.0, 1.0  # the same mean, one of half as many cells
    hurdle = Hurdle(np.column_stack([control, wide, narrow]))

    def apart(factor: float) -> float:
        means = np.append(control.mean(0), [0.2 * factor, 0.2 * factor])
        first, second = hurdle.expressing(means)[-2:]
        return float(np.log(-np.log1p(-second)) - np.log(-np.log1p(-first)))

    at_home = np.log(np.log(0.8) / np.log(0.9))
    for factor in (1.0, 1.5, 3.0, 1 / 3):
        np.testing.assert_allclose(apart(factor), at_home * np.exp(-abs(np.log(factor))), rtol=1e-5)


def test_genes_with_more_cells_that_tell_of_their_share_count_more_in_the_curve() -> None:
    """A falling pair becomes its weighted mean (Ayer et al. 1955); the weights are roots of the variance of a count."""
    n = 1000
    control = np.zeros((n, 2), dtype=np.float32)
    control[: n // 2, 0], control[: n // 10, 1] = 0.2, 2.0  # the higher mean, 0.2 against 0.1, of fewer cells
    weight = np.sqrt(n * np.array([0.25, 0.09]) + 1)
    own = np.log(-np.log1p(-np.array([0.5, 0.1])))
    curve = Hurdle(control)._curve
    np.testing.assert_allclose(curve(np.log([0.1, 0.15, 0.2])), weight @ own / weight.sum(), rtol=1e-6)
    np.testing.assert_allclose(curve(np.log([0.05]))[0] - curve(np.log([0.1]))[0], np.log(0.5), rtol=1e-6)


def test_genes_of_few_cells_share_the_values_of_rare_genes() -> None:
    control = np.zeros((100, 6), dtype=np.float32)
    control[:4, 0], control[:4, 1], control[:8, 2], control[:60, 3:] = 2.0, 3.0, 9.0, 7.0
    cells = np.tile(control.mean(0), (1000, 1)).astype(np.float32)
    values = Hurdle(control).apply(cells, np.random.default_rng(0))[:, 0]
    values = values[values > 0]
    np.testing.assert_allclose(values.max() / values.min(), 1.5, rtol=1e-3)  # 2 to 3, times what gives the mean


def test_genes_of_most_cells_vary_at_most_half_as_much_again_as_in_the_controls() -> None:
    rng = np.random.default_rng(0)
    control = rng.normal(5, [0.2, 0.2, 0.2], (200, 3)).astype(np.float32)
    moved = (control.mean(0) + (control - control.mean(0)) * [0.5, 1.4, 4.0]).astype(np.float32)
    found = Hurdle(control).apply(moved, rng)
    np.testing.assert_array_equal(found[:, :2], moved[:, :2])
    np.testing.assert_allclose(found[:, 2].std(), 1.5 * control[:, 2].std(), rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(found[:, 2], moved[:, 2])[0, 1], 1, atol=1e-5)
    shifted = Hurdle(control).apply(moved, rng, mean=np.array([4.0, 5.0, 6.0]))
    np.testing.assert_allclose(shifted.mean(0), [4, 5, 6], rtol=1e-5)
    np.testing.assert_allclose(shifted[:, 2].std(), 1.5 * control[:, 2].std() * 6 / found[:, 2].mean(), rtol=1e-4)
    np.testing.assert_array_equal(Hurdle(control[:9]).apply(moved, rng), moved)  # too few controls to tell
