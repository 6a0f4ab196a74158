"""The control cells that a prediction starts from, grouped into populations."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from anndata import AnnData
from mudata import MuData

from pertcast.data._checks import check_covariate, check_labels, check_numbers, check_perturbations, require_column
from pertcast.data._codes import cross_codes
from pertcast.data._controls import DEFAULT_MIN_CONTROLS
from pertcast.data._expression import read_expression
from pertcast.data._groups import RowGroups
from pertcast.data._keys import ScreenKeys
from pertcast.data._matrix import gather_rows, is_sparse
from pertcast.data._messages import column_names, did_you_mean, shorten
from pertcast.data._pseudobulk import population_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from pertcast.data._matrix import Matrix
    from pertcast.data._screen import ScreenMetadata

__all__ = ["ControlPopulation", "ControlQuery"]

logger = logging.getLogger(__name__)

_ALL = "all"


@dataclass(frozen=True, eq=False)
class ControlPopulation:
    """The control cells of one context and batch.

    Parameters
    ----------
    context
        Label of each context column: the cell type first, then the categorical covariates.
    context_name
        These labels joined by ``" | "``; ``"all"`` without context columns.
    cell_type
        Label of the cell type; ``"all"`` without a cell type column.
    batch
        Label of the batch; ``"all"`` without a batch column.
    rows
        Row numbers of its cells in the AnnData, sorted by the names of the cells.
    pool
        Row numbers of the cells that describe the population to a model: ``rows``, or all controls of the context
        where ``rows`` are too few.
    covariates
        Mean of the continuous covariates over ``rows``, float32 ``[V]``.
    obs
        Labels to fill in for predicted cells: column of ``obs`` to label.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.baselines.NoEffect(adata)
    >>> metadata = pc.data.screen_metadata_from_registry(model.registry)
    >>> population = pc.data.ControlQuery.from_adata(adata, metadata).populations[0]
    >>> population.cell_type, population.batch, len(population.rows)
    ('type_0', 'donor_0', 6)
    """

    context: dict[str, str]
    context_name: str
    cell_type: str
    batch: str
    rows: np.ndarray
    pool: np.ndarray
    covariates: np.ndarray
    obs: dict[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class ControlQuery:
    """Control cells to predict from. Build it with :meth:`from_adata`; the AnnData is only read.

    Parameters
    ----------
    metadata
        What the model knows of its training data.
    keys
        Where the parts of the screen are.
    adata
        The AnnData of the user that holds the expression.
    populations
        The control populations, sorted by the labels of context and batch.
    columns
        Columns of the contexts, the batch and the continuous covariates by their names, as the user gave them.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.baselines.NoEffect(adata)
    >>> metadata = pc.data.screen_metadata_from_registry(model.registry)
    >>> query = pc.data.ControlQuery.from_adata(adata, metadata, contexts="type_1")
    >>> query
    ControlQuery[n_controls=18, n_populations=3, n_contexts=1, n_genes=20]
    >>> query.gather(query.populations[0].rows).shape
    (6, 20)
    """

    metadata: ScreenMetadata
    keys: ScreenKeys
    adata: AnnData
    populations: tuple[ControlPopulation, ...]
    columns: dict[str, pd.Series]
    _X: Matrix
    _genes: np.ndarray | None

    @classmethod
    def from_adata(
        cls,
        adata: AnnData | MuData,
        metadata: ScreenMetadata,
        *,
        contexts: str | Sequence[str] | None = None,
        min_controls: int = DEFAULT_MIN_CONTROLS,
    ) -> ControlQuery:
        """Find and check the control cells of an AnnData.

        Cell types, donors and covariate labels that the model has never seen are fine. Genes are brought into the
        order of the model, and genes that it does not know are left out. Perturbed cells are ignored.

        Parameters
        ----------
        adata
            Control cells, or a screen that holds some, with the columns that ``setup_anndata`` named.
        metadata
            What the model knows of its training data.
        contexts
            Names of contexts, or of cell types, to restrict the prediction to.
        min_controls
            Populations with fewer cells are described by all controls of their context.

        Raises
        ------
        KeyError
            If a column or layer does not exist.
        TypeError
            If the object is no AnnData or MuData, the expression is not in memory, or ``contexts`` is neither a name
            nor a list of names.
        ValueError
            If there are no cells or no controls, a control has no label, a gene is missing or repeated, a value is NaN
            or infinite, the values are raw counts, or a context in ``contexts`` is not there.
        """
        keys = ScreenKeys.from_setup(metadata.setup_args)
        holder = _expression_holder(adata, keys)
        if not holder.n_obs:
            raise ValueError("The AnnData has no cells. Give the control cells to predict from.")
        is_control = _find_controls(adata, keys)
        rows = _by_name(holder.obs_names, np.flatnonzero(is_control))

        given = {column: require_column(adata, keys, column, argument) for argument, column in keys.context_columns()}
        coded = {column: _sorted_codes(values.iloc[rows], column) for column, values in given.items()}
        context, context_names, table = cross_codes(coded, len(rows))
        batch, batch_names = np.zeros(len(rows), dtype=np.int32), [_ALL]
        if keys.batch_key is not None:
            given[keys.batch_key] = require_column(adata, keys, keys.batch_key, "batch_key")
            batch, batch_names = _sorted_codes(given[keys.batch_key].iloc[rows], keys.batch_key)
        for column in keys.continuous_covariate_keys or ():
            given[column] = require_column(adata, keys, column, "continuous_covariate_keys")
        covariates = _covariates(given, keys, rows, holder.n_obs)
        X, genes = read_expression(holder, keys, metadata, rows)

        wanted = _select_contexts(contexts, context_names, table, keys.cell_type_key)
        populations = []
        for code in wanted:
            whole = np.flatnonzero(context == code)
            for batch_code in np.unique(batch[whole]):
                own = whole[batch[whole] == batch_code]
                of_context = {str(name): str(label) for name, label in table.iloc[code].items()}
                of_batch = {} if keys.batch_key is None else {keys.batch_key: batch_names[batch_code]}
                populations.append(
                    ControlPopulation(
                        context=of_context,
                        context_name=context_names[code],
                        cell_type=_ALL if keys.cell_type_key is None else of_context[keys.cell_type_key],
                        batch=batch_names[batch_code],
                        rows=rows[own],
                        pool=rows[own if len(own) >= min_controls else whole],
                        covariates=covariates[rows[own]].mean(axis=0, dtype=np.float64).astype(np.float32),
                        obs=of_context | of_batch,
                    )
                )
        borrowed = [f"{each.context_name}, {each.batch}" for each in populations if len(each.pool) > len(each.rows)]
        if borrowed:
            logger.warning(
                "%d of %d control populations have fewer than %d cells and are described by all controls of their "
                "context: %s.",
                len(borrowed),
                len(populations),
                min_controls,
                shorten(borrowed),
            )
        return cls(metadata, keys, holder, tuple(populations), given, X, genes)

    @property
    def is_sparse(self) -> bool:
        """Whether the expression of the user is sparse."""
        return is_sparse(self._X)

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the G genes of the model, in its order (a new data frame)."""
        var = cast("pd.DataFrame", self.adata.var)
        return (var if self._genes is None else var.iloc[self._genes]).copy()

    @property
    def n_controls(self) -> int:
        """Number of control cells in all populations."""
        return sum(len(population.rows) for population in self.populations)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Expression of cells, genes in the order of the model; only these rows are made dense.

        Parameters
        ----------
        rows
            Row numbers in the AnnData, of any shape.

        Returns
        -------
        float32 ``[*rows.shape, G]``, a new array.
        """
        values = gather_rows(self._X, np.asarray(rows))
        return values if self._genes is None else values[..., self._genes]

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Mean expression of cells, genes in the order of the model; cells are read in chunks.

        Parameters
        ----------
        rows
            Row numbers in the AnnData, at least one.

        Returns
        -------
        float64 ``[G]``.
        """
        mean = population_means(self._X, RowGroups(np.asarray(rows), np.array([0]), np.array([len(rows)])))[0]
        return mean if self._genes is None else mean[self._genes]

    def __repr__(self) -> str:
        """Return counts on one line."""
        contexts = {population.context_name for population in self.populations}
        return (
            f"ControlQuery[n_controls={self.n_controls}, n_populations={len(self.populations)}, "
            f"n_contexts={len(contexts)}, n_genes={len(self.metadata.var_names)}]"
        )


