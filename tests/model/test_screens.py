"""Bad input: clear errors, and the AnnData stays as it was. Checks of single columns are tested in tests/data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import pertcast as pc

from .conftest import QUICK, controls_of

DATA = Path(os.environ.get("PERTCAST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def real(name: str) -> Any:
    path = DATA / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"{path} does not exist; set PERTCAST_DATA to the folder with the datasets")
    return ad.read_h5ad(path)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: a[(a.obs["perturbation"] != "control").to_numpy()].copy(), {}, "control"),
        (lambda a: a, {"control": "ctrl"}, "ctrl"),
        (lambda a: a[(a.obs["perturbation"] == "control").to_numpy()].copy(), {}, "perturbed"),
        (lambda a: a[:50], {}, "view"),
        (lambda a: a, {"layer": "counts"}, "log1p"),
        (lambda a: _set(a, np.nan), {}, "NaN"),
        (lambda a: _set(a, np.inf), {}, "inf"),
        (lambda a: _repeat_gene(a), {}, "more than once|unique|duplicate"),
        (lambda a: a, {"cell_type_key": "celltype"}, "celltype"),
        (lambda a: _without_controls(a, "type_2"), {"cell_type_key": "cell_type"}, "type_2"),
    ],
)
def test_bad_screens(screen: Any, change: Any, options: dict[str, Any], message: str) -> None:
    adata = change(screen)
    columns, keys = list(adata.obs), sorted(adata.uns)
    with pytest.raises((ValueError, KeyError), match=message):
        pc.PerturbDiff.setup_anndata(adata, **options)
    assert list(adata.obs) == columns
    assert sorted(adata.uns) == keys


def _set(adata: Any, value: float) -> Any:
    X = adata.X.toarray()
    X[3, 4] = value
    adata.X = X
    return adata


def _repeat_gene(adata: Any) -> Any:
    adata.var_names = ["same", "same", *adata.var_names[2:]]
    return adata


def _without_controls(adata: Any, cell_type: str) -> Any:
    drop = (adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == cell_type)
    return adata[~drop.to_numpy()].copy()


def test_missing_genes_in_a_query(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")[:, 5:].copy()
    with pytest.raises(ValueError, match="5 of the 60 genes"):
        trained.predict(controls, ["pert_0"], progressbar=False)


def test_names_with_slashes_spaces_and_umlauts(screen: Any) -> None:
    names = {"pert_0": "BCR/FcR-XL", "pert_1": "Größe 2", "pert_0+pert_2": "pert_2+BCR/FcR-XL"}
    screen.obs["perturbation"] = pd.Categorical([names.get(x, x) for x in screen.obs["perturbation"]])
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    controls = controls_of(screen, "type_1")
    wanted = ["BCR/FcR-XL", "Größe 2", "BCR/FcR-XL+pert_2"]
    predicted = model.predict(controls, wanted, key_added="k", progressbar=False)
    assert set(predicted.obs["perturbation"]) == set(wanted)
    assert not any("/" in key for key in [*controls.obsm, *controls.uns])


def test_no_controls_in_the_neutrophil_data() -> None:
    adata = real("neutrophil_cytokines_nocontrol")
    with pytest.raises(ValueError, match="control"):
        pc.PerturbDiff.setup_anndata(adata)


def test_counts_are_refused_and_the_fix_works() -> None:
    adata = real("kang2018_ifnb")
    with pytest.raises(ValueError, match="log1p"):
        pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")


def test_better_than_a_mean_shift_on_cytometry() -> None:
    """A held-out (cell type, stimulus) of real cells: closer to them than the controls and than the mean shift."""
    adata = real("bodenmiller2012_cytof")
    perturbation = adata.obs["perturbation"].isin(["control", "PMA/Ionomycin"]).to_numpy()
    adata = adata[perturbation][::6].copy()
    here = (adata.obs["cell_type"] == "igm+").to_numpy()
    held = here & (adata.obs["perturbation"] != "control").to_numpy()
    controls, cells = adata[here & ~held].copy(), np.asarray(adata[held].X)
    training = adata[~held].copy()
    distance = {}
    for model_class in (pc.baselines.NoEffect, pc.baselines.PerturbationShift, pc.PerturbDiff):
        model_class.setup_anndata(training, cell_type_key="cell_type")
        model: Any = model_class(training)
        model.train(**QUICK if model_class is pc.PerturbDiff else {})
        predicted = model.predict(controls, ["PMA/Ionomycin"], progressbar=False)
        distance[model_class] = pc.tl.energy_distance(np.asarray(predicted.X), cells)
    assert distance[pc.PerturbDiff] < 0.9 * min(
        distance[pc.baselines.NoEffect], distance[pc.baselines.PerturbationShift]
    )
