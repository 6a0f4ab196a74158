from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem

import pertcast as pc

DRUGS = {
    "ethanol": "CCO",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "benzene": "c1ccccc1",
}
SALT = {"salt": "[Na+].[Cl-]"}


def test_fingerprints_are_those_of_the_molecule_and_not_of_its_spelling() -> None:
    table = pc.data.drug_embedding({**DRUGS, "spirit": "OCC"})
    assert table.shape == (5, 2048)
    assert list(table.index) == [*DRUGS, "spirit"]
    assert set(np.unique(table)) == {0, 1}
    np.testing.assert_array_equal(table.loc["ethanol"], table.loc["spirit"])
    # Ethanol: three atoms, and the two neighbourhoods of its ends and that of its middle; none larger is new.
    assert table.loc["ethanol"].sum() == 6
    assert table.loc["benzene"].sum() == 3


def test_similarity_is_that_of_rdkit() -> None:
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    table = pc.data.drug_embedding(DRUGS, radius=3, n_bits=512)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=3, fpSize=512)
    a, b = (generator.GetFingerprint(Chem.MolFromSmiles(DRUGS[name])) for name in ("aspirin", "benzene"))
    both = (table.loc["aspirin"] * table.loc["benzene"]).sum()
    either = np.maximum(table.loc["aspirin"], table.loc["benzene"]).sum()
    assert both / either == pytest.approx(DataStructs.TanimotoSimilarity(a, b))


def test_descriptors_are_scaled_and_know_the_weight_of_molecules(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = pc.data.drug_embedding(pd.Series(DRUGS), kind="descriptors")
    assert not caplog.records
    np.testing.assert_allclose(table.mean(), 0, atol=1e-5)
    np.testing.assert_allclose(table.std(ddof=0), 1, atol=1e-5)
    weights = np.array([46.069, 180.159, 194.194, 78.114])
    np.testing.assert_allclose(table["MolWt"], (weights - weights.mean()) / weights.std(), atol=1e-3)
    assert "NumRadicalElectrons" not in table  # 0 for all
    assert np.isfinite(table.to_numpy()).all()


def test_what_is_not_finite_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = pc.data.drug_embedding(DRUGS | SALT, kind="descriptors")
    assert np.isfinite(table.to_numpy()).all()
    assert "'BCUT2D_MWHI'" in caplog.text
    assert "'salt'" in caplog.text
    assert "aspirin" not in caplog.text
    assert "BCUT2D_MWHI" not in table
    assert "BCUT2D_MWHI" in pc.data.drug_embedding(DRUGS, kind="descriptors")


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        (DRUGS | {"bad one": "C(("}, "cannot read the SMILES of .*bad one"),
        (DRUGS | {"nothing": ""}, "No SMILES given for 'nothing'"),
        (DRUGS | {"nothing": np.nan}, "No SMILES given for 'nothing'"),
        (pd.Series(["CCO", "CCC"], index=["a", "a"]), "names 'a' more than once"),
        ({}, "is empty"),
    ],
)
def test_bad_structures(smiles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pc.data.drug_embedding(smiles)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="dict or a Series"):
        pc.data.drug_embedding(["CCO"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`kind` is 'maccs'"):
        pc.data.drug_embedding(DRUGS, kind="maccs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="No descriptor differs"):
        pc.data.drug_embedding({"a": "CCO", "b": "OCC"}, kind="descriptors")


def test_drugs_of_a_real_screen() -> None:
    data = Path(os.environ.get("PERTCAST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = data.parent / "side" / "sciplex3_drug_smiles.csv"
    if not file.exists():
        pytest.skip(f"{file} not found")
    smiles = pd.read_csv(file, header=None, index_col=0)[1].drop("control")
    assert pc.data.drug_embedding(smiles).shape == (187, 2048)
    table = pc.data.drug_embedding(smiles, kind="descriptors")
    assert len(table) == 187
    assert table.shape[1] > 150
