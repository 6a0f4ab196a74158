"""The most similar vectors."""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_vectors"]


def nearest_vectors(vector: np.ndarray, others: np.ndarray, n: int) -> np.ndarray:
    """Rows of the vectors that are most similar to one, the most similar first.

    Similarity is the cosine after the mean of the others was taken off; equal ones stay in their order, and a vector
    that is the mean has similarity 0 to all.

    Parameters
    ----------
    vector
        ``[E]``.
    others
        ``[P, E]``.
    n
        How many rows, at most.

    Returns
    -------
    int64 ``[min(n, P)]``.

    Examples
    --------
    >>> import numpy as np
    >>> nearest_vectors(np.array([3.0, 1.0]), np.array([[0.0, 4.0], [2.0, 0.0]]), 1)
    array([1])
    """
    centre = others.mean(axis=0)
    others, vector = others - centre, vector - centre
    length = np.linalg.norm(others, axis=1) * np.linalg.norm(vector)
    similarity = others @ vector / np.where(length > 0, length, 1)
    return np.argsort(-similarity, kind="stable")[:n]
