"""The baseline that borrows the shifts of similar perturbations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pertcast._numbers import check_whole
from pertcast.baselines._conditions import ConditionMeans, rows_at
from pertcast.baselines._perturbation_vectors import PerturbationVectors, gene_loadings
from pertcast.baselines._shifts import ShiftBaseline
from pertcast.data._dosages import dosage_key
from pertcast.data._grammar import parse_perturbation
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["NearestNeighbours"]

logger = logging.getLogger(__name__)


class NearestNeighbours(ShiftBaseline):
    """Adds to each control cell the shift of the perturbation or, if it was not measured, that of similar ones.

    The shift of a measured perturbation is its mean over the training contexts, all weighted equally, as in
    :class:`PerturbationShift`. One that was not measured gets the mean of the shifts of the ``n_neighbours`` measured
    single perturbations with the most similar vectors: cosine similarity, after the mean vector of the measured ones
    was taken off. A combination that was not measured gets the sum over its parts. Values are not clipped, so the sum
    may be below 0.

    The vectors are those of ``perturbation_embedding_key``. Without them, the vector of a perturbation that has the
    name of a gene is the loadings of that gene on the leading principal components of the training pseudobulks; other
    perturbations then have none.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    n_neighbours
        Number of neighbours, at least 1; all measured perturbations with vectors if those are fewer.
    n_components
        Number of principal components, at least 1; used without registered vectors.

    Raises
    ------
    TypeError
        If what should be a whole number is none.
    ValueError
        If a number is below 1.

    Notes
    -----
    Perturbations measured at the dosage asked for are neighbours or, where there are none with a vector, those measured
    at any; of these the shift at the nearest dosage is taken. :meth:`predict` raises a :class:`ValueError` for a
    perturbation that was not measured if it has no vector or no neighbour.

    Examples
    --------
    Of two measured perturbations, the one with the more similar vector stands in for one that was not measured.

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame({"perturbation": ["control", "a", "b"]}, index=list("xyz"))
    >>> adata = ad.AnnData(np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 2.5]], dtype=np.float32), obs=obs)
    >>> adata.uns["vectors"] = pd.DataFrame([[1.0, 0], [0, 1], [0.9, 0.1]], index=["a", "b", "c"])
    >>> pc.baselines.NearestNeighbours.setup_anndata(adata, perturbation_embedding_key="vectors")
    >>> model = pc.baselines.NearestNeighbours(adata, n_neighbours=1)
    >>> model.train()
    >>> model.predict(adata, ["c"], progressbar=False).X
    array([[1.5, 0.5]], dtype=float32)
    """

    vectors_: PerturbationVectors

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_neighbours: int = 5,
        n_components: int = 10,
    ) -> None:
        self.n_neighbours = check_whole("n_neighbours", n_neighbours)
        self.n_components = check_whole("n_components", n_components)
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        means = ConditionMeans.from_screen(screen, conditions)
        self._set_shifts(means)
        registered = screen.vocabulary.vectors is not None
        self.vectors_ = PerturbationVectors.choose(
            screen.metadata, None if registered else gene_loadings(means, self.n_components)
        )

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        # The name of a gene may be unknown to the vocabulary and still have a vector, so that is not asked.
        for request in requests:
            self._rows_of_parts(request, metadata)
            for part, others in self._neighbours(request, metadata).items():
                logger.info("%s was not measured; its neighbours are %s.", part, shorten(others))
        return {}

    def _rows_of_singles(self, request: Request, metadata: ScreenMetadata) -> list[tuple[float, list[int]]]:
        dosage, neighbours, terms = dosage_key(request.dosage), self._neighbours(request, metadata), []
        for part in parse_perturbation(request.perturbation, metadata.control):
            names = neighbours.get(part, [part])
            terms += [(1 / len(names), rows_at(self.rows_, name, dosage)) for name in names]
        return terms

    def _neighbours(self, request: Request, metadata: ScreenMetadata) -> dict[str, list[str]]:
        """Neighbours of each part of a request that was not measured."""
        dosage = dosage_key(request.dosage)
        if rows_at(self.rows_, request.perturbation, dosage):
            return {}
        parts = parse_perturbation(request.perturbation, metadata.control)
        missing = [part for part in parts if not rows_at(self.rows_, part, dosage)]
        if not missing:
            return {}
        self.vectors_.of(missing, request.perturbation)  # raises for a part without a vector
        known = {name for name, _ in self.rows_ if name in self.vectors_}
        measured = sorted({name for name in known if (name, dosage) in self.rows_} or known)
        if not measured:
            raise self._unmeasured("shift or neighbour", missing, request)
        return {part: self.vectors_.nearest(part, measured, self.n_neighbours) for part in missing}
