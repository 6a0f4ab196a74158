"""Principal components of a matrix that stays sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse as sp

__all__ = ["PrincipalComponents", "principal_components"]


_ROUNDING = 1e-14
"""Variance that rounding leaves in equal numbers, as a share of their squares."""


class PrincipalComponents(NamedTuple):
    """Centre, axes and variances.

    Examples
    --------
    >>> found = principal_components(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), 1)
    >>> found.mean.tolist(), found.axes.round(3).tolist(), round(found.total_variance, 3)
    ([2.0, 1.0], [[1.0], [0.0]], 4.0)
    """

    mean: np.ndarray
    """Mean, float32 ``[G]``."""
    axes: np.ndarray
    """Orthonormal axes, float32 ``[G, F]``."""
    variance: np.ndarray
    """Variance along each axis, float32 ``[F]``."""
    total_variance: float
    """Variance summed over all genes."""


def principal_components(
    X: np.ndarray | sp.csr_matrix | sp.csr_array, n_components: int, *, max_cells: int = 20_000, seed: int = 0
) -> PrincipalComponents:
    """Leading principal components, by scikit-learn's solver that keeps sparse input sparse.

    Parameters
    ----------
    X
        Cells, ``[n, G]``.
    n_components
        Number of axes asked for; as many as the data have if those are fewer.
    max_cells
        Cells beyond this number are left out at random: axes settle long before.
    seed
        Seed of that choice.

    Returns
    -------
    Mean, axes and variances.

    Raises
    ------
    ValueError
        If all cells are the same.

    Examples
    --------
    All the variance of these cells is along the diagonal:

    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> found = principal_components(X, n_components=1)
    >>> found.axes.round(3), found.variance.round(3)
    (array([[0.707],
           [0.707]], dtype=float32), array([2.], dtype=float32))
    """
    from sklearn.decomposition import PCA
    from sklearn.utils.sparsefuncs import mean_variance_axis

    if X.shape[0] > max_cells:
        X = X[np.sort(np.random.default_rng(seed).choice(X.shape[0], max_cells, replace=False))]
    if not isinstance(X, np.ndarray) and n_components >= min(X.shape):
        X = X.toarray()  # the sparse solver finds fewer axes than there are genes
    sparse = not isinstance(X, np.ndarray)
    n_components = max(1, min(n_components, X.shape[0] - 1, X.shape[1] - 1 if sparse else X.shape[1]))
    solver: Any = "arpack" if sparse else ("full" if X.shape[1] <= 500 else "randomized")
    variances = mean_variance_axis(X.astype(np.float64), axis=0)[1] if sparse else np.var(X, axis=0, dtype=float)
    largest = np.maximum(_by_gene(X.max(axis=0)), -_by_gene(X.min(axis=0)))
    if (variances <= _ROUNDING * np.square(largest)).all():
        raise ValueError(
            f"All {X.shape[0]} cells are the same (their largest value is {X.max():g}), so there is nothing to learn. "
            "Register the matrix that holds log-normalised expression, with `layer=...` if it is a layer."
        )
    pca = PCA(n_components, svd_solver=solver, random_state=0).fit(X.astype(np.float64))
    axes = pca.components_.T
    axes = axes * np.where(np.abs(axes).max(0) == axes.max(0), 1, -1)
    return PrincipalComponents(
        pca.mean_.astype(np.float32),
        np.ascontiguousarray(axes, dtype=np.float32),
        pca.explained_variance_.astype(np.float32),
        float(variances.sum()) * X.shape[0] / max(X.shape[0] - 1, 1),
    )


def _by_gene(values: Any) -> np.ndarray:
    """One value for each gene, of a dense or sparse row."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float).reshape(-1)
