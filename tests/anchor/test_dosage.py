"""Similarities of dosages, and what the process makes of dose-response curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.integrate import quad

from pertcast.anchor import AnchorQuery, Populations, ShiftProcess
from pertcast.anchor._dosage import DosageKernel

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = (0.1, 1.0, 10.0, 100.0)


def test_similarity_of_curves_is_the_mean_over_half_maximal_dosages() -> None:
    kernel = DosageKernel(np.array(LEVELS))

    def mean(a: float, b: float) -> float:
        """Mean of the product of two Hill curves over c, log-uniform over the dosages of training."""
        low, high = np.log(0.1), np.log(100.0)
        return quad(lambda c: a / (a + np.exp(c)) * b / (b + np.exp(c)), low, high)[0] / (high - low)

    for a, b in [(0.1, 0.1), (0.3, 10.0), (1.0, 1.0), (5.0, 50.0)]:
        found = kernel.of_curves(np.array([a]), np.array([b]))[0, 0]
        assert found == pytest.approx(mean(a, b) / mean(100.0, 100.0), rel=0.05)  # eight curves stand for all


def test_no_dosage_has_no_response_and_that_of_the_largest_goes_on_to_the_plateau() -> None:
    kernel = DosageKernel(np.array(LEVELS))
    found = kernel.of_curves(np.array([0.0, 100.0, 1e9]), np.array([10.0, 100.0]))
    np.testing.assert_allclose(found[0], 0)
    assert found[1, 1] == pytest.approx(1)
    low, high = np.log(0.1), np.log(100.0)
    at_top = [quad(lambda c, k=k: (100 / (100 + np.exp(c))) ** k, low, high)[0] / (high - low) for k in (1, 2)]
    assert found[2, 1] == pytest.approx(at_top[0] / at_top[1], rel=0.05)


def test_similarities_are_covariances_and_near_falls_by_distance() -> None:
    kernel, grid = DosageKernel(np.array(LEVELS)), np.geomspace(0.01, 1000, 30)
    for similarity in (kernel.near, kernel.of_curves):
        matrix = similarity(grid, grid)
        np.testing.assert_allclose(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > -1e-9
    # Logarithms of 0.05 more: log(1.05 / 0.15)
    assert kernel.near(np.array([1.0]), np.array([0.1]))[0, 0] == pytest.approx(np.exp(-0.5 * np.log(7.0) ** 2))
    assert kernel.distance(np.array([0.001]), np.array([0.1]))[0, 0] == 0  # beyond the dosages of training


def test_one_dosage_changes_nothing() -> None:
    kernel = DosageKernel(np.full(3, 2.0))
    assert not kernel.several
    np.testing.assert_array_equal(kernel.near(np.array([2.0, 9.0]), np.array([2.0])), np.ones((2, 1)))
    np.testing.assert_array_equal(kernel.of_curves(np.array([2.0, 9.0]), np.array([2.0])), np.ones((2, 1)))


@pytest.fixture(scope="module")
def of_curves(build: Callable[..., Populations]) -> tuple[ShiftProcess, np.ndarray]:
    """Process on six drugs with curves of their own at four dosages, and their shifts at the plateau."""
    rng = np.random.default_rng(0)
    plateau = 3 * rng.normal(size=(6, 20))
    half = np.geomspace(0.5, 20, 6)
    shifts, dosage = {}, {}
    for drug in range(6):
        for level in LEVELS:
            if (drug, level) != (3, 10.0):
                shifts[f"D{drug}@{level}"] = (level / (level + half[drug]) * plateau[drug])[None]
                dosage[f"D{drug}@{level}"] = level
    process = ShiftProcess(build(shifts, np.zeros((1, 2)), dosage=dosage, n_cells=1000))
    return process, 10.0 / (10.0 + half[3]) * plateau[3]


def at(process: ShiftProcess, dosage: float) -> np.ndarray:
    asked = AnchorQuery(("D3",), dosage, np.zeros(1), np.zeros(2), "c0", "batch", 1000)
    rows, weights = process.weights(asked.conditions, np.arange(len(process.populations)))
    return weights.sum(0) @ process.populations.shift[rows]


def test_a_dosage_between_measured_ones_is_interpolated(of_curves: tuple[ShiftProcess, np.ndarray]) -> None:
    process, truth = of_curves
    error = np.linalg.norm(at(process, 10.0) - truth) / np.linalg.norm(truth)
    nearest = [row for row in process.populations.rows_of[("D3",)] if process.populations.dosage[row] == 100.0]
    of_nearest = np.linalg.norm(process.populations.shift[nearest[0]] - truth) / np.linalg.norm(truth)
    assert error < 0.5 * of_nearest


def test_the_response_grows_with_the_dosage_from_nothing(of_curves: tuple[ShiftProcess, np.ndarray]) -> None:
    process, truth = of_curves
    along = [float(at(process, dosage) @ truth / (truth @ truth)) for dosage in (0.001, 0.1, 1.0, 10.0, 100.0, 1e4)]
    assert abs(along[0]) < 0.1
    assert (np.diff(along) > 0).all()
    assert along[5] < 1.3 * along[4]  # which is near the plateau
