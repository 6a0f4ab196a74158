"""Does the judge order predictions of known quality? Impostors on a simulated screen and on real ones.

python benchmarks/judge.py [--out judge.md]

Half of the perturbed cells are measured; the other half, which nobody measured, is the oracle's prediction. Beside it:
the control cells, the mean of all perturbed cells, the same with noise, and real cells under the name of another
perturbation. The last line of each table repeats the oracle with its controls multiplied by five: nothing may change.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from tasks import read_counts

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = {
    "energy_distance": "lower",
    "mmd": "lower",
    "shift_pearson_specific": "higher",
    "centroid_accuracy": "higher",
    "discrimination_score": "higher",
    "shift_pearson": "higher",
    "mean_absolute_error": "lower",
    "de_direction": "higher",
}
HEADLINE = list(SHOWN)[:5]


def impostors(real: ad.AnnData, fresh: ad.AnnData) -> dict[str, ad.AnnData]:
    """Predictions of known quality."""
    perturbed = (real.obs["perturbation"] != "control").to_numpy()
    mean = np.asarray(real.X[perturbed].mean(0)).ravel()
    spread = float(np.std(fresh.X.toarray()))
    constant, noisy, shuffled = fresh.copy(), fresh.copy(), fresh.copy()
    constant.X = np.tile(mean, (fresh.n_obs, 1)).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(fresh.shape) * spread
    noisy.X = np.maximum(constant.X + noise, 0).astype(np.float32)
    names = sorted(fresh.obs["perturbation"].unique())
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    shuffled.obs["perturbation"] = fresh.obs["perturbation"].astype(str).map(following)
    controls: Any = real[~perturbed].copy()
    controls.X = controls.X * 5
    return {
        "oracle (fresh cells)": fresh,
        "constant mean": constant,
        "constant mean + noise": noisy,
        "shuffled labels": shuffled,
        "oracle, tampered controls": ad.concat([fresh, controls], index_unique="-"),
    }


def judge(adata: ad.AnnData, n_perturbations: int) -> pd.DataFrame:
    """Score the impostors on the perturbations with the strongest responses."""
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    control_mean = np.asarray(adata.X[~perturbed].mean(0)).ravel()
    size = {
        name: np.linalg.norm(np.asarray(adata.X[(adata.obs["perturbation"] == name).to_numpy()].mean(0)) - control_mean)
        for name in adata.obs.loc[perturbed, "perturbation"].unique()
    }
    chosen = sorted(size, key=size.__getitem__, reverse=True)[:n_perturbations]
    kept = (~perturbed) | adata.obs["perturbation"].isin(chosen).to_numpy()
    adata, perturbed = adata[kept].copy(), perturbed[kept]
    first = np.random.default_rng(0).random(adata.n_obs) < 0.5
    real, fresh = adata[~perturbed | first].copy(), adata[perturbed & ~first].copy()
    scores = pc.tl.evaluate(real, impostors(real, fresh), metrics=list(SHOWN), progressbar=False)
    return scores.groupby(["model", "metric"], sort=False)["value"].mean().unstack("metric")[list(SHOWN)]


def verdict(table: pd.DataFrame) -> str:
    """Check that every headline metric puts the oracle first and that tampering changes nothing."""
    oracle = table.loc["oracle (fresh cells)"]
    same = np.allclose(oracle, table.loc["oracle, tampered controls"])
    rivals = table.drop(index=["oracle (fresh cells)", "oracle, tampered controls", "ceiling"])
    wrong = [
        metric
        for metric in HEADLINE
        if not (rivals[metric].dropna() * (1 if SHOWN[metric] == "lower" else -1)
                > oracle[metric] * (1 if SHOWN[metric] == "lower" else -1)).all()
    ]  # fmt: skip
    order = "the oracle is first in every headline metric" if not wrong else f"the oracle is not first in {wrong}"
    return f"Verdict: {order}; tampering with controls changes {'nothing' if same else 'SCORES'}."


SCREENS: dict[str, tuple[Callable[[], ad.AnnData], int]] = {
    "simulated screen": (
        lambda: pc.data.simulate_screen(
            300, n_genes=500, n_cell_types=1, n_donors=1, n_perturbations=8, combinations=0, effect_size=2,
            median_counts=3000, seed=0,
        ),
        8,
    ),
    "norman_mcfaline_perturbench, K562": (
        lambda: (lambda a: a[(a.obs["cell_type"] == "K562").to_numpy()].copy())(
            read_counts("norman_mcfaline_perturbench", "ncounts_all_genes")
        ),
        10,
    ),
    "papalexi2021_eccite": (lambda: read_counts("papalexi2021_eccite", "n_counts"), 5),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    text = []
    for name, (read, n_perturbations) in SCREENS.items():
        table = judge(read(), n_perturbations)
        header = "| | " + " | ".join(f"{metric} ({better})" for metric, better in SHOWN.items()) + " |"
        lines = [header, "|---" * (len(SHOWN) + 1) + "|"]
        lines += [
            f"| {model} | " + " | ".join("-" if pd.isna(value) else f"{value:.3f}" for value in row) + " |"
            for model, row in table.iterrows()
        ]
        text.append(f"### {name}, {n_perturbations} strongest perturbations\n\n" + "\n".join(lines))
        text.append(verdict(table) + "\n")
        print("\n".join(text[-2:]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
