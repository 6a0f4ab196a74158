"""The bilinear ridge regression of shifts on genes and perturbations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast._numbers import check_number, check_whole
from pertcast.baselines._base import Baseline, added
from pertcast.baselines._conditions import ConditionMeans
from pertcast.baselines._perturbation_vectors import PerturbationVectors, gene_loadings
from pertcast.data._dosages import dosage_key, nearest_dosage
from pertcast.data._grammar import parse_perturbation
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["BilinearRidge", "solve_bilinear"]

logger = logging.getLogger(__name__)


def solve_bilinear(response: np.ndarray, genes: np.ndarray, perturbations: np.ndarray, ridge: float) -> np.ndarray:
    r"""Solve for the weights W in :math:`Y \approx A W B^\top` with a ridge penalty on either side.

    .. math::

        W = (A^\top A + \lambda I)^{-1} A^\top Y B (B^\top B + \lambda I)^{-1}

    which minimises :math:`\|Y - A W B^\top\|^2 + \lambda \|A W\|^2 + \lambda \|W B^\top\|^2 + \lambda^2 \|W\|^2`.

    Parameters
    ----------
    response
        :math:`Y`, ``[G, P]``.
    genes
        Embedding of the genes :math:`A`, ``[G, K]``.
    perturbations
        Embedding of the perturbations :math:`B`, ``[P, E]``.
    ridge
        Penalty :math:`\lambda`, above 0.

    Returns
    -------
    float64 ``[K, E]``.

    Examples
    --------
    >>> solve_bilinear(np.array([[4.0]]), np.array([[1.0]]), np.array([[1.0]]), ridge=1.0)
    array([[1.]])
    """
    left = genes.T @ genes + ridge * np.eye(genes.shape[1])
    right = perturbations.T @ perturbations + ridge * np.eye(perturbations.shape[1])
    return np.linalg.solve(right, np.linalg.solve(left, genes.T @ response @ perturbations).T).T


class BilinearRidge(Baseline):
    r"""Adds to each control cell a shift that is bilinear in an embedding of genes and one of perturbations.

    With the shifts :math:`Y` (genes x training perturbations, means over contexts), their mean over perturbations
    :math:`b`, gene embeddings :math:`A` and perturbation embeddings :math:`B`, the model is
    :math:`Y \approx A W B^\top + b 1^\top`, and the shift of a perturbation with embedding v is :math:`A W v + b`. The
    weights W have the closed form of :func:`~pertcast.baselines._bilinear_ridge.solve_bilinear`.

    * :math:`A`: loadings of the genes on the leading principal components of the training pseudobulks.
    * :math:`B`: the vectors of ``perturbation_embedding_key``, as they are. Without them, the row of :math:`A` of the
      gene that has the name of the perturbation; perturbations without such a gene are left out of training, which is
      logged, and cannot be predicted. The embedding of a combination is the sum of those of its parts.

    There is one regression for each training dosage, of which that nearest to the dosage asked for (on a log scale) is
    taken, and all contexts get the same shift. A perturbation that was
    measured gets its fitted shift, not the measured one. Values are not clipped, so the sum may be below 0.

    This is the linear model of Ahlmann-Eltze, Huber & Anders (2025, doi:10.1038/s41592-025-02772-6), for shifts in
    place of means.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    n_components
        Number of principal components K, at least 1; as many as the pseudobulks have if those are fewer.
    ridge
        Penalty, above 0, in the squared units of the embeddings.

    Raises
    ------
    TypeError
        If a number is of the wrong type.
    ValueError
        If a number is out of its range.

    Notes
    -----
    :meth:`train` raises a :class:`ValueError` if no training perturbation has an embedding, and :meth:`predict` if one
    of those asked for has none.

    Examples
    --------
    Nearly without a penalty, a vector of nine parts of one perturbation and one of another has such a shift, too:
    nine tenths of (1, 0) and a tenth of (0, 2), on controls of (0.5, 0.5).

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame({"perturbation": ["control", "a", "b"]}, index=list("xyz"))
    >>> adata = ad.AnnData(np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 2.5]], dtype=np.float32), obs=obs)
    >>> adata.uns["vectors"] = pd.DataFrame([[1.0, 0], [0, 1], [0.9, 0.1]], index=["a", "b", "c"])
    >>> pc.baselines.BilinearRidge.setup_anndata(adata, perturbation_embedding_key="vectors")
    >>> model = pc.baselines.BilinearRidge(adata, ridge=1e-6)
    >>> model.train()
    >>> model.predict(adata, ["c"], progressbar=False).X.round(3)
    array([[1.4, 0.7]], dtype=float32)
    """

    vectors_: PerturbationVectors

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_components: int = 10,
        ridge: float = 0.1,
    ) -> None:
        self.n_components = check_whole("n_components", n_components)
        self.ridge = check_number("ridge", ridge, above=0)
        super().__init__(adata, registry)
        self.gene_embedding_ = np.zeros((0, 0))
        self.weights_: dict[float, np.ndarray] = {}
        self.intercepts_: dict[float, np.ndarray] = {}
        self.init_params_ = self._get_init_params(locals())

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        means = ConditionMeans.from_screen(screen, conditions)
        genes = gene_loadings(means, self.n_components)
        vectors = PerturbationVectors.choose(screen.metadata, genes)
        columns: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}
        left_out = []
        for (name, dosage), rows in means.rows.items():
            parts = parse_perturbation(name, screen.metadata.control)
            if all(part in vectors for part in parts):
                vector = vectors.of(parts, name).sum(axis=0)
                columns.setdefault(dosage, []).append((means.shift[rows].mean(axis=0), vector))
            else:
                left_out.append(name)
        if not columns:
            raise ValueError(
                f"None of the training perturbations ({shorten(sorted(set(left_out)))}) has an embedding: no vectors "
                f"were registered, and none has the name of one of the {len(vectors.names)} genes. Register vectors "
                "with `perturbation_embedding_key`."
            )
        if left_out:
            logger.warning(
                "%d training perturbations have no embedding and are left out: %s.",
                len(set(left_out)),
                shorten(sorted(set(left_out))),
            )
        self.gene_embedding_, self.vectors_, self.weights_, self.intercepts_ = genes, vectors, {}, {}
        for dosage, pairs in columns.items():
            response = np.stack([shift for shift, _ in pairs], axis=1)
            mean = response.mean(axis=1)
            embedding = np.stack([vector for _, vector in pairs])
            self.weights_[dosage] = solve_bilinear(response - mean[:, None], genes, embedding, self.ridge)
            self.intercepts_[dosage] = mean

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        # The name of a gene may be unknown to the vocabulary and still have a vector, so that is not asked.
        for request in requests:
            self._shift(request, metadata)
        return {}

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        return added(self._shift(request, query.metadata))

    def _shift(self, request: Request, metadata: ScreenMetadata) -> np.ndarray:
        """Shift of a perturbation, ``[G]``."""
        parts = parse_perturbation(request.perturbation, metadata.control)
        vector = self.vectors_.of(parts, request.perturbation).sum(axis=0)
        dosage = nearest_dosage(self.weights_, dosage_key(request.dosage))
        return self.gene_embedding_ @ (self.weights_[dosage] @ vector) + self.intercepts_[dosage]
