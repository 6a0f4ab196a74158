"""``pertcast benchmark``: models and baselines on a screen of the user."""

from __future__ import annotations

import inspect
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pertcast as pc
from pertcast.data._matrix_checks import looks_like_counts
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import pandas as pd
    from anndata import AnnData

__all__ = ["BenchmarkOptions", "format_summary", "run_benchmark"]

HEADLINE = ("energy_distance", "gene_wasserstein", "shift_pearson", "discrimination_score", "de_overlap")
"""Metrics that are printed; the files hold all."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of ``pertcast benchmark``, as on the command line."""

    perturbation_key: str = "perturbation"
    control: str = "control"
    cell_type_key: str | None = None
    batch_key: str | None = None
    dosage_key: str | None = None
    embedding_key: str | None = None
    layer: str | None = None
    normalize: bool = False
    split: Any = "context"
    hold_out: list[str] | None = None
    test_size: float = 0.2
    split_key: str | None = None
    models: tuple[str, ...] | list[str] = ("PerturbDiff",)
    baselines: list[str] | None = None
    metrics: list[str] | None = None
    max_epochs: int | None = None
    n_jobs: int = 1
    seed: int = 0


def run_benchmark(file: Path, out: Path, options: BenchmarkOptions) -> pd.DataFrame:
    """Hold conditions of a screen out, train, predict, score, and write the results.

    Parameters
    ----------
    file
        AnnData with control and perturbed cells.
    out
        Existing folder for ``scores.csv``, ``summary.csv``, a plot of each headline metric, and the predicted cells of
        each model.
    options
        Options of the command line.

    Returns
    -------
    The table of ``summary.csv``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the file holds no AnnData or no expression, a column or name is unknown, options exclude each other, or the
        data do not fit.
    """
    import scanpy as sc

    if options.normalize and options.layer is not None:
        raise ValueError(
            f"--normalize brings X to log-normalised values, but --layer {options.layer} is read in place of X. Leave "
            "out --layer if X holds the counts, or --normalize if the layer is normalised."
        )
    adata = _read(file)
    if options.layer is None and adata.X is None:
        layers = [str(name) for name in adata.layers.keys() if name is not None]
        raise ValueError(f"{file} has no X. Name a layer with --layer; there are {shorten(layers) or 'none'}.")
    if options.normalize:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    elif options.layer is None and looks_like_counts(adata.X):
        raise ValueError(
            f"{file} holds raw counts, but log-normalised values are expected. Add --normalize, which brings cells to "
            "10,000 counts and takes log1p, or name a normalised layer with --layer."
        )
    keys: dict[str, Any] = {
        name: getattr(options, name) for name in ("perturbation_key", "control", "cell_type_key", "batch_key")
    }
    keys["dosage_key"] = options.dosage_key
    split_key = options.split_key or _split(adata, options, keys)
    setup = {**keys, "layer": options.layer, "perturbation_embedding_key": options.embedding_key}
    known = _concrete(pc.baselines)
    names = [name for name in options.models if name not in known]
    extra = [name for name in options.models if name in known]
    models = {name: _model(name) for name in names}
    baselines: Any = "all" if options.baselines is None else [*options.baselines, *extra]
    predictions: dict[str, AnnData] = {}
    with redirect_stdout(sys.stderr):  # progress bars; tables alone can be piped into a file
        scores = pc.tl.benchmark(
            models,
            adata,
            split_key=split_key,
            setup={name: value for name, value in setup.items() if value is not None},
            metrics=options.metrics,
            baselines=baselines,
            train_kwargs={} if options.max_epochs is None else {"max_epochs": options.max_epochs},
            n_jobs=options.n_jobs,
            seed=options.seed,
            predictions=predictions,
        )
    summary = pc.tl.summarize(scores, seed=options.seed)
    scores.to_csv(out / "scores.csv", index=False)
    summary.to_csv(out / "summary.csv", index=False)
    for name, predicted in predictions.items():
        predicted.write_h5ad(out / f"predicted_{name}.h5ad")
    defined = list(dict.fromkeys(scores.loc[scores["value"].notna(), "metric"]))
    shown = [metric for metric in HEADLINE if metric in defined] or defined[:3]
    for metric in shown:
        print(f"\n{metric} ({str(pc.tl.metrics().loc[metric, 'better'])} is better)\n{format_summary(summary, metric)}")
        _plot(scores, metric, out / f"{metric}.png")
    print(f"\nWrote scores.csv, summary.csv, {len(predictions)} predictions and {len(shown)} plots to {out}.")
    return summary


def format_summary(summary: pd.DataFrame, metric: str) -> str:
    """Lay out one metric as text, the best model first.

    Parameters
    ----------
    summary
        Table of :func:`pertcast.tl.summarize`.
    metric
        Metric to show.
    """
    chosen = summary[summary["metric"] == metric].sort_values("loss")
    columns = ["model", "role", "mean", "low", "high", "n_conditions", "normalised"]
    return chosen[columns].to_string(index=False, float_format="{:.3f}".format, na_rep="-")


def _read(file: Path) -> AnnData:
    """Read an AnnData, or say that the file holds none."""
    import anndata as ad

    if file.suffix == ".h5mu":
        raise ValueError(
            f"{file} holds a MuData, but an AnnData (.h5ad) is expected. Write one modality to a file of its own: "
            "`mdata['rna'].write_h5ad(...)`."
        )
    try:
        return ad.read_h5ad(file)
    except Exception as error:  # what reading raises depends on how the file differs
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{file} cannot be read as an AnnData (.h5ad): {reason}") from error


def _split(adata: AnnData, options: BenchmarkOptions, keys: dict[str, Any]) -> str:
    """Label the cells, in a column that is not there yet."""
    name = "split"
    while name in adata.obs:
        name = f"pertcast_{name}"
    hold_out: Any = options.hold_out
    if options.split == "dosage" and hold_out is not None:
        hold_out = [float(value) for value in hold_out]
    if options.split == "condition" and hold_out is not None:
        hold_out = [_condition(value) for value in hold_out]
    pc.pp.split(
        adata, options.split, hold_out=hold_out, test_size=options.test_size, seed=options.seed, key_added=name, **keys
    )
    return name


def _condition(value: str) -> tuple[str, ...]:
    """Perturbation, context and, where it is given, dosage of a condition to hold out."""
    parts = tuple(part.strip() for part in value.split("|"))
    if len(parts) not in (2, 3):
        raise ValueError(
            f"--hold-out {value!r} names no condition. With --split condition write 'PERTURBATION | CONTEXT', or "
            "'PERTURBATION | CONTEXT | DOSAGE', in quotes."
        )
    return parts


def _model(name: str) -> type:
    models = _concrete(pc.model)
    if name not in models:
        known = [each for each in models if hasattr(getattr(pc.model, each), "predict")]
        raise ValueError(
            f"Unknown model {name!r}. Models: {', '.join(known)}; baselines: {', '.join(_concrete(pc.baselines))}."
        )
    return getattr(pc.model, name)


def _concrete(package: ModuleType) -> list[str]:
    """Names of the classes of a package that are not bases of others."""
    return [name for name in package.__all__ if not inspect.isabstract(getattr(package, name))]


def _plot(scores: pd.DataFrame, metric: str, path: Path) -> None:
    """Plot one metric: a point for each condition and model."""
    from matplotlib.figure import Figure

    n_models = scores["model"].nunique()
    ax = Figure(figsize=(6, 0.6 + 0.35 * n_models), layout="constrained").subplots()
    pc.pl.scores(scores, metric, ax=ax, save=path)
