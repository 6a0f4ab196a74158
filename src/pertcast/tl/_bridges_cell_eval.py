"""Scores of cell-eval, with the controls of both sides forced to be the measured ones."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique

from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._predicted import PredictedCells
from pertcast.tl._bridges import cell_blocks, dosed_name, shared_controls
from pertcast.tl._labelled import LabelledCells, screen_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Profile", "run_cell_eval", "to_cell_eval"]

logger = logging.getLogger(__name__)

Profile = Literal["full", "minimal", "vcc", "de", "anndata", "pds"]

#: cell-eval takes values in [0, 15) for log1p, and a matrix without a fraction above 0.001 for counts.
_UPPER_BOUND = 15.0
_FRACTION = 1e-3


class _Population(NamedTuple):
    """Cells with one label."""

    label: str
    cells: LabelledCells
    rows: np.ndarray
    clip: bool = False


def to_cell_eval(
    real: AnnData,
    predicted: AnnData,
    *,
    control: str | AnnData = "control",
    perturbation_key: str = "perturbation",
    groupby: str | Sequence[str] | None = None,
    context: str | None = None,
    dosage_key: str | None = None,
    layer: str | None = None,
    clip: bool = False,
) -> tuple[AnnData, AnnData]:
    """Make the two AnnData that ``cell_eval.MetricsEvaluator`` compares, for one context.

    Both have the same genes in the same order, the same perturbations, and the same measured control cells: those of
    a prediction are never used, because its scores would change with them.

    Parameters
    ----------
    real
        Measured cells: perturbed ones, and controls where ``control`` is a label. It is not written to.
    predicted
        Predicted cells, expression in ``X``. Genes are matched by name. Control cells, and perturbations that were not
        measured in the context, are left out.
    control
        Label of the control cells in ``real``, or an AnnData of control cells.
    perturbation_key
        Column of ``obs`` with the perturbation; ``+`` joins the parts of a combination, in any order.
    groupby
        Columns of ``obs`` that make up the context, such as the cell type; one context by default.
    context
        The context to compare, such as ``"B cells"``, with several columns ``"B cells | donor_1"``. It is needed where
        ``real`` has perturbed cells of several contexts: cell-eval compares one at a time.
    dosage_key
        Column of ``obs`` with the dosage. Every dosage becomes a perturbation of its own, ``"A | 10"``.
    layer
        Key of ``layers`` with the expression of the measured cells; ``X`` by default.
    clip
        Whether to set negative predicted values, which cell-eval does not take, to 0. This changes the means, so the
        scores are no longer those of the same prediction in :func:`evaluate`.

    Returns
    -------
    The measured and the predicted side: log1p expression in ``X``, float32, sparse (CSR) if that of ``real`` is
    sparse, and ``obs`` with the perturbation and the context.

    Raises
    ------
    KeyError
        If a column or layer does not exist.
    ValueError
        If the context is not known or not given, has no controls or lacks predictions of a measured perturbation,
        genes are missing, or values are not log1p expression in [0, 15).

    Notes
    -----
    The evaluator takes the prediction first: name the arguments, as in
    ``MetricsEvaluator(adata_real=real, adata_pred=predicted, control_pert="control", pert_col="perturbation")``.

    The control cells of a context are shared by all of its perturbations: there is no matching of batches.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=40, n_perturbations=2, combinations=0, seed=0)
    >>> real, predicted = to_cell_eval(adata[::2], adata[1::2], groupby="cell_type", context="type_2")
    >>> real.obs["perturbation"].value_counts().sort_index().to_dict()
    {'control': 30, 'pert_0': 30, 'pert_1': 30}
    """
    columns, given = screen_columns(control, perturbation_key, groupby, dosage_key, None)
    measured = LabelledCells(real, columns, "real", layer=layer)
    context = _choose(context, measured)
    controls = shared_controls(measured, given, [context], layer=layer)
    forecast = LabelledCells(predicted, columns, "predicted", var_names=measured.var_names)
    conditions = sorted(condition for condition in measured.rows if condition.context == context)
    missing = [condition.name for condition in conditions if condition not in forecast.rows]
    if missing:
        raise ValueError(
            f"There are no predicted cells of {shorten(missing)}, but cell-eval needs the same perturbations on both "
            "sides. Predict them, or leave them out of `real`."
        )
    if predicted.uns.get("pertcast", {}).get("is_point", False):
        logger.warning(
            "All predicted cells of a condition are equal, so what cell-eval reports on differential expression and on "
            "the energy distance is meaningless for this prediction. Read its metrics of means only."
        )
    shared = _Population(columns.control, controls, controls.control_rows[context])
    truth = [_Population(dosed_name(each), measured, measured.rows[each]) for each in conditions]
    guess = [_Population(dosed_name(each), forecast, forecast.rows[each], clip) for each in conditions]
    obs = {key: str(real.obs[key].iloc[truth[0].rows[0]]) for key in columns.groupby}
    is_sparse = sp.issparse(real.X if layer is None else real.layers[layer])
    first, second = (_side([shared, *each], obs, key=perturbation_key, is_sparse=is_sparse) for each in (truth, guess))
    return first, second


def run_cell_eval(
    real: AnnData,
    predicted: AnnData,
    *,
    control: str | AnnData = "control",
    perturbation_key: str = "perturbation",
    groupby: str | Sequence[str] | None = None,
    dosage_key: str | None = None,
    layer: str | None = None,
    clip: bool = False,
    profile: Profile = "full",
    skip_metrics: Sequence[str] = (),
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Score a prediction with cell-eval (Adduri et al., bioRxiv 2025.06.26.661135), context by context.

    It needs the package ``cell-eval``: ``pip install cell-eval``. The measured controls stand on both sides,
    and a metric that fails is an error, where cell-eval itself drops it from its table. Nothing is written to disk.

    Parameters
    ----------
    real, predicted, control, perturbation_key, groupby, dosage_key, layer, clip
        As for :func:`to_cell_eval`. All contexts with measured perturbed cells are scored.
    profile
        Group of metrics of cell-eval.
    skip_metrics
        Names of metrics to leave out, as cell-eval calls them.
    n_jobs
        Threads for differential expression; -1 for all cores.

    Returns
    -------
    One row for each context, perturbation and metric, with columns of these names and ``value``. A metric that
    cell-eval leaves out because no perturbation of a context has a value, such as ``de_direction_match`` without
    significant genes, has no rows there.

    ``pearson_delta``, ``mse`` and ``mae`` equal :func:`shift_pearson` against the controls, :func:`mean_squared_error`
    and :func:`mean_absolute_error`. A metric over all perturbations, such as ``pearson_edistance``, is repeated for
    each of them.

    Raises
    ------
    ImportError
        If cell-eval is not installed.
    KeyError, ValueError
        As :func:`to_cell_eval`.

    Notes
    -----
    The clustering of cell-eval needs at least three perturbations in a context and fails with two: leave it out with
    ``skip_metrics=["clustering_agreement"]``, or choose the profile ``"minimal"``.

    Examples
    --------
    A perfect prediction identifies every perturbation:

    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=40, n_perturbations=2, combinations=0, seed=0)
    >>> scores = pc.tl.run_cell_eval(adata, adata, groupby="cell_type", profile="pds")  # doctest: +SKIP
    >>> scores["metric"].unique().tolist(), scores["value"].unique().tolist()  # doctest: +SKIP
    (['discrimination_score_l1'], [1.0])
    """
    try:
        from cell_eval import MetricsEvaluator
    except ImportError as error:
        raise ImportError("Scores of cell-eval need the package: `pip install cell-eval`.") from error

    columns, _ = screen_columns(control, perturbation_key, groupby, dosage_key, None)
    contexts = sorted(LabelledCells(real, columns, "real", layer=layer).contexts)
    tables = []
    for context in contexts:
        measured, forecast = to_cell_eval(
            real,
            predicted,
            control=control,
            perturbation_key=perturbation_key,
            groupby=groupby,
            context=context,
            dosage_key=dosage_key,
            layer=layer,
            clip=clip,
        )
        with TemporaryDirectory() as folder:
            evaluator = MetricsEvaluator(
                adata_real=measured,
                adata_pred=forecast,
                control_pert=columns.control,
                pert_col=perturbation_key,
                num_threads=n_jobs,
                outdir=str(Path(folder) / "cell_eval"),
                skip_de=profile in ("anndata", "pds"),
            )
            results, _ = evaluator.compute(
                profile=profile, skip_metrics=list(skip_metrics), write_csv=False, break_on_error=True
            )
        wide = pd.DataFrame(results.to_dict(as_series=False))
        table = wide.melt(id_vars="perturbation", var_name="metric")
        table.insert(0, "context", context)
        tables.append(table.sort_values(["perturbation", "metric"]))
    return pd.concat(tables, ignore_index=True)