def _expression_holder(adata: AnnData | MuData, keys: ScreenKeys) -> AnnData:
    """Return the AnnData with the expression: the object itself, or a modality with the same cells."""
    if isinstance(adata, AnnData):
        return adata
    if not isinstance(adata, MuData):
        raise TypeError(f"Expected an AnnData with control cells, but found {type(adata).__name__}.")
    keys.check_modalities(adata)
    holder = keys.holder(adata, "layer")
    if not holder.obs_names.equals(adata.obs_names):
        raise ValueError(
            f"The modality {keys.modality('layer')!r} does not have the same cells in the same order as the MuData. "
            "Keep the cells that all modalities have: `mudata.pp.intersect_obs(mdata)`."
        )
    return holder


def _find_controls(adata: AnnData | MuData, keys: ScreenKeys) -> np.ndarray:
    """Whether each cell is a control."""
    key, control = keys.perturbation_key, keys.control
    obs = keys.holder(adata, "perturbation_key").obs
    if key not in obs:
        raise KeyError(
            f"The control cells are found by the column {key!r}, which is not in adata.obs."
            f"{did_you_mean(key, column_names(obs))} If all cells are controls, say so: "
            f'`adata.obs["{key}"] = "{control}"`.'
        )
    codes, names = check_labels(obs[key], key, allowed=control)
    return ~check_perturbations(codes, names, key, control, needs_perturbed=False)


