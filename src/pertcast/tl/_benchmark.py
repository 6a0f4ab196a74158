"""Training, predicting and evaluating models on the held-out part of a screen."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from pertcast.data._messages import shorten
from pertcast.tl._evaluate import check_names, score_sources
from pertcast.tl._fit import baseline_classes, fit_models, light_copy, model_class
from pertcast.tl._labelled import ScreenColumns
from pertcast.tl._registry import select_metrics
from pertcast.tl._request import named_models, setup_arguments
from pertcast.tl._sources import NoEffectSource, params_of
from pertcast.tl._truth import Truth
from pertcast.tl._unseen import check_unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.tl._sources import ModelSource

__all__ = ["benchmark", "train_models"]

logger = logging.getLogger(__name__)

_PER_REQUEST = ("perturbations", "dosages")


def benchmark(
    models: Mapping[str, Any] | Sequence[Any] | Any,
    adata: AnnData,
    *,
    split_key: str = "split",
    setup: Mapping[str, Any] | None = None,
    metrics: str | Sequence[str] | None = None,
    baselines: str | Sequence[str] = "all",
    train_kwargs: Mapping[str, Any] | None = None,
    task: str | None = None,
    max_cells: int = 1000,
    n_jobs: int = 1,
    seed: int = 0,
    predictions: dict[str, AnnData] | None = None,
    progressbar: bool = True,
) -> pd.DataFrame:
    """Train models on the training part of a screen and score their predictions of the test part.

    Every perturbed condition labelled ``"test"`` is predicted from control cells of its context (and batches), by all
    models, all baselines and the noise ceiling, and scored as :func:`evaluate` does.

    Parameters
    ----------
    models
        Model classes or models, one or a list of them, or a mapping from names, which several of one class need. A
        class is set up and trained here; a model that is not trained yet is trained as it is; a trained one is used,
        and must not have seen the test part.
    adata
        Screen with a split, see :func:`pertcast.pp.split`. It is not written to.
    split_key
        Column of ``obs`` with the split.
    setup
        Arguments of ``setup_anndata``, such as ``{"cell_type_key": "cell_type"}``; by default those of the models,
        those with which ``adata`` was set up, or the columns from which :func:`pertcast.pp.split` made the split.
    metrics
        Names of metrics or of groups of metrics (see :func:`metrics`); all by default.
    baselines
        Names of classes in :mod:`pertcast.baselines`; all by default.
    train_kwargs
        Arguments of ``train`` for the models that are trained here, all of which must take them. Those named in
        ``baselines`` are trained without.
    task
        Name of the task for the table; by default what the split says it holds out.
    max_cells
        Largest number of cells of a population that are compared.
    n_jobs
        Number of conditions to score at once, in threads; -1 for all cores.
    seed
        Seed of models (but of a partial with a seed of its own), predictions and subsamples.
    predictions
        A dict to put the predicted cells of each model (not of the baselines) into, under its name.
    progressbar
        Whether to show progress bars.

    Returns
    -------
    The table of :func:`evaluate`. :func:`summarize` averages it.

    Raises
    ------
    KeyError
        If a column does not exist.
    TypeError
        If something in ``models`` is no model or has no ``predict``, the ``train`` of a model does not take one of
        ``train_kwargs``, or ``max_cells`` or ``seed`` is no whole number. All this is checked before any training.
    ValueError
        If there is nothing to test, ``metrics`` is empty, ``max_cells`` is below 1 or ``seed`` below 0, names clash, or
        data do not fit.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(12, n_genes=40, n_perturbations=2, combinations=0, seed=0)
    >>> pc.pp.split(adata, "context", cell_type_key="cell_type", seed=0)
    >>> scores = benchmark(
    ...     pc.baselines.PerturbationShift,
    ...     adata,
    ...     setup={"cell_type_key": "cell_type"},
    ...     baselines=["PerturbedMean"],
    ...     metrics="shift",
    ...     progressbar=False,
    ... )
    >>> sorted(scores["model"].unique())
    ['NoEffect', 'PerturbationShift', 'PerturbedMean', 'ceiling']
    """
    wanted = select_metrics(metrics)
    truth, sources = train_models(
        models,
        adata,
        split_key=split_key,
        setup=setup,
        baselines=baselines,
        train_kwargs=train_kwargs,
        max_cells=max_cells,
        seed=seed,
        progressbar=progressbar,
    )
    name = _task_name(adata, split_key) if task is None else task
    for source in sources:
        if predictions is not None and source.role == "model":
            source.kept = {}
    scores = score_sources(
        truth,
        [*sources, NoEffectSource()],
        wanted,
        task=name,
        n_jobs=n_jobs,
        progressbar=progressbar,
    )
    if predictions is not None:
        for source in sources:
            if source.kept:  # in the order of conditions, whichever was predicted first
                parts = [source.kept[condition] for condition in truth.conditions if condition in source.kept]
                predictions[source.name] = _joined(parts, adata)
    return scores


def train_models(
    models: Mapping[str, Any] | Sequence[Any] | Any,
    adata: AnnData,
    *,
    split_key: str,
    setup: Mapping[str, Any] | None,
    baselines: str | Sequence[str],
    train_kwargs: Mapping[str, Any] | None,
    max_cells: int,
    seed: int,
    progressbar: bool,
) -> tuple[Truth, list[ModelSource]]:
    """Do the first half of :func:`benchmark`: the measured test part, and the trained models and baselines.

    Parameters
    ----------
    models, adata, split_key, setup, baselines, train_kwargs, max_cells, seed, progressbar
        As in :func:`benchmark`.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"`adata` must be an AnnData, but it is a {type(adata).__name__}.")
    if adata.is_view:
        adata = light_copy(adata)  # a view makes its matrix anew at every access
    named = named_models(models)
    for name, model in named.items():
        _check_model(name, model, train_kwargs or {})
    chosen = baseline_classes(baselines)
    chosen.pop(NoEffectSource.name, None)
    chosen = {name: each for name, each in chosen.items() if name not in named}
    check_names([*named, NoEffectSource.name, *chosen])
    if split_key not in adata.obs:
        raise KeyError(f"adata.obs has no column {split_key!r}; make it with `pc.pp.split`.")
    arguments = {**setup_arguments(named, adata, setup, split_key), "split_key": split_key}
    test, train = _parts(adata, split_key, arguments)
    for name, model in named.items():
        if model_class(model) is None:
            check_unseen(name, model, adata[test], split_key)
    truth = Truth(
        adata,
        _columns(arguments),
        controls=[("adata", adata)],
        train=adata,
        layer=arguments.get("layer"),
        max_cells=max_cells,
        seed=seed,
        real_among=test,
        train_among=train,
    )
    fit: dict[str, Any] = {"seed": seed, "progressbar": progressbar}
    screen = light_copy(adata)
    sources = fit_models(named, screen, arguments, role="model", train_kwargs=train_kwargs, **fit)
    return truth, sources + fit_models(chosen, screen, arguments, role="baseline", **fit)


