"""``pertcast demo``: the whole job on a simulated screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pertcast as pc
from pertcast._cli._demo_screen import DEFAULT, METRICS, choose_held_out, format_scores

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from pertcast._cli._demo_screen import DemoSize

__all__ = ["run_demo"]

CEILING = "noise ceiling"


def run_demo(out: Path, size: DemoSize = DEFAULT, *, seed: int = 0) -> pd.DataFrame:
    """Simulate a screen, hold conditions out, predict them from control cells, score, plot and write the results.

    The held-out cells are removed before any model is set up; they are read again only to score. Predicted and real
    cells are pooled over donors for each perturbation and cell type.

    Parameters
    ----------
    out
        Folder for ``predicted.h5ad``, ``scores.csv``, ``mean_expression.png`` and ``embedding.png``.
    size
        Size of the screen.
    seed
        Seed of the screen, of what is held out and of the models.

    Returns
    -------
    The table of ``scores.csv``: perturbation, cell_type, model, metric, value, n_real, n_predicted.
    """
    import numpy as np

    out.mkdir(parents=True, exist_ok=True)
    adata = pc.data.simulate_screen(
        size.n_cells_per_condition,
        n_genes=size.n_genes,
        n_cell_types=size.n_cell_types,
        n_donors=size.n_donors,
        n_perturbations=size.n_perturbations,
        combinations=size.n_combinations,
        effect_size=size.effect_size,
        median_counts=size.median_counts,
        seed=seed,
    )
    obs = _obs(adata)
    held_out = choose_held_out(obs, np.random.default_rng(seed))
    test = held_out.mask(obs)
    controls = adata[(obs["perturbation"] == "control").to_numpy()].copy()
    print(f"Simulated a screen of {adata.n_obs} cells and {adata.n_vars} genes.")
    print(f"Held out: all perturbed cells of {held_out.cell_type}, and {held_out.combination} everywhere.")

    models: dict[str, Any] = {
        "control": pc.baselines.NoEffect,
        "mean shift": pc.baselines.PerturbationShift,
        "weighted shift": pc.baselines.ContextWeightedShift,
        "PerturbDiff": pc.PerturbDiff,
    }
    names = sorted(obs.loc[test, "perturbation"].unique())
    predictions: dict[str, AnnData] = {}
    for name, model_class in models.items():
        print(f"\n== {name}", flush=True)
        training = adata[~test].copy()
        model_class.setup_anndata(training, cell_type_key="cell_type", batch_key="donor")
        is_baseline = model_class is not pc.PerturbDiff
        model = model_class(training) if is_baseline else model_class(training, seed=seed)
        model.train(**({} if is_baseline else {"max_epochs": size.max_epochs}))
        predicted = model.predict(controls, names, seed=seed, progressbar=not is_baseline)
        predictions[name] = predicted[held_out.mask(_obs(predicted))].copy()

    scores = _score(adata[test], controls, predictions, seed=seed)
    print("\n== Held-out conditions")
    for metric, title in METRICS.items():
        print(f"\n{title}\n{format_scores(scores, metric)}")
    print(f"\n{CEILING}: one half of the real cells against the other half.")
    print(
        "shifts: control cells plus the shift of the training cell types; for a new combination the sum of its parts."
    )
    scores.to_csv(out / "scores.csv", index=False)
    predictions["PerturbDiff"].write_h5ad(out / "predicted.h5ad")
    _plot(out, adata[test], controls, predictions["PerturbDiff"], scores)
    files = ("predicted.h5ad", "scores.csv", "mean_expression.png", "embedding.png")
    print(f"\nWrote {', '.join(files)} to {out}.")
    return scores


def _score(real: AnnData, controls: AnnData, predictions: dict[str, AnnData], *, seed: int) -> pd.DataFrame:
    """Score every model and the noise ceiling on every held-out condition; a tidy table."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    rows = []
    conditions = _obs(real)[["perturbation", "cell_type"]].astype(str).drop_duplicates()
    for perturbation, cell_type in sorted(conditions.itertuples(index=False, name=None)):
        control = _cells(controls, "control", cell_type).X
        cells = _cells(real, perturbation, cell_type).X
        cells = cells[rng.permutation(cells.shape[0])]
        half = cells.shape[0] // 2
        pairs = {name: (_cells(each, perturbation, cell_type).X, cells) for name, each in predictions.items()}
        for name, (predicted, target) in {**pairs, CEILING: (cells[:half], cells[half:])}.items():
            values = {
                "energy_distance": pc.tl.energy_distance(predicted, target),
                "shift_pearson": np.nan if name == "control" else pc.tl.shift_pearson(predicted, target, control),
            }
            counts = {"n_real": target.shape[0], "n_predicted": predicted.shape[0]}
            condition = {"perturbation": perturbation, "cell_type": cell_type, "model": name}
            rows += [{**condition, "metric": metric, "value": value, **counts} for metric, value in values.items()]
    return pd.DataFrame(rows)


def _plot(out: Path, real: AnnData, controls: AnnData, predicted: AnnData, scores: pd.DataFrame) -> None:
    """Plot the held-out condition that differs most from control."""
    from matplotlib.figure import Figure

    effect = scores[(scores["model"] == "control") & (scores["metric"] == "energy_distance")]
    perturbation, cell_type = effect.iloc[int(effect["value"].to_numpy().argmax())][["perturbation", "cell_type"]]
    cells = [
        _cells(real, perturbation, cell_type),
        _cells(predicted, perturbation, cell_type),
        _cells(controls, "control", cell_type),
    ]
    for name, plot in (("mean_expression", pc.pl.mean_expression), ("embedding", pc.pl.embedding)):
        ax = Figure(figsize=(5.5, 4.5), layout="constrained").subplots()
        plot(*cells, ax=ax, title=f"{perturbation} in {cell_type}, held out", save=out / f"{name}.png")


def _obs(adata: AnnData) -> pd.DataFrame:
    """Table of the cells, which are in memory."""
    return cast("pd.DataFrame", adata.obs)


def _cells(adata: AnnData, perturbation: str, cell_type: str) -> Any:
    """Cells of one perturbation and cell type, over all donors."""
    obs = _obs(adata)
    return adata[((obs["perturbation"] == perturbation) & (obs["cell_type"] == cell_type)).to_numpy()]
