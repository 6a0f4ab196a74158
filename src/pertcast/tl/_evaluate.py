"""Evaluation of predicted against measured cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from scvi.utils import track

from pertcast.data._messages import shorten
from pertcast.tl._fit import baseline_classes, fit_models
from pertcast.tl._labelled import screen_columns
from pertcast.tl._registry import select_metrics
from pertcast.tl._score import CEILING, score_condition
from pertcast.tl._sources import AnnDataSource, NoEffectSource
from pertcast.tl._truth import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.tl._metric import Metric
    from pertcast.tl._sources import Source

__all__ = ["check_names", "evaluate", "score_sources"]

COLUMNS = (
    "task",
    "condition",
    "perturbation",
    "dosage",
    "context",
    "model",
    "role",
    "metric",
    "value",
    "n_real",
    "n_predicted",
    "reason",
)


def evaluate(
    real: AnnData,
    predicted: AnnData | Mapping[str, AnnData],
    *,
    control: str | AnnData = "control",
    train: AnnData | None = None,
    perturbation_key: str = "perturbation",
    groupby: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    dosage_key: str | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    perturbation_embedding_key: str | None = None,
    baselines: str | Sequence[str] = "all",
    task: str = "",
    max_cells: int = 1000,
    n_jobs: int = 1,
    seed: int = 0,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Score predicted cells against measured ones, beside the baselines and the noise ceiling.

    Every condition (perturbation, dosage, context) with measured perturbed cells is scored by every metric. Both sides
    share one set of measured controls: control cells in a prediction are never read, so changing them changes nothing.
    The ceiling is one random half of the measured cells against the other half. Conditions are scored one after
    another, so memory does not grow with their cells.

    Parameters
    ----------
    real
        Measured cells: perturbed ones, and controls where ``control`` is a label. It is not written to.
    predicted
        Predicted cells, or a mapping from the name of a model to its predicted cells. Genes are matched by name.
    control
        Label of control cells, or an AnnData of control cells. With a label they are looked for in ``real``, then in
        ``train``.
    train
        Training cells with their controls. The baselines are trained on them, and the centroid of perturbed cells is
        theirs; without them the only baseline is the control cells themselves.
    perturbation_key
        Column of ``obs`` with the perturbation; ``+`` joins the parts of a combination, in any order.
    groupby
        Columns of ``obs`` that make up the context, such as the cell type; one context by default.
    metrics
        Names of metrics or of groups of metrics (see :func:`metrics`); all by default.
    dosage_key
        Column of ``obs`` with the dosage.
    batch_key
        Column of ``obs`` with batch or donor: a condition is then compared with controls of its own batches, where
        there are at least five.
    layer
        Key of ``layers`` with the expression of ``real``, ``control`` and ``train``; ``X`` by default.
    perturbation_embedding_key
        Key of ``train.uns`` with vectors of perturbations, for baselines that use them.
    baselines
        Names of classes in :mod:`pertcast.baselines`, or all of them.
    task
        Name of the task, for the table.
    max_cells
        Largest number of cells of a population that are compared; more are subsampled (means use all).
    n_jobs
        Number of conditions to score at once, in threads; -1 for all cores.
    seed
        Seed of subsamples, halves and baselines.
    progressbar
        Whether to show a progress bar.

    Returns
    -------
    One row for each condition, model and metric: ``task``, ``condition``, ``perturbation``, ``dosage``, ``context``,
    ``model``, ``role`` (model, baseline or ceiling), ``metric``, ``value``, ``n_real``, ``n_predicted`` and ``reason``,
    which says why a value is NaN. :func:`summarize` averages it and adds intervals and normalised scores.

    Raises
    ------
    KeyError
        If a column does not exist.
    TypeError
        If cells are not in an AnnData, or ``max_cells`` or ``seed`` is no whole number.
    ValueError
        If names clash or are unknown, ``metrics`` is empty, ``max_cells`` is below 1 or ``seed`` below 0, genes are
        missing, an AnnData has no cells, there is nothing to score, or a context has no controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=40, n_perturbations=2, combinations=0, seed=0)
    >>> real, predicted = adata[::2], adata[1::2]
    >>> scores = evaluate(real, predicted, groupby="cell_type", metrics="shift", progressbar=False)
    >>> sorted(scores["model"].unique())
    ['NoEffect', 'ceiling', 'predicted']
    """
    wanted = select_metrics(metrics)
    if not isinstance(predicted, AnnData | Mapping):
        raise TypeError(
            "`predicted` must be an AnnData, or a mapping from the names of models to an AnnData each, but it is a "
            f"{type(predicted).__name__}."
        )
    columns, controls = screen_columns(control, perturbation_key, groupby, dosage_key, batch_key)
    candidates = [("control", controls)] if controls is not None else [("real", real)]
    if controls is None and train is not None:
        candidates.append(("train", train))
    truth = Truth(real, columns, controls=candidates, train=train, layer=layer, max_cells=max_cells, seed=seed)
    named = dict(predicted) if isinstance(predicted, Mapping) else {"predicted": predicted}
    chosen = baseline_classes(baselines) if train is not None else {}
    chosen.pop(NoEffectSource.name, None)
    check_names([*named, NoEffectSource.name, *chosen])
    setup = {
        "perturbation_key": perturbation_key,
        "control": columns.control,
        "cell_type_key": columns.groupby[0] if columns.groupby else None,
        "batch_key": batch_key,
        "categorical_covariate_keys": list(columns.groupby[1:]) or None,
        "dosage_key": dosage_key,
        "layer": layer,
        "perturbation_embedding_key": perturbation_embedding_key,
    }
    sources: list[Source] = [AnnDataSource(name, adata, truth) for name, adata in named.items()]
    sources.append(NoEffectSource())
    if train is not None:
        sources += fit_models(chosen, train, setup, role="baseline", seed=seed, progressbar=progressbar)
    return score_sources(truth, sources, wanted, task=task, n_jobs=n_jobs, progressbar=progressbar)


def score_sources(
    truth: Truth,
    sources: Sequence[Source],
    metrics: Sequence[Metric],
    *,
    task: str,
    n_jobs: int = 1,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Score sources of predicted cells on all conditions, one condition after another.

    Parameters
    ----------
    truth
        Measured side.
    sources
        Where predicted cells come from.
    metrics
        What to compute.
    task
        Name of the task.
    n_jobs
        Number of conditions at once.
    progressbar
        Whether to show a progress bar.

    Returns
    -------
    The table of :func:`evaluate`.
    """
    jobs = (delayed(score_condition)(truth, condition, sources, metrics) for condition in truth.conditions)
    results = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs)
    bar = track(results, total=len(truth.conditions), description="Evaluating", disable=not progressbar, style="tqdm")
    table = pd.DataFrame([row for rows in bar for row in rows])
    table.insert(0, "task", task)
    return table[list(COLUMNS)]


def check_names(names: Sequence[str]) -> None:
    """Raise if two sources have one name, or one has that of the ceiling.

    Parameters
    ----------
    names
        Names of models and baselines.

    Raises
    ------
    ValueError
        Naming those that clash.
    """
    repeated = sorted({name for name in names if names.count(name) > 1 or name == CEILING})
    if repeated:
        raise ValueError(
            f"The name(s) {shorten(repeated)} are taken by a baseline or the noise ceiling. Leave out what is in the "
            "table in any case, such as NoEffect, rename the prediction, or choose other `baselines`."
        )
