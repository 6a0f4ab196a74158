"""Drugs that were never measured, predicted from their structures."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import pertcast as pc

from .conftest import QUICK

#: What an alkane carries decides which genes respond, its length how strongly.
GROUPS = {"alcohol": "O", "acid": "C(=O)O", "amine": "N", "phenyl": "c1ccccc1", "thiol": "S", "nitrile": "C#N"}
LENGTHS = range(2, 7)
N_GENES, N_CELLS = 24, 40
UNSEEN = ["acid_4", "phenyl_3", "thiol_5"]


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """Mean shift of each drug."""
    directions = np.random.default_rng(0).normal(size=(len(GROUPS), N_GENES))
    return pd.DataFrame(
        {
            f"{group}_{length}": (1 + 0.2 * length) * direction
            for group, direction in zip(GROUPS, directions, strict=True)
            for length in LENGTHS
        }
    ).T


def simulate(truth: pd.DataFrame, drugs: list[str]) -> ad.AnnData:
    rng = np.random.default_rng(1)
    labels = ["control"] * 3 * N_CELLS + [drug for drug in drugs for _ in range(N_CELLS)]
    shift = truth.reindex(labels).fillna(0).to_numpy()
    X = (shift + rng.normal(size=shift.shape)).astype(np.float32)
    return ad.AnnData(X, obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(X))]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["morgan", "descriptors"])
def test_unseen_drugs_are_predicted_from_their_structure(kind: Any, truth: pd.DataFrame) -> None:
    smiles = {f"{group}_{length}": "C" * length + tail for group, tail in GROUPS.items() for length in LENGTHS}
    measured = [drug for drug in truth.index if drug not in UNSEEN]
    adata = simulate(truth, measured)
    adata.uns["structure"] = pc.data.drug_embedding(smiles, kind=kind, n_bits=256)
    pc.ConditionalMonge.setup_anndata(adata, perturbation_embedding_key="structure")
    model = pc.ConditionalMonge(adata, n_latent=20, set_size=32, n_controls=32, n_sets=8, learning_rate=5e-3, seed=0)
    model.train(max_epochs=10, steps_per_epoch=50, validation_size=0, **QUICK)
    controls = adata[(adata.obs["perturbation"] == "control").to_numpy()].copy()
    predicted = model.predict(controls, UNSEEN, progressbar=False)
    mean_shift = truth.loc[measured].mean()
    for drug in UNSEEN:
        cells = predicted[(predicted.obs["perturbation"] == drug).to_numpy()].X
        shift = np.asarray(cells).mean(0) - np.asarray(controls.X).mean(0)
        error = np.linalg.norm(shift - truth.loc[drug])
        assert error < 0.5 * np.linalg.norm(mean_shift - truth.loc[drug]), drug
        assert np.corrcoef(shift, truth.loc[drug])[0, 1] > 0.9
        assert np.asarray(cells).std(0).mean() == pytest.approx(1, rel=0.2)