def _choose(context: str | None, cells: LabelledCells) -> str:
    """Return the context to compare; raises unless it is one with perturbed cells."""
    known = sorted(cells.contexts)
    if not known:
        key, control = cells.columns.perturbation_key, cells.columns.control
        raise ValueError(f"`real` has no perturbed cells: all labels of {key!r} are {control!r}.")
    if context is None:
        if len(known) > 1:
            raise ValueError(
                f"`real` has perturbed cells of {len(known)} contexts ({shorten(known)}), and cell-eval compares one "
                "at a time. Name it with `context=`."
            )
        return known[0]
    if context not in known:
        raise ValueError(
            f"`real` has no perturbed cells of the context {context!r}.{did_you_mean(context, known)} Contexts: "
            f"{shorten(known, limit=20)}."
        )
    return context


def _side(populations: Sequence[_Population], obs: dict[str, str], *, key: str, is_sparse: bool) -> AnnData:
    """Put the populations of one side into an AnnData."""
    sizes = [len(each.rows) for each in populations]
    genes = populations[0].cells.var_names
    matrix = PredictedCells(sum(sizes), len(genes), is_sparse=is_sparse)
    has_fractions = False
    for each in populations:
        for block in cell_blocks(each.cells, each.rows):
            if each.clip:
                np.maximum(block, 0, out=block)
            _check_range(block, each)
            has_fractions |= bool((np.modf(block)[0] > _FRACTION).any())
            matrix.add(block)
    if not has_fractions:
        raise ValueError(
            f"All values of `{populations[-1].cells.what}` and its controls are whole numbers, which cell-eval would "
            "take for counts and normalise. Give log-normalised expression."
        )
    frame = pd.DataFrame({key: pd.Categorical(np.repeat([each.label for each in populations], sizes))})
    names = [name for each in populations for name in each.cells.adata.obs_names[each.rows].astype(str)]
    frame.index = make_index_unique(pd.Index(names))
    for column, value in obs.items():
        frame[column] = pd.Categorical([value] * len(frame))
    return AnnData(matrix.matrix(), obs=frame, var=pd.DataFrame(index=genes))


def _check_range(block: np.ndarray, population: _Population) -> None:
    """Raise unless all values are in the range that cell-eval takes for log1p expression."""
    low, high = block.min(), block.max()
    if low >= 0 and high < _UPPER_BOUND:
        return
    position = np.argmin(block) if low < 0 else np.argmax(block)
    gene = population.cells.var_names[position % block.shape[1]]
    if low >= 0:
        fix = "Check that it is log1p of normalised counts and, if it is predicted, that training converged."
    elif population.cells.what == "predicted":
        fix = (
            "Set negative predicted values to 0 with `clip=True` (this changes the means that are scored), or score "
            "the prediction with `evaluate`."
        )
    else:
        fix = "Measurements that can be negative, such as scaled expression, cannot be scored by cell-eval."
    raise ValueError(
        f"cell-eval takes log1p expression in [0, {_UPPER_BOUND:g}), but `{population.cells.what}` holds "
        f"{low if low < 0 else high:.4g} for gene {gene!r} in cells of {population.label!r}. {fix}"
    )
