from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import mean_absolute_error as sklearn_mae
from sklearn.metrics import mean_squared_error as sklearn_mse

from pertcast.tl._mean_error import mean_absolute_error, mean_squared_error

METRICS = [(mean_squared_error, sklearn_mse), (mean_absolute_error, sklearn_mae)]


@pytest.mark.parametrize(("metric", "expected"), METRICS)
def test_agrees_with_sklearn(metric, expected) -> None:
    rng = np.random.default_rng(0)
    predicted, real = rng.poisson(1, (20, 9)), rng.poisson(2, (30, 9))
    number = expected(real.mean(0), predicted.mean(0))
    assert metric(predicted, real) == pytest.approx(number, abs=1e-12)
    assert metric(sp.csr_matrix(predicted), sp.csc_array(real)) == pytest.approx(number, abs=1e-12)
    assert metric(real[::-1], real) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("metric", "expected"), METRICS)
def test_top_genes_are_those_of_the_measured_shift(metric, expected) -> None:
    control, real = np.ones((2, 4)), np.array([[1.0, 6, -3, 1.5]])
    predicted = np.array([[99.0, 5, 0, 99]])
    assert metric(predicted, real, control, n_top=2) == pytest.approx(expected([6, -3], [5, 0]))
    assert metric(predicted, real, control, n_top=20) == pytest.approx(metric(predicted, real))
    assert metric(predicted, real, control) == pytest.approx(metric(predicted, real))


@pytest.mark.parametrize("metric", [mean_squared_error, mean_absolute_error])
def test_errors(metric) -> None:
    real = np.ones((2, 4))
    with pytest.raises(ValueError, match="`n_top` needs `reference`"):
        metric(real, real, n_top=2)
    with pytest.raises(ValueError, match="`n_top` must be at least 1"):
        metric(real, real, real, n_top=0)
    with pytest.raises(ValueError, match="`predicted` and `real` must hold the same genes"):
        metric(real[:, :2], real)
