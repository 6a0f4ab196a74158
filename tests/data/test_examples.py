"""Published screens for tutorials: forms of the files that pertpy downloads, folders and stand-ins."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pertpy as pt
import pytest
import scanpy as sc
from scipy import sparse

import pertcast as pc
from pertcast.data import example_screen

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = np.random.default_rng(0).poisson(2.0, (12, 8)).astype(np.float32)


def screen(obs: dict[str, Any], X: Any = COUNTS) -> ad.AnnData:
    names = [f"cell_{i}" for i in range(len(X))]
    return ad.AnnData(sparse.csr_matrix(X), obs=pd.DataFrame(obs, index=names).astype("category"))


def kang() -> ad.AnnData:
    """Columns as in pertpy's file; others of it do not matter."""
    return screen(
        {
            "label": ["ctrl", "stim"] * 6,
            "cell_type": ["B cells", "B cells", "NK cells"] * 4,
            "replicate": ["patient_1015", "patient_1256"] * 6,
            "cluster": list(range(12)),
        }
    )


def norman() -> ad.AnnData:
    adata = screen({"perturbation_name": ["control", "KLF1", "KLF1+MAP2K6"] * 4}, np.log1p(COUNTS))
    adata.layers["counts"] = sparse.csr_matrix(COUNTS)
    return adata


def papalexi(where: str = "rna") -> md.MuData:
    labels = {"gene_target": ["NT", "IFNGR1", "JAK2"] * 4, "replicate": ["rep1", "rep2"] * 6}
    rna = screen(labels if where == "rna" else {})
    mdata = md.MuData({"rna": rna, "adt": screen({}, COUNTS[:, :3])})
    if where == "mdata":
        mdata.obs = pd.DataFrame(labels, index=rna.obs_names)
    return mdata


def sciplex2() -> ad.AnnData:
    """As scPerturb made it: dosages are text, wells without a drug have its name, unlabelled cells neither."""
    return screen(
        {
            "perturbation": ["SAHA", "SAHA", "Dex", "Dex", "control", "control"] * 2,
            "dose_value": ["0", "0.5", "0", "100", np.nan, np.nan] * 2,
            "cell_line": ["A549"] * 12,
        }
    )


LOADERS: dict[str, Callable[[], Any]] = {
    "kang_2018": kang,
    "norman_2019": norman,
    "papalexi_2021": papalexi,
    "srivatsan_2020_sciplex2": sciplex2,
}
EXPECTED = {
    "kang_2018": (["control", "IFN-beta"] * 6, {"cell_type", "donor"}),
    "norman_2019": (["control", "KLF1", "KLF1+MAP2K6"] * 4, set()),
    "papalexi_2021": (["control", "IFNGR1", "JAK2"] * 4, {"donor"}),
    "srivatsan_2020_sciplex2": (["control", "SAHA", "control", "Dex"] * 2, {"cell_type", "dosage"}),
}


@pytest.mark.parametrize("name", LOADERS)
def test_downloaded_screens_get_one_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt.data, name, LOADERS[name])
    adata: Any = example_screen(name, sources=["download"])
    perturbations, columns = EXPECTED[name]
    assert list(adata.obs["perturbation"]) == perturbations
    assert set(adata.obs) == {"perturbation"} | columns
    assert name in adata.uns["source"]

    kept = [int(cell.removeprefix("cell_")) for cell in adata.obs_names]
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), COUNTS[kept])
    expected: Any = ad.AnnData(COUNTS[kept].copy())
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(adata.X.toarray(), expected.X, rtol=1e-5)

    keys = {f"{column}_key": column for column in ("cell_type", "dosage") if column in adata.obs}
    pc.PerturbDiff.setup_anndata(adata, **keys)  # taken as it is


def test_dosages_are_numbers_and_cells_without_a_well_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt.data, "srivatsan_2020_sciplex2", sciplex2)
    adata: Any = example_screen("srivatsan_2020_sciplex2", sources=["download"])
    assert adata.n_obs == 8
    np.testing.assert_array_equal(adata.obs["dosage"], [0, 0.5, 0, 100] * 2)


def test_labels_of_a_mudata_may_belong_to_it_or_to_the_rna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt.data, "papalexi_2021", lambda: papalexi("mdata"))
    adata: Any = example_screen("papalexi_2021", sources=["download"])
    assert list(adata.obs["perturbation"]) == EXPECTED["papalexi_2021"][0]
    assert list(adata.obs["donor"]) == ["rep1", "rep2"] * 6


