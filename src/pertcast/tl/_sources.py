"""Where predicted cells come from: an AnnData of predictions, or a model that is asked condition by condition."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd

from pertcast.data._messages import shorten
from pertcast.tl._labelled import LabelledCells
from pertcast.tl._undefined import UndefinedMetric

if TYPE_CHECKING:
    from anndata import AnnData

    from pertcast.tl._labelled import Condition
    from pertcast.tl._truth import Truth

__all__ = ["AnnDataSource", "ModelSource", "NoEffectSource", "PredictedPopulation", "Role", "Source", "params_of"]

logger = logging.getLogger(__name__)

Role = Literal["model", "baseline", "ceiling"]


class PredictedPopulation(NamedTuple):
    """Predicted cells of a condition."""

    cells: np.ndarray
    """float32 ``[n, G]``, a sample where there are many."""
    mean: np.ndarray
    """Mean over all predicted cells, ``[G]``."""
    n_cells: int
    """Number of predicted cells."""
    is_point: bool
    """Whether all cells are equal, so that there is a mean but no distribution."""


class Source(Protocol):
    """Gives the predicted cells of a condition."""

    name: str
    role: Role

    def predict(self, truth: Truth, condition: Condition) -> PredictedPopulation:
        """Return predicted cells; raises :class:`UndefinedMetric` with the reason if there are none."""
        ...


class AnnDataSource:
    """Predictions in an AnnData; the values of its control cells are never used.

    Parameters
    ----------
    name
        Name in the table.
    adata
        Predicted cells.
    truth
        Measured side.
    """

    role: Role = "model"

    def __init__(self, name: str, adata: AnnData, truth: Truth) -> None:
        self.name = name
        what = "predicted" if name == "predicted" else f"predicted[{name!r}]"
        self._cells = LabelledCells(adata, truth.columns, what, var_names=truth.var_names, genes_of="`real`")
        record = adata.uns.get("pertcast", {})
        self._is_point = bool(record.get("is_point", False))
        dosages = np.unique(record.get("params", {}).get("dosages", []))
        if truth.columns.dosage_key is None and len(dosages):
            logger.warning(
                "`%s` was predicted at dosage %s, but no `dosage_key` is given: cells of all dosages are taken "
                "together. Name the column of the dosage with `dosage_key`.",
                what,
                shorten(dosages.tolist()),
            )

    def predict(self, truth: Truth, condition: Condition) -> PredictedPopulation:
        """Read the predicted cells of a condition."""
        rows = self._cells.rows.get(condition)
        if rows is None:
            raise UndefinedMetric("There are no predicted cells of this condition.")
        chosen = truth.sample(rows, truth.max_cells, "predicted", condition.name)
        return _population(self._cells.gather(chosen), self._cells.mean(rows), len(rows), is_point=self._is_point)


class NoEffectSource:
    """The baseline of no effect: the shared control cells themselves."""

    name = "NoEffect"
    role: Role = "baseline"

    def predict(self, truth: Truth, condition: Condition) -> PredictedPopulation:
        """Return the controls of a condition."""
        rows = truth.control_rows(condition)
        cells = truth.controls.gather(rows)
        return PredictedPopulation(cells, cells.mean(axis=0, dtype=np.float64), len(rows), is_point=False)


class ModelSource:
    """A trained model, asked for one condition at a time.

    Parameters
    ----------
    name
        Name in the table.
    model
        Trained model or baseline.
    role
        Whether it is one of the baselines.
    reason
        Why there is no model, if it could not be trained.
    seed
        Seed of its draws.

    Attributes
    ----------
    kept
        Predicted cells of the conditions so far, if it is a dict; they are not kept by default.
    """

    def __init__(
        self, name: str, model: Any, *, role: Role = "baseline", reason: str | None = None, seed: int = 0
    ) -> None:
        self.name, self.model, self.role, self.reason, self.seed = name, model, role, reason, seed
        self.kept: dict[Condition, AnnData] | None = None

    def predict(self, truth: Truth, condition: Condition) -> PredictedPopulation:
        """Predict a condition from its controls."""
        predicted = self.adata(truth, condition)
        if self.kept is not None:
            self.kept[condition] = predicted
        values: Any = predicted.X
        cells = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float32)
        if not predicted.var_names.equals(truth.var_names):
            cells = cells[:, predicted.var_names.get_indexer(truth.var_names)]
        is_point = bool(getattr(self.model, "is_point", False))
        return _population(cells, cells.mean(axis=0, dtype=np.float64), len(cells), is_point=is_point)

    def adata(self, truth: Truth, condition: Condition) -> AnnData:
        """Predicted cells of a condition as the model returns them."""
        if self.model is None:
            raise UndefinedMetric(self.reason or "The model could not be trained.")
        label = truth.real.label(condition)
        ignored = getattr(self.model, "ignores_perturbation", False)
        name = next(iter(self.model.dosages_)) if ignored else label  # any known name: the cells are the same
        dosages = {} if condition.dosage is None else {"dosages": condition.dosage}
        controls = truth.control_cells(condition)
        try:
            predicted = self.model.predict(controls, [name], seed=self.seed, progressbar=False, **dosages)
        except ValueError as error:
            raise UndefinedMetric(f"It cannot be predicted: {error}") from error
        if name != label:
            predicted.obs[truth.columns.perturbation_key] = pd.Categorical([label] * predicted.n_obs)
            params_of(predicted)["perturbations"] = np.array([label])
        return predicted


def params_of(predicted: AnnData) -> dict[str, Any]:
    """What a prediction says that it was asked for; an empty dict if it says nothing."""
    return predicted.uns.get("pertcast", {}).get("params", {})


def _population(cells: np.ndarray, mean: np.ndarray, n_cells: int, *, is_point: bool) -> PredictedPopulation:
    """Predicted population; equal cells are a point prediction, whatever they are called."""
    constant = len(cells) > 1 and bool((cells == cells[0]).all())
    return PredictedPopulation(cells, mean, n_cells, is_point or constant)
