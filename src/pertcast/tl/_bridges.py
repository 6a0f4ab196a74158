"""Predicted cells in the form that pertpy and scanpy read: with their controls, and as a table of shifts."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique

from pertcast.data._codes import NAME_SEPARATOR
from pertcast.data._dosages import dosage_name
from pertcast.data._matrix import row_major
from pertcast.data._messages import shorten
from pertcast.data._predicted import SOURCE_COLUMN, PredictedCells
from pertcast.tl._labelled import LabelledCells, ScreenColumns, screen_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pertcast.tl._labelled import Condition

__all__ = ["cell_blocks", "delta_table", "dosed_name", "shared_controls", "with_controls"]

_BLOCK_CELLS = 4096


def with_controls(
    predicted: AnnData,
    controls: AnnData,
    *,
    control: str = "control",
    perturbation_key: str = "perturbation",
    layer: str | None = None,
) -> AnnData:
    """Put the control cells and the cells predicted from them into one AnnData.

    A prediction holds perturbed cells only. Tools that compare perturbations with a control group in the same AnnData,
    such as ``pertpy.tools.Distance`` and the perturbation spaces of pertpy, or ``scanpy.tl.rank_genes_groups``, work
    on the result. The energy distance of pertpy 1.4 reads ``obsm`` (after ``scanpy.pp.pca``) or a dense layer, not a
    sparse one; its value is :func:`energy_distance` with ``unbiased=False``.

    Parameters
    ----------
    predicted
        Predicted cells. Control cells in it are left out: the measured ones take their place. It is not written to.
    controls
        AnnData with the control cells, such as the one given to ``predict``. Cells with another label are left out, so
        a whole screen will do. Genes are matched by name.
    control
        Label of control cells.
    perturbation_key
        Column of ``obs`` with the perturbation, in both.
    layer
        Key of ``controls.layers`` with the expression; ``X`` by default.

    Returns
    -------
    The N control cells, then the predicted cells. ``X`` is float32, sparse (CSR) if the predicted ``X`` is sparse;
    ``var`` and ``uns`` are those of the prediction. ``obs`` has its columns: one that the controls lack is missing
    (NA) for them, but the ``source_cell`` of a control cell is the cell itself. Control cells keep their names; a
    predicted cell whose name is taken gets a number behind it. Layers and ``obsm`` are not carried over.

    Raises
    ------
    KeyError
        If a column or layer does not exist.
    ValueError
        If there are no control or no predicted cells, a gene is missing, a cell has no label, or the expression holds
        NaN, infinite values or raw counts.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(8, n_genes=40, n_cell_types=1, n_donors=1, n_perturbations=2, combinations=0)
    >>> is_control = (adata.obs["perturbation"] == "control").to_numpy()
    >>> predicted = adata[~is_control]  # stands for `model.predict(controls)`
    >>> with_controls(predicted, adata[is_control]).obs["perturbation"].value_counts().sort_index().to_dict()
    {'control': 8, 'pert_0': 8, 'pert_1': 8}
    """
    columns = ScreenColumns(perturbation_key, control.strip())
    cells = LabelledCells(predicted, columns, "predicted")
    measured = LabelledCells(controls, columns, "controls", layer=layer, var_names=cells.var_names)
    if not cells.rows:
        raise ValueError(
            f"`predicted` has no predicted cells: all labels of {perturbation_key!r} are {columns.control!r}."
        )
    rows = np.sort(np.concatenate(list(cells.rows.values())))
    (context,) = cells.contexts
    control_rows = np.sort(shared_controls(measured, None, [context]).control_rows[context])

    expression = row_major(predicted.X, "predicted.X")
    matrix = PredictedCells(len(control_rows), len(cells.var_names), is_sparse=sp.issparse(expression))
    for block in cell_blocks(measured, control_rows):
        matrix.add(block)
    obs, control_obs, var = _frame(predicted).iloc[rows], _frame(controls).iloc[control_rows], _frame(predicted, "var")
    names = make_index_unique(pd.Index([*control_obs.index.astype(str), *obs.index.astype(str)]))
    control_obs = control_obs[[column for column in obs.columns if column in control_obs]]
    for column in map(str, control_obs):
        if pd.api.types.is_float_dtype(obs[column].dtype) and pd.api.types.is_numeric_dtype(control_obs[column].dtype):
            control_obs = control_obs.assign(**{column: control_obs[column].astype(obs[column].dtype)})
    control_obs = control_obs.assign(**{perturbation_key: pd.Categorical([columns.control] * len(control_rows))})
    if SOURCE_COLUMN in obs:
        control_obs = control_obs.assign(**{SOURCE_COLUMN: control_obs.index.astype(str)})
    obs = obs.assign(**{perturbation_key: obs[perturbation_key].astype(str).astype("category")})
    parts = [
        AnnData(matrix.matrix(), obs=control_obs.set_axis(names[: len(control_obs)]), var=var.copy()),
        AnnData(expression[rows].astype(np.float32), obs=obs.set_axis(names[len(control_obs) :]), var=var.copy()),
    ]
    joined = ad.concat(parts, join="outer", merge="same")
    frame = _frame(joined)[list(obs.columns)].copy()
    for column in obs.columns.difference(control_obs.columns):
        if pd.api.types.is_integer_dtype(obs[column]):  # missing in the controls, which only Int64 can say
            frame[column] = frame[column].astype("Int64")
    joined.obs = frame
    joined.uns = deepcopy(dict(predicted.uns))
    return joined


def delta_table(
    adata: AnnData,
    *,
    control: str | AnnData = "control",
    perturbation_key: str = "perturbation",
    groupby: str | Sequence[str] | None = None,
    dosage_key: str | None = None,
    layer: str | None = None,
) -> AnnData:
    """Tabulate the mean shift of every condition against the shared controls of its context.

    A condition is a perturbation, at a dosage if there are several, in a context. The table is a perturbation space in
    the sense of pertpy: it equals the mean of ``pertpy.tools.PseudobulkSpace`` after ``compute_control_diff``, less
    the row of the controls, and ``nearest_perturbations`` and ``evaluate_combinations`` read it.

    Parameters
    ----------
    adata
        Predicted or measured cells. It is not written to.
    control
        Label of the control cells in ``adata``, or an AnnData of control cells, such as the one given to ``predict``.
        With an AnnData, control cells in ``adata`` are not read. Genes are matched by name.
    perturbation_key
        Column of ``obs`` with the perturbation; ``+`` joins the parts of a combination, in any order.
    groupby
        Columns of ``obs`` that make up the context, such as the cell type; one context by default.
    dosage_key
        Column of ``obs`` with the dosage.
    layer
        Key of ``layers`` with the expression of ``adata`` and of the controls; ``X`` by default. Where only the
        controls keep it in a layer, join them to the prediction first, see :func:`with_controls`.

    Returns
    -------
    P conditions x G genes, sorted by context, perturbation and dosage, with

    * ``X``: :func:`mean_shift` of the condition, float64, in the units of the expression
    * ``layers["mean"]``: mean expression of the condition, float64
    * ``obs``: the columns of the perturbation, dosage and context, ``n_cells`` and ``n_control``. Rows are called after
      the perturbation (``A+B``), followed by dosage and context where there are some (``A+B | 10 | B cells``).
    * ``var``: that of ``adata``

    Raises
    ------
    KeyError
        If a column or layer does not exist.
    ValueError
        If there are no perturbed cells, a context has no controls, a gene or a label is missing, or the expression
        holds NaN, infinite values or raw counts.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(8, n_genes=40, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> table = delta_table(adata, groupby="cell_type")
    >>> table.obs_names.tolist()
    ['pert_0 | type_0', 'pert_1 | type_0', 'pert_0 | type_1', 'pert_1 | type_1']
    >>> bool(np.allclose((table.layers["mean"] - table.X)[0], (table.layers["mean"] - table.X)[1]))  # the controls
    True
    """
    columns, given = screen_columns(control, perturbation_key, groupby, dosage_key, None)
    cells = LabelledCells(adata, columns, "adata", layer=layer)
    if not cells.rows:
        raise ValueError(
            f"`adata` has no perturbed cells: all labels of {perturbation_key!r} are {columns.control!r}. There is no "
            "shift to tabulate."
        )
    controls = shared_controls(cells, given, cells.contexts, layer=layer)
    origin = {context: controls.mean(controls.control_rows[context]) for context in cells.contexts}
    conditions = sorted(cells.rows, key=lambda each: (each.context, each.perturbation, each.dosage or 0))
    means = np.stack([cells.mean(cells.rows[each]) for each in conditions])

    first = [cells.rows[each][0] for each in conditions]
    obs = pd.DataFrame({perturbation_key: pd.Categorical([cells.label(each) for each in conditions])})
    if dosage_key is not None:
        obs[dosage_key] = [each.dosage for each in conditions]
    for key in columns.groupby:
        obs[key] = pd.Categorical(_frame(adata)[key].iloc[first].astype(str))
    obs["n_cells"] = [len(cells.rows[each]) for each in conditions]
    obs["n_control"] = [len(controls.control_rows[each.context]) for each in conditions]
    obs.index = pd.Index([each.name if columns.groupby else dosed_name(each) for each in conditions])
    shift = means - np.stack([origin[each.context] for each in conditions])
    return AnnData(shift, obs=obs, var=_frame(adata, "var").copy(), layers={"mean": means})


def shared_controls(
    cells: LabelledCells, given: AnnData | None, contexts: Collection[str], *, layer: str | None = None
) -> LabelledCells:
    """Find the control cells of some contexts.

    Parameters
    ----------
    cells
        Cells that hold the controls, unless these are given.
    given
        AnnData of control cells.
    contexts
        Contexts that need controls.
    layer
        Key of ``given.layers`` with the expression; ``X`` by default.

    Raises
    ------
    ValueError
        If a context has no controls.
    """
    found = cells
    if given is not None:
        found = LabelledCells(given, cells.columns, "control", layer=layer, var_names=cells.var_names)
    missing = sorted(set(contexts) - found.control_rows.keys())
    if missing:
        columns = cells.columns
        where = f" for {shorten(missing)}" if columns.groupby else ""
        raise ValueError(
            f"`{found.what}` has no control cells ({columns.perturbation_key!r} equal to {columns.control!r}){where}. "
            "Name their label with `control=`, or give cells that hold controls of every context."
        )
    return found


def cell_blocks(cells: LabelledCells, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Read cells as dense float32 blocks of at most 4096 cells.

    Parameters
    ----------
    cells
        Cells.
    rows
        Which of them, in this order.
    """
    for start in range(0, len(rows), _BLOCK_CELLS):
        yield cells.gather(rows[start : start + _BLOCK_CELLS])


def dosed_name(condition: Condition) -> str:
    """Perturbation and dosage of a condition, without its context.

    Parameters
    ----------
    condition
        Condition; its dosage may be ``None``.
    """
    dosage = "" if condition.dosage is None else f"{NAME_SEPARATOR}{dosage_name(condition.dosage)}"
    return condition.perturbation + dosage


def _frame(adata: AnnData, axis: str = "obs") -> pd.DataFrame:
    """``obs`` or ``var`` as the data frame that it is in memory."""
    return getattr(adata, axis)