def _by_name(obs_names: pd.Index, rows: np.ndarray) -> np.ndarray:
    """Rows sorted by the names of their cells, so that the order of the cells does not matter."""
    names = obs_names[rows]
    if not names.is_unique:
        logger.info("The names of the control cells are not unique, so predictions depend on the order of the cells.")
        return rows
    return rows[np.argsort(names.to_numpy(dtype=object), kind="stable")]


def _sorted_codes(labels: pd.Series, column: str) -> tuple[np.ndarray, list[str]]:
    """Codes into sorted labels; every cell must have one."""
    codes, names = check_labels(labels, column)
    order = np.argsort(np.array(names, dtype=object), kind="stable")
    rank = np.empty(len(names), dtype=np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    return rank[codes], [names[code] for code in order]


def _covariates(given: dict[str, pd.Series], keys: ScreenKeys, rows: np.ndarray, n_cells: int) -> np.ndarray:
    """Continuous covariates of all cells, float32 ``[cells, V]``, after a check of those of the controls."""
    values = np.zeros((n_cells, len(keys.continuous_covariate_keys or ())), dtype=np.float32)
    for i, column in enumerate(keys.continuous_covariate_keys or ()):
        numbers = check_numbers(given[column], column, "continuous_covariate_keys")
        check_covariate(numbers[rows], column, given[column].index[rows])
        values[:, i] = numbers
    return values


def _select_contexts(
    wanted: str | Sequence[str] | None, names: Sequence[str], table: pd.DataFrame, cell_type_key: str | None
) -> list[int]:
    """Codes of the contexts whose name, or cell type, is asked for."""
    if wanted is None:
        return list(range(len(names)))
    if not isinstance(wanted, Iterable):
        raise TypeError(
            f"`contexts` must be a name or a list of names, but found {wanted!r}. Names are strings: {str(wanted)!r}."
        )
    asked = {wanted} if isinstance(wanted, str) else {str(name) for name in wanted}
    if not asked:
        raise ValueError("`contexts` is empty. Name at least one, or leave it out to predict all.")
    cell_types = list(names) if cell_type_key is None else table[cell_type_key].tolist()
    known = sorted({*names, *cell_types})
    unknown = sorted(asked.difference(known))
    if unknown:
        raise ValueError(
            f"`contexts` names {shorten(unknown)}, of which there are no control cells."
            f"{did_you_mean(unknown[0], known)} Contexts with control cells: {shorten(known, limit=20)}."
        )
    return [code for code, name in enumerate(names) if name in asked or cell_types[code] in asked]