def test_a_file_in_the_folder_is_normalised_by_the_counts_of_all_genes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = screen({"perturbation": ["control", "IFN-beta"] * 6, "cell_type": ["NK"] * 12, "donor": ["1"] * 12})
    adata.obs["n_counts"] = 1000.0
    adata.write_h5ad(tmp_path / "kang2018_ifnb.h5ad")
    monkeypatch.setenv("PERTCAST_DATA", str(tmp_path))
    monkeypatch.setattr(pt.data, "kang_2018", offline)
    read: Any = example_screen("kang_2018")
    np.testing.assert_allclose(read.X.toarray(), np.log1p(COUNTS * 10), rtol=1e-5)
    assert read.uns["source"] == "Kang et al. 2018, the part in kang2018_ifnb.h5ad."


def offline() -> None:
    raise ConnectionError("no route to host")


def test_without_connection_and_folder_it_is_simulated_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pt.data, "srivatsan_2020_sciplex2", offline)
    with caplog.at_level(logging.WARNING):
        adata: Any = example_screen("srivatsan_2020_sciplex2", n_top_genes=100)
    assert adata.uns["source"] == "A simulated screen in place of Srivatsan et al. 2020 (sci-Plex 2)."
    assert "The download failed (ConnectionError)" in caplog.text
    assert adata.n_vars == 100
    assert set(adata.obs) == {"perturbation", "cell_type", "donor", "dosage"}
    assert sorted(set(adata.obs["dosage"])) == [0, 0.1, 0.5, 1, 5, 10, 50, 100]


def test_genes_are_chosen_in_control_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(1).poisson(2.0, (12, 8)).astype(np.float32)
    counts[::2, 3] = [0, 20] * 3  # varies in control cells
    counts[1::2, 5] = [0, 90] * 3  # varies in stimulated cells only
    labels = {"label": ["ctrl", "stim"] * 6, "cell_type": ["B"] * 12, "replicate": ["p"] * 12}
    monkeypatch.setattr(pt.data, "kang_2018", lambda: screen(labels, counts))
    chosen = set(example_screen("kang_2018", sources=["download"], n_top_genes=2).var_names)
    assert "3" in chosen
    control = ad.AnnData(np.log1p(counts[::2] / counts[::2].sum(1, keepdims=True) * 1e4))
    assert chosen == set(
        control.var_names[sc.pp.highly_variable_genes(control, n_top_genes=2, inplace=False)["highly_variable"]]
    )


def test_errors_name_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no example 'kang'\. Use one of kang_2018, norman_2019"):
        example_screen("kang")
    with pytest.raises(ValueError, match=r"sources is \['web'\]\. Give a list with some of download, folder"):
        example_screen("kang_2018", sources=["web"])  # type: ignore[list-item]
    monkeypatch.delenv("PERTCAST_DATA", raising=False)
    monkeypatch.setattr(pt.data, "kang_2018", offline)
    with pytest.raises(FileNotFoundError, match=r"download failed .* PERTCAST_DATA names no folder\. Add 'simulation'"):
        example_screen("kang_2018", sources=["download", "folder"])
    monkeypatch.setattr(pt.data, "kang_2018", lambda: screen({"condition": ["ctrl"] * 12}))
    with pytest.raises(ValueError, match=r"Expected the columns \['cell_type', 'label', 'replicate'\] in obs, found"):
        example_screen("kang_2018", sources=["download"])
    monkeypatch.setattr(
        pt.data, "norman_2019", lambda: screen({"perturbation_name": ["control"] * 12}, np.log1p(COUNTS))
    )
    with pytest.raises(ValueError, match="Expected counts in X of Norman et al"):
        example_screen("norman_2019", sources=["download"])


@pytest.mark.parametrize("name", ["kang_2018", "norman_2019", "papalexi_2021"])
def test_files_of_the_folder_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ.get("PERTCAST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set PERTCAST_DATA to the folder with the datasets")
    monkeypatch.setenv("PERTCAST_DATA", str(folder))
    adata: Any = example_screen(name, sources=["folder"], n_top_genes=50)
    assert adata.n_vars == 50
    assert "control" in set(adata.obs["perturbation"])
    assert {"cell_type"} <= set(adata.obs) or name == "norman_2019"


@pytest.mark.internet
@pytest.mark.parametrize("name", LOADERS)
def test_downloads_have_the_expected_form(name: str) -> None:
    adata: Any = example_screen(name, sources=["download"], n_top_genes=100)
    assert adata.n_obs > 10_000
    assert (adata.obs["perturbation"] == "control").any()
