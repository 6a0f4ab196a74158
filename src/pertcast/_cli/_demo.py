"""``pertcast demo``: the whole job on a simulated screen."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, cast

import pertcast as pc
from pertcast._cli._demo_screen import DEFAULT, METRICS, choose_held_out, format_scores

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from pertcast._cli._demo_screen import DemoSize

__all__ = ["run_demo"]

NAMES = {
    "NoEffect": "control",
    "PerturbationShift": "mean shift",
    "ContextWeightedShift": "weighted shift",
    "PerturbDiff": "PerturbDiff",
    "ceiling": "noise ceiling",
}
"""How the table calls what :func:`pertcast.tl.evaluate` scores."""


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
    The table of ``scores.csv``; see :func:`pertcast.tl.evaluate`.
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

    training = adata[~test].copy()
    pc.PerturbDiff.setup_anndata(training, cell_type_key="cell_type", batch_key="donor")
    model = pc.PerturbDiff(training, seed=seed)
    with redirect_stdout(sys.stderr):  # progress bars
        model.train(max_epochs=size.max_epochs)
        predicted = model.predict(controls, sorted(obs.loc[test, "perturbation"].unique()), seed=seed)
    predicted = predicted[held_out.mask(_obs(predicted))].copy()

    scores = pc.tl.evaluate(
        adata[test],
        {"PerturbDiff": predicted},
        control=controls,
        train=training,
        groupby="cell_type",
        batch_key="donor",
        metrics=list(METRICS),
        baselines=list(NAMES)[1:3],
        seed=seed,
    )
    scores = scores.replace({"model": NAMES})
    scores.insert(2, "cell_type", scores["context"])
    print("\n== Held-out conditions")
    for metric, title in METRICS.items():
        print(f"\n{title}\n{format_scores(scores, metric)}")
    print(f"\n{NAMES['ceiling']}: one half of the real cells against the other half.")
    print(
        "shifts: control cells plus the shift of the training cell types; for a new combination the sum of its parts."
    )
    scores.to_csv(out / "scores.csv", index=False)
    predicted.write_h5ad(out / "predicted.h5ad")
    _plot(out, adata[test], controls, predicted, scores)
    files = ("predicted.h5ad", "scores.csv", "mean_expression.png", "embedding.png")
    print(f"\nWrote {', '.join(files)} to {out}.")
    return scores


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
