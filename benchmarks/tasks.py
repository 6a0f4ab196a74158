"""Tasks on real screens: what is held out, and how the data are read. Used by `quality.py` and `anchors.py`."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def data_file(name: str) -> Path:
    """Path of a data file; exits with a clear message where there is none."""
    folder = Path(os.environ.get("PERTCAST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    path = folder / f"{name}.h5ad"
    if not path.exists():
        sys.exit(f"{path} does not exist. Set PERTCAST_DATA to the folder with {name}.h5ad.")
    return path


def read_counts(name: str, total_key: str | None = None) -> ad.AnnData:
    """Read a screen, and bring its counts to log1p of counts per 10,000; totals may count genes that are not there."""
    adata = ad.read_h5ad(data_file(name))
    counts: Any = sp.csr_matrix(adata.X, dtype=np.float32)
    total = np.asarray(counts.sum(1)).ravel() if total_key is None else adata.obs[total_key].to_numpy(float)
    adata.X = (sp.diags_array(1e4 / np.maximum(total, 1)) @ counts).log1p().astype(np.float32).tocsr()
    return adata


@dataclass(frozen=True)
class Task:
    """A screen, the arguments of ``setup_anndata``, and its splits in a division, which is 0 in the tables."""

    name: str
    read: Callable[[], ad.AnnData]
    splits: Callable[[ad.AnnData, int], Iterator[ad.AnnData]]
    setup: dict[str, Any] = field(default_factory=dict)

    def file(self, folder: Path, split: int | str = "*", seed: int | str = "*") -> Path:
        """File with the results of one split and seed; a pattern for all of them by default."""
        return folder / f"{re.sub('[^a-z0-9]+', '-', self.name)}_{split}_{seed}.csv"


def each_context(n: int, **keys: str) -> Callable[[ad.AnnData, int], Iterator[ad.AnnData]]:
    """Hold out each of the n largest contexts with perturbed cells in turn; in the next division, the n next ones."""

    def splits(adata: ad.AnnData, division: int) -> Iterator[ad.AnnData]:
        column = keys["cell_type_key"]
        perturbed = set(adata.obs.loc[adata.obs["perturbation"] != "control", column])
        names = [name for name in adata.obs[column].value_counts().index if name in perturbed]
        for name in names[n * division : n * (division + 1)]:
            pc.pp.split(adata, "context", hold_out=[str(name)], **keys)  # type: ignore[arg-type]
            yield adata

    return splits


def folds(kind: Any, n: int, **keys: Any) -> Callable[[ad.AnnData, int], Iterator[ad.AnnData]]:
    """Hold out each fold in turn."""

    def splits(adata: ad.AnnData, division: int) -> Iterator[ad.AnnData]:
        for fold in range(n):
            pc.pp.split(adata, kind, n_folds=n, fold=fold, seed=division, **keys)
            yield adata

    return splits


def once(kind: Any, test_size: float, **keys: Any) -> Callable[[ad.AnnData, int], Iterator[ad.AnnData]]:
    """Hold out a share of the units."""

    def splits(adata: ad.AnnData, division: int) -> Iterator[ad.AnnData]:
        pc.pp.split(adata, kind, test_size=test_size, seed=division, **keys)
        yield adata

    return splits


def doubles(adata: ad.AnnData, division: int) -> Iterator[ad.AnnData]:
    """Hold out a third of the combinations at a time; their parts are seen alone or in other combinations."""
    names = sorted(name for name in adata.obs["perturbation"].unique() if "+" in name)
    order = np.random.default_rng(division).permutation(len(names))
    for third in np.array_split(order, 3):
        held = {names[i] for i in third}
        adata.obs["split"] = np.where(adata.obs["perturbation"].isin(held), "test", "train")
        adata.uns["split"] = {"kind": "combination"}
        pc.pp.check_split(adata, "split")
        yield adata


def gene_sets(adata: ad.AnnData) -> ad.AnnData:
    """Put a vector for each perturbed gene into ``uns["gene_sets"]``: in which hallmark sets it is."""
    folder = Path(os.environ.get("PERTCAST_SIDE", Path(__file__).resolve().parents[2] / "shared" / "side"))
    path = folder / "hallmark_v6.0.symbols.gmt"
    if not path.exists():
        sys.exit(f"{path} does not exist. Set PERTCAST_SIDE to the folder with the hallmark gene sets of MSigDB.")
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    members = {line[0]: set(line[2:]) for line in lines}
    names = sorted({part for name in adata.obs["perturbation"].unique() for part in name.split("+")} - {"control"})
    table = [[float(name in genes) for genes in members.values()] for name in names]
    adata.uns["gene_sets"] = pd.DataFrame(table, index=names, columns=list(members))
    return adata


def norman() -> ad.AnnData:
    """K562 cells of the CRISPR activation screen."""
    adata = read_counts("norman_mcfaline_perturbench", "ncounts_all_genes")
    return adata[(adata.obs["cell_type"] == "K562").to_numpy()].copy()


def norman_singles() -> ad.AnnData:
    """Single perturbations of K562 cells, with vectors."""
    adata = norman()
    return gene_sets(adata[~adata.obs["perturbation"].str.contains("+", regex=False).to_numpy()].copy())


def knock_downs() -> ad.AnnData:
    """The three glioblastoma lines with kinase knock-downs."""
    adata = read_counts("norman_mcfaline_perturbench", "ncounts_all_genes")
    return adata[(adata.obs["cell_type"] != "K562").to_numpy()].copy()


def papalexi() -> ad.AnnData:
    """THP-1 cells with knock-outs, with vectors."""
    return gene_sets(read_counts("papalexi2021_eccite", "n_counts"))


def stimulation() -> ad.AnnData:
    """Jurkat cells with the stimulation as perturbation, and the knocked-out gene as context."""
    adata = read_counts("datlinger2021_tcr", "ncounts_all_genes")
    adata.obs["cell_type"] = adata.obs["perturbation"].astype(str)
    adata.obs["perturbation"] = np.where(adata.obs["treatment"] == "stimulated", "stimulated", "control")
    return adata


def cytof() -> ad.AnnData:
    """Proteins of peripheral blood mononuclear cells under three stimuli."""
    return ad.read_h5ad(data_file("bodenmiller2012_cytof"))


TYPES = {"cell_type_key": "cell_type"}
VECTORS = {"perturbation_embedding_key": "gene_sets"}
KANG = {"cell_type_key": "cell_type", "batch_key": "donor"}
TASKS = (
    Task("kang, unseen cell type", lambda: read_counts("kang2018_ifnb"), each_context(5, **KANG), KANG),
    Task("kang, unseen donor", lambda: read_counts("kang2018_ifnb"), folds("donor", 5, **KANG), KANG),
    Task(
        "glioblastoma, unseen patient",
        lambda: read_counts("glioblastoma_panobinostat"),
        folds("donor", 3, batch_key="donor"),
        {"batch_key": "donor"},
    ),
    Task("norman, unseen doubles", lambda: gene_sets(norman()), doubles, VECTORS),
    Task("norman, unseen singles", norman_singles, folds("perturbation", 5), VECTORS),
    Task("norman, held-out knock-downs", knock_downs, once("condition", 0.3, **TYPES), TYPES),
    Task(
        "papalexi, unseen genes",
        papalexi,
        folds("perturbation", 5, batch_key="batch"),
        {"batch_key": "batch", **VECTORS},
    ),
    Task(
        "papalexi, unseen replicate",
        lambda: read_counts("papalexi2021_eccite", "n_counts"),
        folds("donor", 2, batch_key="batch"),
        {"batch_key": "batch"},
    ),
    Task(
        "datlinger, null effects",
        lambda: read_counts("datlinger2021_tcr", "ncounts_all_genes"),
        once("condition", 0.3, **TYPES),
        TYPES,
    ),
    Task("datlinger, stimulation", stimulation, folds("context", 5, **TYPES), TYPES),
    Task("bodenmiller, unseen cell type", cytof, folds("context", 5, **TYPES), TYPES),
    Task("bodenmiller, unseen stimulus x cell type", cytof, once("condition", 1 / 3, **TYPES), TYPES),
)
