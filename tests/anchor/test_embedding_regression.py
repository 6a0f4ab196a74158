from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from pertcast.anchor import EmbeddingRegression

RIDGES = [0.03, 0.3, 3.0, 10.0, np.inf]


def data(n: int = 12, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 4)) + 2
    return vectors, vectors @ rng.normal(size=(4, 6)) + 5 + noise * rng.normal(size=(n, 6))


@pytest.mark.parametrize("ridge", RIDGES)
def test_left_out_forecasts_equal_refitting(ridge: float) -> None:
    vectors, shifts = data()
    regression = EmbeddingRegression(vectors, shifts)
    regression.ridge = ridge
    expected = []
    for row in range(len(vectors)):
        rest = np.arange(len(vectors)) != row
        if np.isinf(ridge):
            expected.append(shifts[rest].mean(0))
        else:
            refit = Ridge(alpha=ridge * regression.scale).fit(vectors[rest], shifts[rest])
            expected.append(refit.predict(vectors[[row]])[0])
    np.testing.assert_allclose(regression.left_out, expected, rtol=1e-8)


@pytest.mark.parametrize("ridge", RIDGES[:-1])
def test_prediction_equals_kernel_ridge_on_centred_data(ridge: float) -> None:
    vectors, shifts = data()
    regression = EmbeddingRegression(vectors, shifts)
    regression.ridge = ridge
    centred = vectors - vectors.mean(0)
    penalty = ridge * np.square(centred).sum() / len(vectors)
    model = KernelRidge(alpha=penalty).fit(centred, shifts - shifts.mean(0))
    new = np.array([1.0, -2.0, 0.5, 3.0])
    expected = shifts.mean(0) + model.predict((new - vectors.mean(0))[None])[0]
    np.testing.assert_allclose(regression.predict(new), expected)


def test_the_ridge_is_the_one_with_the_smallest_error_left_out() -> None:
    vectors, shifts = data(noise=3.0)
    regression = EmbeddingRegression(vectors, shifts)
    best = np.square(regression.left_out - shifts).sum()
    for ridge in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf):
        other = EmbeddingRegression(vectors, shifts)
        other.ridge = ridge
        assert best <= np.square(other.left_out - shifts).sum() * (1 + 1e-9)


def test_informative_vectors_are_used_and_useless_ones_are_not() -> None:
    vectors, shifts = data(noise=0.01)
    assert EmbeddingRegression(vectors, shifts).ridge == 0.03
    noise = np.random.default_rng(1).normal(size=(12, 40))
    regression = EmbeddingRegression(vectors, noise)
    assert regression.ridge >= 10
    constant = EmbeddingRegression(np.ones((12, 4)), shifts)
    np.testing.assert_allclose(constant.predict(np.zeros(4)), shifts.mean(0))


def test_very_few_perturbations_give_their_mean() -> None:
    vectors, shifts = data(2)
    two = EmbeddingRegression(vectors, shifts)
    np.testing.assert_allclose(two.predict(vectors[0]), shifts.mean(0))
    np.testing.assert_allclose(two.left_out, shifts[::-1])
