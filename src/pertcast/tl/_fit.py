"""Training the models and baselines of a benchmark."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from scvi.utils import track

import pertcast.baselines
from pertcast.data._messages import did_you_mean
from pertcast.tl._quiet import logged_once
from pertcast.tl._sources import ModelSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.baselines import Baseline
    from pertcast.tl._sources import Role

__all__ = ["baseline_classes", "fit_models", "light_copy", "model_class"]

logger = logging.getLogger(__name__)


def baseline_classes(names: Sequence[str] | str = "all") -> dict[str, type[Baseline]]:
    """Baseline classes by name.

    Parameters
    ----------
    names
        Names in :mod:`pertcast.baselines`, or ``"all"``.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    found = {name: getattr(pertcast.baselines, name) for name in pertcast.baselines.__all__}
    known = {name: baseline for name, baseline in found.items() if not inspect.isabstract(baseline)}
    if isinstance(names, str) and names == "all":
        return known
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in known:
            raise ValueError(f"Unknown baseline {name!r}.{did_you_mean(name, known)} Known ones: {', '.join(known)}.")
    return {name: known[name] for name in wanted}


def light_copy(adata: AnnData) -> AnnData:
    """AnnData with the same expression in memory, to register without writing into that of the user.

    The matrices of a view are made anew at every access. Several copies of it share theirs if they are made from one.
    """
    layers = {name: adata.layers[name] for name in adata.layers.keys() if name is not None}
    obs: Any = adata.obs.copy()
    var: Any = adata.var.copy()
    return AnnData(X=adata.X, obs=obs, var=var, uns=dict(adata.uns), layers=layers)


def fit_models(
    models: Mapping[str, Any],
    adata: AnnData,
    setup: Mapping[str, Any],
    *,
    role: Role,
    train_kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    progressbar: bool = True,
) -> list[ModelSource]:
    """Train models on the training part of a screen.

    Parameters
    ----------
    models
        Name to a model class (or a :class:`functools.partial` of one, for other arguments), or to a model: a trained
        one is used as it is.
    adata
        Screen; it is not written to.
    setup
        Arguments of ``setup_anndata``.
    role
        Whether these are baselines.
    train_kwargs
        Arguments of ``train``.
    seed
        Seed of models that take one and have none of their own, and of their predictions.
    progressbar
        Whether to show a progress bar.

    Returns
    -------
    One source for each model. A baseline that cannot be trained on these data has the reason in its place; a model
    that cannot be trained raises.
    """
    sources, said = [], set[str]()
    shared = light_copy(adata)
    bar = track(list(models.items()), description="Training", disable=not (progressbar and models), style="tqdm")
    for name, model in bar:
        if progressbar:
            bar.set_description(f"Training {name}", refresh=False)
        try:
            with logged_once(said):
                fitted = _fit(model, light_copy(shared), setup, train_kwargs or {}, seed)
        except ValueError as error:
            if role == "model":
                raise
            logger.warning("%s could not be trained: %s", name, error)
            sources.append(ModelSource(name, None, role=role, reason=f"It could not be trained: {error}"))
            continue
        sources.append(ModelSource(name, fitted, role=role, seed=seed))
    return sources


def _fit(model: Any, adata: AnnData, setup: Mapping[str, Any], train_kwargs: Mapping[str, Any], seed: int) -> Any:
    if model_class(model) is not None:
        model_class(model).setup_anndata(adata, **setup)
        accepted = inspect.signature(model).parameters
        own = getattr(model, "keywords", {})  # of a partial
        fitted = model(adata, **({"seed": seed} if "seed" in accepted and "seed" not in own else {}))
        quiet = {"progressbar": False} if "progressbar" in inspect.signature(fitted.train).parameters else {}
        fitted.train(**{**quiet, **train_kwargs})
        return fitted
    if not hasattr(model, "train"):
        raise TypeError(f"Expected a model class or a model, but found {model!r}.")
    if not getattr(model, "is_trained_", False):
        model.train(**train_kwargs)
    return model


def model_class(model: Any) -> Any:
    """Class that a class, or a :class:`functools.partial` of one, makes models of; None for a model."""
    made_by = getattr(model, "func", model)
    return made_by if inspect.isclass(made_by) else None
