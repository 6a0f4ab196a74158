"""Cholesky factors of subsets, against those of covariances that are computed anew."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
from scipy.linalg import cho_factor

from pertcast.anchor._factors import CovarianceFactors

N = 60


def covariance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.exp(-np.abs(points[a][:, None] - points[b])) + 0.1 * (a[:, None] == b)


@pytest.fixture
def asked() -> list[int]:
    """Numbers of covariances that were computed."""
    return []


@pytest.fixture
def factors(asked: list[int]) -> CovarianceFactors:
    points = np.random.default_rng(0).normal(size=N)

    def counted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append(len(a) * len(b))
        return covariance(points, a, b)

    return CovarianceFactors(counted)


def test_kept_covariances_are_used_where_there_are_too_many_in_turn(
    factors: CovarianceFactors, asked: list[int]
) -> None:
    """Of 20 contexts in turn at most 16 are kept. If the oldest had to go it would always be the next one."""
    for _ in range(30):
        for number in range(20):
            factors.of(np.arange(number, 30 + number), like=str(number))
    assert len(asked) < 0.6 * 600


def test_more_are_kept_where_there_is_room(asked: list[int]) -> None:
    def unit(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append(len(a))
        return 1.0 * (a[:, None] == b)

    factors = CovarianceFactors(unit, n_kept=20)
    for _ in range(3):
        for number in range(20):
            factors.of(np.arange(number, 30 + number), like=str(number))
    assert len(asked) == 20


def test_any_sequence_of_subsets_has_the_factors_of_its_covariances(factors: CovarianceFactors) -> None:
    points, rng = np.random.default_rng(0).normal(size=N), np.random.default_rng(1)
    for _ in range(100):
        rows = np.sort(rng.choice(N, rng.integers(1, N + 1), replace=False))
        factor, lower = factors.of(rows, like=str(rng.choice(["B cells", "T cells"])))
        expected, _ = cho_factor(covariance(points, rows, rows))
        assert not lower
        np.testing.assert_allclose(np.triu(factor), np.triu(expected), atol=1e-12)


def test_only_what_is_new_is_computed(factors: CovarianceFactors, asked: list[int]) -> None:
    factors.of(np.arange(40), like="B cells")
    factors.of(np.arange(3, 45), like="B cells")  # 5 new ones
    factors.of(np.arange(3, 45), like="B cells")
    factors.of(np.arange(10), like="B cells")
    factors.of(np.arange(40), like="T cells")
    assert asked == [40 * 40, 5 * 42, 40 * 40]


def test_no_more_than_16_are_kept_and_none_in_files(factors: CovarianceFactors, asked: list[int]) -> None:
    for number in range(20):
        factors.of(np.arange(number, 30 + number), like=str(number))
    assert len(factors._kept) == 16
    factors.of(np.arange(19, 48), like="19")  # the last one is among them
    assert len(asked) == 20
    points = np.random.default_rng(0).normal(size=1000)
    kept = CovarianceFactors(partial(covariance, points))
    kept.of(np.arange(1000), like="")
    text = pickle.dumps(kept)
    assert len(text) < 10_000
    rows = np.arange(500)
    np.testing.assert_array_equal(pickle.loads(text).of(rows, like="")[0], kept.of(rows, like="")[0])
