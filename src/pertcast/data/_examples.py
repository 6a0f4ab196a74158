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
        adata = {"download": _download, "folder": _read, "simulation": _simulate}[source](name, failures)
        if adata is not None:
            log = logger.warning if source == "simulation" and len(sources) > 1 else logger.info
            log("%s", " ".join([adata.uns["source"], *failures]))
            return _most_variable(adata, n_top_genes)
    raise FileNotFoundError(f"No cells of {EXAMPLES[name].title}: {' '.join(failures)} Add 'simulation' to sources.")


def _download(name: str, failures: list[str]) -> AnnData | None:
    """The complete screen through pertpy, or `None` without a connection."""
    import pertpy

    try:
        raw: Any = getattr(pertpy.data, name)()
    except OSError as error:  # those of requests are OSErrors, too
        failures.append(f"The download failed ({type(error).__name__}).")
        return None
    return _finish(EXAMPLES[name].of_download(raw), f"{EXAMPLES[name].title}, complete, from pertpy.data.{name}.")


def _read(name: str, failures: list[str]) -> AnnData | None:
    """The file in the folder that `PERTCAST_DATA` names, or `None`."""
    example, folder = EXAMPLES[name], os.environ.get("PERTCAST_DATA")
    if example.file is None:
        failures.append("No file of it is looked for in a folder.")
    elif not folder:
        failures.append("The environment variable PERTCAST_DATA names no folder.")
    elif not (path := Path(folder) / example.file).is_file():
        failures.append(f"The folder PERTCAST_DATA has no file {example.file}.")
    else:
        return _finish(example.of_file(ad.read_h5ad(path)), f"{example.title}, the part in {example.file}.")
    return None


def _simulate(name: str, _: list[str]) -> AnnData:
    """A simulated screen of the same form, with names of its own."""
    adata = simulate_screen(**EXAMPLES[name].stand_in)
    obs = cast("pd.DataFrame", adata.obs)
    adata.obs = obs[[column for column in COLUMNS if column != "dosage" or "dosages" in EXAMPLES[name].stand_in]]
    adata.uns["source"] = f"A simulated screen in place of {EXAMPLES[name].title}."
    return adata


def _finish(adata: AnnData, source: str) -> AnnData:
    """Log-normalise counts; `obs["total"]`, if there is one, holds the counts over all genes of a cell."""
    if not looks_like_counts(adata.X):
        raise ValueError(f"Expected counts in X of {source} Found other numbers: the file has changed.")
    counts = sparse.csr_matrix(adata.X).astype(np.float32)
    known = cast("pd.DataFrame", adata.obs)
    totals = known["total"].to_numpy(float) if "total" in known else np.asarray(counts.sum(axis=1)).ravel()
    obs = known[[column for column in COLUMNS if column in known]].copy()
    for column in obs.columns.difference(["dosage"]):
        obs[column] = obs[column].astype(str).astype("category")
    scale = sparse.diags(1e4 / np.maximum(totals, 1.0)).astype(np.float32)
    tidy = ad.AnnData(
        sparse.csr_matrix(scale @ counts), obs=obs, var=pd.DataFrame(index=adata.var_names), layers={"counts": counts}
    )
    tidy.var_names_make_unique()
    sc.pp.log1p(tidy)
    tidy.uns["source"] = source
    return tidy


def _most_variable(adata: AnnData, n_top_genes: int | None) -> AnnData:
    """Keep the most variable genes of the control cells."""
    if n_top_genes is None or n_top_genes >= adata.n_vars:
        return adata
    control = adata[(adata.obs["perturbation"] == "control").to_numpy()]
    chosen = cast("Any", sc.pp.highly_variable_genes(control, n_top_genes=n_top_genes, inplace=False))
    return adata[:, chosen["highly_variable"].to_numpy()].copy()
