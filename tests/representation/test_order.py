from __future__ import annotations

import numpy as np
import pytest

from pertcast.representation._order import ascending, descending_of_groups, race


def test_ascending_is_argsort_of_distinct_values() -> None:
    cells = np.random.default_rng(0).uniform(0, 5, (7, 33)).astype(np.float32)
    np.testing.assert_array_equal(ascending(cells, np.random.default_rng(1)), np.argsort(cells, axis=1))


def test_equal_cells_come_in_any_order() -> None:
    last = ascending(np.zeros((6000, 3), dtype=np.float32), np.random.default_rng(0))[:, -1]
    np.testing.assert_allclose(np.bincount(last) / 6000, 1 / 3, atol=5 * np.sqrt(2 / 9 / 6000))


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e6])
def test_draws_follow_the_weights_one_after_the_other(unit: float) -> None:
    """First x_i / sum(x); second, after i, x_j / (sum(x) - x_i)."""
    x, n = np.array([1.0, 2.0, 5.0]), 40_000
    cells = np.tile((unit * x).astype(np.float32), (n, 1))
    keys = race(cells, np.full(n, 10 * unit, dtype=np.float32), np.random.default_rng(0))
    order = np.argsort(keys, axis=1)[:, ::-1]
    for first in range(3):
        drawn = order[:, 0] == first
        np.testing.assert_allclose(drawn.mean(), x[first] / x.sum(), atol=5 * 0.5 / np.sqrt(n))
        for second in set(range(3)) - {first}:
            expected = x[second] / (x.sum() - x[first])
            found = (order[drawn, 1] == second).mean()
            np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(drawn.sum()))


def test_certain_cells_come_first_in_their_order_and_zeros_last() -> None:
    cells = np.tile(np.array([0.0, 3.0, 0.9, 1.0, 2.0, 0.0, 1e-9], dtype=np.float32), (500, 1))
    keys = race(cells, np.ones(500, dtype=np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(keys[:, [1, 3, 4]], cells[:, [1, 3, 4]])
    assert (keys[:, [0, 5]] == 0).all()
    assert (keys[:, [2, 6]] > 0).all()
    assert (keys[:, [2, 6]] <= 1).all()
    assert np.isfinite(keys).all()


def test_groups_are_sorted_each_for_itself_and_ties_stay() -> None:
    rng = np.random.default_rng(0)
    values, group = rng.integers(0, 4, 200).astype(np.float32), np.sort(rng.integers(0, 5, 200))
    values[:3] = [0.0, -0.0, 0.0]
    np.testing.assert_array_equal(descending_of_groups(values, group), np.lexsort((np.arange(200), -values, group)))
