"""The baseline that predicts the mean of all perturbed cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.baselines._conditions import ConditionMeans
from pertcast.baselines._means import MeanBaseline

if TYPE_CHECKING:
    import numpy as np

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen

__all__ = ["PerturbedMean"]


class PerturbedMean(MeanBaseline):
    """Predicts the mean of all perturbed training cells, whatever is asked for.

    The mean is taken over the centroids (means) of the training conditions, perturbation x dosage x context, which
    count the same whatever their number of cells; controls are not among them. Batches of a condition count the same
    too. Perturbation, dosage and context of a request make no difference to the prediction.

    This is the perturbed mean of Systema (Viñas Torné et al. 2025, doi:10.1038/s41587-025-02777-8), which shows how
    far what all perturbations have in common carries.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    residuals
        Whether to add what a control cell differs from the mean of its controls. Without residuals all predicted cells
        of a population are equal: a point prediction, marked by ``is_point``, of which only the mean can be evaluated.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(10, n_genes=20, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.PerturbedMean.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.PerturbedMean(adata)
    >>> model.train()
    >>> predicted = model.predict(perturbations=["pert_0"], progressbar=False)
    >>> bool((predicted.X[0] != predicted.X[1]).nnz), bool(predicted.uns["pertcast"]["is_point"])
    (False, True)
    """

    ignores_perturbation = True
    mean_: np.ndarray

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        self.mean_ = ConditionMeans.from_screen(screen, conditions).mean.mean(axis=0)

    def _mean(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        return self.mean_
