"""The baseline that adds up the shifts of single perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.baselines._shifts import ShiftBaseline

if TYPE_CHECKING:
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import ScreenMetadata

__all__ = ["AdditiveShift"]


class AdditiveShift(ShiftBaseline):
    """Adds to each control cell the sum of the shifts of the single perturbations that a combination is made of.

    The shift of a single perturbation is that in the same context, or the mean over the training contexts, all weighted
    equally, where it was not measured in that context. Combinations are never looked up, also where they were measured:
    :class:`PerturbationShift` does that. A single perturbation has its own shift. Dosages must be those of the training
    data. Values are not clipped, so the sum may be below 0.

    This is the additive model of Ahlmann-Eltze, Huber & Anders (2025, doi:10.1038/s41592-025-02772-6): a combination
    differs from it by the interaction of its parts.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.

    Notes
    -----
    :meth:`predict` raises a :class:`ValueError` if a part was not measured alone.

    Examples
    --------
    The shifts (1, 0) and (0, 2) add up to (1, 2).

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame({"perturbation": ["control", "a", "b"]}, index=list("xyz"))
    >>> adata = ad.AnnData(np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 2.5]], dtype=np.float32), obs=obs)
    >>> pc.baselines.AdditiveShift.setup_anndata(adata)
    >>> model = pc.baselines.AdditiveShift(adata)
    >>> model.train()
    >>> model.predict(adata, ["a+b"], progressbar=False).X
    array([[1.5, 2.5]], dtype=float32)
    """

    def _rows_of_parts(self, request: Request, metadata: ScreenMetadata) -> list[tuple[float, list[int]]]:
        return self._rows_of_singles(request, metadata)

    def _weights(self, query: ControlQuery, population: ControlPopulation, contexts: np.ndarray) -> np.ndarray:
        same = np.array([self.context_names_[code] == population.context_name for code in contexts])
        chosen = same if same.any() else np.ones(len(contexts), dtype=bool)
        return chosen / chosen.sum()
