"""Cells of an AnnData by perturbation, dosage and context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pertcast.data._checks import check_dosage, check_labels, check_numbers
from pertcast.data._codes import NAME_SEPARATOR, combine_codes, cross_codes
from pertcast.data._dosages import dosage_key, dosage_name
from pertcast.data._genes import align_genes
from pertcast.data._grammar import canonical_names, spellings
from pertcast.data._groups import RowGroups
from pertcast.data._matrix import gather_rows, row_major
from pertcast.data._matrix_checks import check_matrix
from pertcast.data._messages import column_names, did_you_mean, shorten
from pertcast.data._pseudobulk import population_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.data._matrix import Matrix

__all__ = ["Condition", "LabelledCells", "ScreenColumns", "screen_columns"]


@dataclass(frozen=True)
class ScreenColumns:
    """Where an AnnData says what its cells are.

    Parameters
    ----------
    perturbation_key
        Column of ``obs`` with the perturbation.
    control
        Label of unperturbed cells in it.
    groupby
        Columns of ``obs`` that make up the context.
    dosage_key
        Column of ``obs`` with the dosage.
    batch_key
        Column of ``obs`` with the batch or donor.
    """

    perturbation_key: str = "perturbation"
    control: str = "control"
    groupby: tuple[str, ...] = ()
    dosage_key: str | None = None
    batch_key: str | None = None


def screen_columns(
    control: str | AnnData,
    perturbation_key: str,
    groupby: str | Sequence[str] | None,
    dosage_key: str | None,
    batch_key: str | None,
) -> tuple[ScreenColumns, AnnData | None]:
    """Where labels are, and the AnnData of controls if there is one.

    Parameters
    ----------
    control
        Label of control cells, or an AnnData that holds nothing else.
    perturbation_key, groupby, dosage_key, batch_key
        Columns, as in :func:`pertcast.tl.evaluate`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If ``control`` is neither, has no cells, or its cells have several labels.
    """
    keys = () if groupby is None else (groupby,) if isinstance(groupby, str) else tuple(groupby)
    if isinstance(control, str):
        return ScreenColumns(perturbation_key, control.strip(), keys, dosage_key, batch_key), None
    if not isinstance(control, AnnData):
        raise TypeError(f"`control` must be a label or an AnnData, but it is a {type(control).__name__}.")
    if perturbation_key not in control.obs:
        raise KeyError(
            f"control.obs has no column {perturbation_key!r}, which must hold the label of control cells. Name the "
            "column with `perturbation_key`."
        )
    if not control.n_obs:
        raise ValueError("`control` has no cells. Give the control cells, or the label that they have in `real`.")
    labels = sorted({str(label) for label in control.obs[perturbation_key]})
    if len(labels) != 1:
        raise ValueError(
            f"`control` must hold control cells only, but its column {perturbation_key!r} holds {shorten(labels)}."
        )
    return ScreenColumns(perturbation_key, labels[0], keys, dosage_key, batch_key), control


class Condition(NamedTuple):
    """What is scored: the cells of a perturbation in a context."""

    perturbation: str
    dosage: float | None
    context: str

    @property
    def name(self) -> str:
        """Perturbation, dosage if there is one, and context, joined by ``" | "``."""
        dosage = [] if self.dosage is None else [dosage_name(self.dosage)]
        return NAME_SEPARATOR.join([self.perturbation, *dosage, self.context])


class LabelledCells:
    """The cells of an AnnData, found by condition and read a population at a time.

    Cells are sorted by their names, so nothing depends on their order.

    Parameters
    ----------
    adata
        Cells.
    columns
        Where their labels are.
    what
        What messages call the AnnData.
    layer
        Key of ``layers`` with the expression; ``X`` by default.
    var_names
        Genes to read, in this order; all by default.
    genes_of
        What messages call the cells that ``var_names`` are of.
    among
        Which cells count, bool ``[N]``; all by default. Unlike a view, that copies nothing.

    Raises
    ------
    KeyError
        If a column or layer does not exist.
    TypeError
        If it is no AnnData.
    ValueError
        If there are no cells, a label or gene is missing, or a value is NaN, infinite or a raw count.
    """

    def __init__(
        self,
        adata: AnnData,
        columns: ScreenColumns,
        what: str,
        *,
        layer: str | None = None,
        var_names: pd.Index | None = None,
        genes_of: str = "the other cells",
        among: np.ndarray | None = None,
    ) -> None:
        if not isinstance(adata, AnnData):
            raise TypeError(f"`{what}` must be an AnnData, but it is a {type(adata).__name__}.")
        cells = np.arange(adata.n_obs) if among is None else np.flatnonzero(among)
        if not len(cells):
            raise ValueError(f"`{what}` has no cells. Check how they were selected.")
        self.adata, self.columns, self.what = adata, columns, what
        self._obs: pd.DataFrame = adata.obs if among is None else adata.obs.iloc[cells]  # type: ignore[assignment]
        names = self._obs.index.to_numpy(dtype=object)
        order = np.argsort(names, kind="stable") if self._obs.index.is_unique else np.arange(len(cells))

        self._batch, self._batches = np.zeros(adata.n_obs, dtype=np.int32), pd.Index([""])
        if columns.batch_key is not None:
            self._batch[cells], self._batches = pd.factorize(self._column(columns.batch_key).astype(str))
        labels, raw = check_labels(self._column(columns.perturbation_key), columns.perturbation_key)
        perturbations, code_of = canonical_names(raw, columns.control)
        perturbation, self._spellings = code_of[labels], spellings(raw, columns.control)
        factors = {key: check_labels(self._column(key), key) for key in columns.groupby}
        context, contexts, self.context_table = cross_codes(factors, len(cells))
        dosage, dosages = self._dosages(perturbation == 0)

        sizes = (len(perturbations), len(dosages), len(contexts))
        key = combine_codes(list(zip((perturbation, dosage, context), sizes, strict=True)))[order]
        by_key = np.argsort(key, kind="stable")
        self.rows: dict[Condition, np.ndarray] = {}
        self.control_rows: dict[str, np.ndarray] = {}
        for members in np.split(order[by_key], np.flatnonzero(np.diff(key[by_key])) + 1):
            if not len(members):
                continue
            first = members[0]
            where = contexts[context[first]]
            if perturbation[first] == 0:
                self.control_rows[where] = cells[members]
            else:
                name, dose = perturbations[perturbation[first]], dosages[dosage[first]]
                self.rows[Condition(name, dose, where)] = cells[members]
        self.var_names = adata.var_names if var_names is None else var_names
        self._positions = None if var_names is None else align_genes(adata, var_names, name=what, genes_of=genes_of)
        self._X = self._matrix(layer)

    def label(self, condition: Condition) -> str:
        """Label of the perturbation of a condition in the data, where it is spelled in one way."""
        return self._spellings.get(condition.perturbation, condition.perturbation)

    def _dosages(self, is_control: np.ndarray) -> tuple[np.ndarray, list[float | None]]:
        """Code and distinct values of the dosage; that of controls is ignored."""
        key = self.columns.dosage_key
        if key is None:
            return np.zeros(len(is_control), dtype=np.int64), [None]
        values = np.where(is_control, 0.0, check_numbers(self._column(key), key, "dosage_key"))
        check_dosage(values, ~is_control, key, self._obs.index)
        distinct, codes = np.unique(values.astype(np.float32), return_inverse=True)
        return codes, [dosage_key(value) for value in distinct]

    def _column(self, key: str) -> pd.Series:
        if key not in self._obs:
            known = column_names(self._obs)
            columns = ", ".join(map(repr, known)) or "none"
            raise KeyError(f"{self.what}.obs has no column {key!r}.{did_you_mean(key, known)} Columns: {columns}.")
        return self._obs[key]

    def _matrix(self, layer: str | None) -> Matrix:
        where = f"{self.what}.X" if layer is None else f"{self.what}.layers[{layer!r}]"
        if layer is not None and layer not in self.adata.layers:
            raise KeyError(f"{where} does not exist. Name a layer that does, or leave `layer` out to use X.")
        found = self.adata.X if layer is None else self.adata.layers[layer]
        if found is None:
            raise ValueError(f"{where} is empty, but it must hold the expression.")
        X = row_major(found, where)
        check_matrix(X, self.adata.obs_names, self.adata.var_names, where=where)
        return X

    @property
    def contexts(self) -> set[str]:
        """Contexts with perturbed cells."""
        return {condition.context for condition in self.rows}

    def batches(self, rows: np.ndarray) -> pd.Index:
        """Batches of some cells, one without a batch column."""
        return self._batches[np.unique(self._batch[rows])]

    def in_batches(self, rows: np.ndarray, batches: pd.Index) -> np.ndarray:
        """Those of some cells that are in batches with these names."""
        return rows[np.isin(self._batch[rows], np.flatnonzero(self._batches.isin(batches)))]

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Expression of some cells, float32 ``[n, G]``."""
        values = gather_rows(self._X, rows)
        return values if self._positions is None else values[:, self._positions]

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Mean expression of some cells, float64 ``[G]``."""
        mean = population_means(self._X, RowGroups(rows, np.array([0]), np.array([len(rows)])))[0]
        return mean if self._positions is None else mean[self._positions]
