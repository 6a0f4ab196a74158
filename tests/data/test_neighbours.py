"""The most similar vectors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from pertcast.data._neighbours import nearest_vectors


def test_order_is_that_of_the_cosine_after_centring() -> None:
    rng = np.random.default_rng(0)
    others, vector = rng.normal(2, 1, (9, 4)), rng.normal(2, 1, 4)
    similarity = cosine_similarity(vector[None] - others.mean(0), others - others.mean(0))[0]
    assert nearest_vectors(vector, others, 5).tolist() == np.argsort(-similarity)[:5].tolist()
    assert len(nearest_vectors(vector, others, 20)) == 9


@pytest.mark.parametrize("vector", [[1.0, 1.0], [0.0, 3.0]])
def test_equal_similarities_stay_in_order(vector: list[float]) -> None:
    others = np.array([[0.0, 1.0], [2.0, 1.0]])
    # The mean itself, with similarity 0 to both; and a vector at equal angles of one and of its opposite.
    expected = [0, 1]
    assert nearest_vectors(np.array(vector), others, 2).tolist() == expected
