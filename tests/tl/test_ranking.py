from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pertcast.tl._ranking import centroid_accuracy, discrimination_score, rank_of_right, rank_score
from pertcast.tl._undefined import UndefinedMetric

DISTANCES: dict[str, Any] = {
    "l1": lambda x, y: np.abs(x - y).sum(),
    "l2": lambda x, y: np.sqrt(((x - y) ** 2).sum()),
    "cosine": lambda x, y: 1 - x @ y / np.sqrt((x @ x) * (y @ y)),
}
P, G = 7, 5


@pytest.fixture
def means() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(P, G))
    return real + rng.normal(size=(P, G)), real, rng.normal(size=(11, G))


def nearer(distances: list[float], right: int) -> int:
    return sum(distance < distances[right] for distance in distances)


def test_centroid_accuracy_counts_farther_centroids(means: tuple[np.ndarray, ...]) -> None:
    predicted, real, _ = means
    expected = [
        np.mean(
            [
                DISTANCES["l2"](predicted[p], real[q]) > DISTANCES["l2"](predicted[p], real[p])
                for q in range(P)
                if q != p
            ]
        )
        for p in range(P)
    ]
    np.testing.assert_allclose(centroid_accuracy(predicted, real), expected, atol=1e-12)
    np.testing.assert_allclose(centroid_accuracy(sp.csr_matrix(predicted), sp.csc_array(real)), expected, atol=1e-12)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_scores_count_nearer_shifts(means: tuple[np.ndarray, ...], distance: Any) -> None:
    predicted, real, control = means
    a, b, d = predicted - control.mean(0), real - control.mean(0), DISTANCES[distance]
    expected = [1 - nearer([d(a[p], b[q]) for q in range(P)], p) / P for p in range(P)]
    np.testing.assert_allclose(discrimination_score(predicted, real, control, distance=distance), expected, atol=1e-12)
    expected = [nearer([d(a[q], b[p]) for q in range(P)], p) / (P - 1) for p in range(P)]
    np.testing.assert_allclose(rank_score(predicted, real, control, distance=distance), expected, atol=1e-12)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_target_genes_are_left_out(means: tuple[np.ndarray, ...], distance: Any) -> None:
    predicted, real, control = means
    targets: list[list[int]] = [[0], [], [3, 1], [4], [2], [], [0]]
    found = discrimination_score(predicted, real, control, distance=distance, target_genes=targets)
    for p, genes in enumerate(targets):
        alone = [np.delete(x, genes, axis=1) for x in (predicted, real, control)]
        expected = discrimination_score(*alone, distance=distance)[p]
        assert found[p] == pytest.approx(expected, abs=1e-12), p
    assert (found != discrimination_score(predicted, real, control, distance=distance)).any()


def test_target_gene_alone_gives_nothing_away() -> None:
    """Each perturbation silences its own gene and does nothing else: without that gene all are alike."""
    real = 1 - np.eye(P)
    assert (discrimination_score(real, real, np.ones((1, P))) == 1).all()
    found = discrimination_score(real, np.ones((P, P)), np.ones((1, P)), target_genes=[[p] for p in range(P)])
    np.testing.assert_allclose(found, (P + 1) / (2 * P))


@pytest.mark.parametrize("constant", ["mean", "control", "random"])
@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_constant_prediction_is_exactly_chance(means: tuple[np.ndarray, ...], constant: str, distance: Any) -> None:
    _, real, control = means
    row = {"mean": real.mean(0), "control": control.mean(0), "random": np.random.default_rng(1).normal(size=G)}[
        constant
    ]
    predicted = np.tile(row, (P, 1))
    assert centroid_accuracy(predicted, real).mean() == pytest.approx(0.5, abs=1e-12)
    score = discrimination_score(predicted, real, control, distance=distance)
    assert score.mean() == pytest.approx((P + 1) / (2 * P), abs=1e-12)
    if constant == "control" and distance == "cosine":
        np.testing.assert_allclose(score, (P + 1) / (2 * P))  # no direction: all at the same distance
    np.testing.assert_allclose(rank_score(predicted, real, control, distance=distance), 0.5)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_right_predictions_are_best(means: tuple[np.ndarray, ...], distance: Any) -> None:
    _, real, control = means
    assert (centroid_accuracy(real, real) == 1).all()
    assert (discrimination_score(real, real, control, distance=distance) == 1).all()
    assert (rank_score(real, real, control, distance=distance) == 0).all()