def _check_model(name: str, model: Any, train_kwargs: Mapping[str, Any]) -> None:
    """Raise unless something can be trained with these arguments, and predicts."""
    cls = model_class(model)
    needed = ("train", "predict") if cls is None else ("setup_anndata", "train", "predict")
    missing = [each for each in needed if not hasattr(cls or model, each)]
    if missing:
        raise TypeError(
            f"`models` must hold model classes or models that predict cells, but {name!r} is {model!r}, which has no "
            f"{shorten(missing)}. Leave it out."
        )
    if cls is None and getattr(model, "is_trained_", False):
        return
    parameters = inspect.signature((cls or model).train).parameters
    stray = [each for each in train_kwargs if each not in parameters]
    if stray and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise TypeError(
            f"`train_kwargs` holds {shorten(stray)}, which the `train` of the model {name!r} does not take. Leave it "
            "out, give that model trained, or name it in `baselines`, which are trained without `train_kwargs`."
        )


def _columns(arguments: Mapping[str, Any]) -> ScreenColumns:
    contexts = [arguments.get("cell_type_key"), *(arguments.get("categorical_covariate_keys") or [])]
    return ScreenColumns(
        arguments.get("perturbation_key", "perturbation"),
        arguments.get("control", "control").strip(),
        tuple(key for key in contexts if key is not None),
        arguments.get("dosage_key"),
        arguments.get("batch_key"),
    )


def _parts(adata: AnnData, split_key: str, arguments: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which cells are perturbed ones of the test part, and which belong to training (controls always do)."""
    obs: Any = adata.obs
    key = arguments.get("perturbation_key", "perturbation")
    if key not in obs:
        raise KeyError(f"adata.obs has no column {key!r}; name it in `setup`.")
    labels = obs[split_key].astype(str).str.strip().str.casefold()
    perturbed = (obs[key].astype(str).str.strip() != arguments.get("control", "control").strip()).to_numpy()
    test = (labels == "test").to_numpy() & perturbed
    if not test.any():
        raise ValueError(
            f"No perturbed cell is labelled 'test' in adata.obs[{split_key!r}], which holds "
            f"{shorten(sorted(labels.unique()))}. Hold conditions out with `pc.pp.split`."
        )
    return test, ~perturbed | (labels != "test").to_numpy()


def _joined(parts: list[AnnData], adata: AnnData) -> AnnData:
    """All predicted cells of a model; the conditions are in the order of their contexts and perturbations."""
    first = 0
    for part in parts:
        part.obs_names = [str(number) for number in range(first, first + part.n_obs)]
        first += part.n_obs
    joined = anndata.concat(parts, merge="first", uns_merge="first")
    obs: Any = parts[0].obs
    for column in obs:
        if getattr(obs[column].dtype, "ordered", False):  # which concat loses where the parts have other categories
            joined.obs[column] = joined.obs[column].astype(adata.obs[column].dtype).cat.remove_unused_categories()
    asked = {name: [each for part in parts for each in params_of(part).get(name, ())] for name in _PER_REQUEST}
    requests = pd.DataFrame({name: values for name, values in asked.items() if values}).drop_duplicates()
    params_of(joined).update({str(name): np.array(values.tolist()) for name, values in requests.items()})
    return joined


def _task_name(adata: AnnData, split_key: str) -> str:
    """What the split holds out, if it says so."""
    record = adata.uns.get(split_key)
    return str(record.get("kind", split_key)) if isinstance(record, Mapping) else split_key
