"""Published screens for tutorials: downloaded with pertpy, read from a folder, or simulated as a stand-in."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

from pertcast.data._example_forms import EXAMPLES
from pertcast.data._matrix_checks import looks_like_counts
from pertcast.data._simulate import simulate_screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["ExampleSource", "example_screen"]

COLUMNS = ("perturbation", "cell_type", "donor", "dosage")

logger = logging.getLogger(__name__)

ExampleSource = Literal["download", "folder", "simulation"]
"""Where the cells of :func:`example_screen` come from."""


def example_screen(
    name: str,
    *,
    sources: Sequence[ExampleSource] = ("download", "folder", "simulation"),
    n_top_genes: int | None = 2000,
) -> AnnData:
    """Screen of a publication in one form, or a simulated stand-in where it cannot be had.

    Parameters
    ----------
    name
        Name of a loader of :mod:`pertpy.data`: `"kang_2018"` (interferon beta, blood cells of several donors),
        `"norman_2019"` (genes switched on in K562, one or two at a time), `"papalexi_2021"` (genes knocked out in
        THP-1, replicates) or `"srivatsan_2020_sciplex2"` (four drugs at seven doses in A549).
    sources
        Where to look, in this order. `"download"` asks pertpy, which keeps what it downloaded in scanpy's
        `settings.datasetdir`; `"folder"` reads a smaller file of the same screen from the folder that the environment
        variable `PERTCAST_DATA` names; `"simulation"` calls :func:`simulate_screen`.
    n_top_genes
        Keep so many highly variable genes, chosen in control cells only. `None` keeps all. A screen with fewer genes
        keeps all of its own.

    Returns
    -------
    AnnData
        `X` `[N, G]` is log-normalised to 10,000 counts per cell (float32, CSR), `layers["counts"]` holds the counts.
        `obs` has the columns `perturbation` (`"control"` for control cells), and, as far as the screen knows them,
        `cell_type`, `donor` (or replicate) and `dosage` (in the unit of the publication, 0 for control cells).
        `uns["source"]` is a sentence that says where the cells come from; it is logged as well.

    Raises
    ------
    ValueError
        If a name or a source is unknown.
    FileNotFoundError
        If no source has the screen; the message says why, source by source.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.example_screen("kang_2018", sources=["simulation"])
    >>> adata.uns["source"]
    'A simulated screen in place of Kang et al. 2018.'
    >>> sorted(set(adata.obs) & {"perturbation", "cell_type", "donor", "dosage"})
    ['cell_type', 'donor', 'perturbation']
    """
    if name not in EXAMPLES:
        raise ValueError(f"There is no example {name!r}. Use one of {', '.join(EXAMPLES)}.")
    if isinstance(sources, str) or not sources or not set(sources) <= set(get_args(ExampleSource)):
        raise ValueError(f"sources is {sources!r}. Give a list with some of {', '.join(get_args(ExampleSource))}.")
    failures: list[str] = []
    for source in sources:
        adata = {"download": _download, "folder": _read, "simulation": _simulate}[source](name, failures, n_top_genes)
        if adata is not None:
            log = logger.warning if source == "simulation" and len(sources) > 1 else logger.info
            log("%s", " ".join([adata.uns["source"], *failures]))
            return adata
    raise FileNotFoundError(f"No cells of {EXAMPLES[name].title}: {' '.join(failures)} Add 'simulation' to sources.")


def _download(name: str, failures: list[str], n_top_genes: int | None) -> AnnData | None:
    """The complete screen through pertpy, or `None` without a connection."""
    import pertpy

    example = EXAMPLES[name]
    try:
        raw: Any = getattr(pertpy.data, name)()
    except OSError as error:  # those of requests are OSErrors, too
        failures.append(f"The download failed ({type(error).__name__}).")
        return None
    return _normalise(example.of_download(raw), f"{example.title}, complete, from pertpy.data.{name}.", n_top_genes)


def _read(name: str, failures: list[str], n_top_genes: int | None) -> AnnData | None:
    """The file in the folder that `PERTCAST_DATA` names, or `None`."""
    example, folder = EXAMPLES[name], os.environ.get("PERTCAST_DATA")
    if example.file is None:
        failures.append("No file of it is looked for in a folder.")
    elif not folder:
        failures.append("The environment variable PERTCAST_DATA names no folder.")
    elif not (path := Path(folder) / example.file).is_file():
        failures.append(f"The folder PERTCAST_DATA has no file {example.file}.")
    else:
        raw = example.of_file(ad.read_h5ad(path))
        return _normalise(raw, f"{example.title}, the part in {example.file}.", n_top_genes)
    return None


def _simulate(name: str, _: list[str], n_top_genes: int | None) -> AnnData:
    """A simulated screen of the same form, with names of its own."""
    adata = simulate_screen(**EXAMPLES[name].stand_in)
    obs = cast("pd.DataFrame", adata.obs)
    adata.obs = obs[[column for column in COLUMNS if column != "dosage" or "dosages" in EXAMPLES[name].stand_in]]
    adata.uns["source"] = f"A simulated screen in place of {EXAMPLES[name].title}."
    is_control = (obs["perturbation"] == "control").to_numpy()
    return adata[:, _variable(adata[is_control].X, n_top_genes)].copy()


def _normalise(raw: AnnData, source: str, n_top_genes: int | None) -> AnnData:
    """Choose genes and log-normalise counts; `obs["total"]`, if any, holds the counts over all genes of a cell.

    Genes are chosen before anything of the size of the screen is made.
    """
    if not looks_like_counts(raw.X):
        raise ValueError(f"Expected counts in X of {source} Found other numbers: the file has changed.")
    counts, known = sparse.csr_matrix(raw.X), cast("pd.DataFrame", raw.obs)
    totals = known["total"].to_numpy(float) if "total" in known else np.asarray(counts.sum(axis=1), float).ravel()
    obs = known[[column for column in COLUMNS if column in known]].copy()
    for column in obs.columns.difference(["dosage"]):
        obs[column] = obs[column].astype(str).astype("category")
    is_control = (obs["perturbation"] == "control").to_numpy()
    genes = _variable(_log_normal(counts[is_control], totals[is_control]), n_top_genes)
    counts = counts[:, genes].astype(np.float32)
    var = pd.DataFrame(index=raw.var_names[genes])
    adata = ad.AnnData(_log_normal(counts, totals), obs=obs, var=var, layers={"counts": counts})
    adata.var_names_make_unique()
    adata.uns["source"] = source
    return adata


def _log_normal(counts: sparse.csr_matrix, totals: np.ndarray) -> sparse.csr_matrix:
    """Logarithm of 1 plus the counts in 10,000, float32."""
    scale = sparse.diags(1e4 / np.maximum(totals, 1.0)).astype(np.float32)
    return sparse.csr_matrix(scale @ counts.astype(np.float32)).log1p()


def _variable(X: Any, n_top_genes: int | None) -> np.ndarray:
    """Whether each gene is among the most variable ones."""
    if n_top_genes is None or n_top_genes >= X.shape[1]:
        return np.ones(X.shape[1], dtype=bool)
    table = cast("Any", sc.pp.highly_variable_genes(ad.AnnData(X), n_top_genes=n_top_genes, inplace=False))
    return table["highly_variable"].to_numpy()