def test_scores_follow_the_order_of_the_perturbations(means: tuple[np.ndarray, ...]) -> None:
    predicted, real, control = means
    predicted[:3], real[4:6] = predicted[0], real[4]  # ties on both sides
    order = np.random.default_rng(2).permutation(P)
    for metric in (
        centroid_accuracy,
        lambda x, y: discrimination_score(x, y, control),
        lambda x, y: rank_score(x, y, control, distance="cosine"),
    ):
        np.testing.assert_allclose(metric(predicted[order], real[order]), metric(predicted, real)[order], atol=1e-12)


def test_reference_matters_for_the_cosine_only(means: tuple[np.ndarray, ...]) -> None:
    predicted, real, control = means
    for distance, changes in (("l1", False), ("l2", False), ("cosine", True)):
        options: dict[str, Any] = {"distance": distance}
        a = discrimination_score(predicted, real, control, **options)
        b = discrimination_score(predicted, real, control + 5, **options)
        assert (a != b).any() == changes, distance


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_one_prediction_at_a_time(means: tuple[np.ndarray, ...], distance: Any) -> None:
    predicted, real, _ = means
    real[2] = real[5]  # a tie
    scores = discrimination_score(predicted, real, np.zeros((1, G)), distance=distance)
    ranks = [rank_of_right(predicted[p], real, p, distance) for p in range(P)]
    np.testing.assert_allclose(1 - np.array(ranks) / P, scores, atol=1e-12)
    with pytest.raises(UndefinedMetric, match="single perturbation"):
        rank_of_right(predicted[0], real[:1], 0, distance)


def test_single_perturbation_is_undefined() -> None:
    x = np.ones((1, G))
    np.testing.assert_array_equal(centroid_accuracy(x, x), [np.nan])
    np.testing.assert_array_equal(discrimination_score(x, x, x), [np.nan])
    np.testing.assert_array_equal(rank_score(x, x, x), [np.nan])
    with pytest.raises(UndefinedMetric, match="single perturbation"):
        centroid_accuracy.strict(x, x)


def test_errors(means: tuple[np.ndarray, ...]) -> None:
    predicted, real, control = means
    with pytest.raises(ValueError, match="the same perturbations in the same order, but they have 6 and 7 rows"):
        centroid_accuracy(predicted[1:], real)
    with pytest.raises(ValueError, match="`real_means` and `reference` must hold the same genes"):
        rank_score(predicted, real, control[:, 1:])
    with pytest.raises(ValueError, match="`distance` must be one of l1, l2, cosine, but found 'l3'"):
        discrimination_score(predicted, real, control, distance="l3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one list of columns for each of the 7 perturbations, but it has 1"):
        discrimination_score(predicted, real, control, target_genes=[[0]])
    with pytest.raises(ValueError, match=r"`target_genes\[2\]` must be a list of columns from 0 to 4, but found \[5\]"):
        discrimination_score(predicted, real, control, target_genes=[[0], [], [5], [], [], [], []])


def test_a_measured_shift_of_zero_is_at_distance_one_of_all() -> None:
    """No angle is defined; the conditions that are right by far stay first."""
    real = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    found = discrimination_score(real + 0.1, real, np.zeros((1, 2)), distance="cosine")
    angle = 1 - 1.1 / np.sqrt(1.1**2 + 0.1**2)
    other = 1 - 0.1 / np.sqrt(1.1**2 + 0.1**2)
    assert angle < other < 1
    np.testing.assert_allclose(found, [1, 1 / 3, 1])  # two of three are nearer
