"""The baseline that predicts no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.baselines._base import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen

__all__ = ["NoEffect"]


class NoEffect(Baseline):
    """Predicts the control cells themselves.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.

    Examples
    --------
    >>> import pertcast as pc
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type")  # doctest: +SKIP
    >>> model = pc.baselines.NoEffect(adata)  # doctest: +SKIP
    >>> model.train()  # doctest: +SKIP
    >>> predicted = model.predict(controls, perturbations=["IFN-beta"])  # doctest: +SKIP
    """

    ignores_perturbation = True

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        """Learn nothing."""

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        return lambda cells: cells
