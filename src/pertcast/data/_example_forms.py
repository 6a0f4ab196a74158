"""Where the columns of published screens are, in the files of pertpy and in smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """One screen.

    Parameters
    ----------
    title
        The publication.
    of_download
        Makes the columns `perturbation`, `cell_type`, `donor` and `dosage` from what pertpy returns, and puts counts
        into `X`.
    of_file
        The same for the file in the folder.
    file
        Name of that file, or `None`.
    stand_in
        Arguments of :func:`~pertcast.data.simulate_screen` for a screen of the same form.
    """

    title: str
    of_download: Callable[[Any], AnnData]
    of_file: Callable[[AnnData], AnnData]
    file: str | None
    stand_in: Mapping[str, Any]


def _rename(adata: AnnData, columns: Mapping[str, str], control: str = "control", layer: str | None = None) -> AnnData:
    """Matrix, or a layer, with columns of `obs`, given as new: old, and the name of the control."""
    missing = sorted(set(columns.values()) - set(adata.obs.columns))
    if missing:
        raise ValueError(
            f"Expected the columns {missing} in obs, found {list(adata.obs.columns)}: the file has changed."
        )
    obs = pd.DataFrame({new: adata.obs[old] for new, old in columns.items()}, index=adata.obs_names)
    obs["perturbation"] = obs["perturbation"].astype(str).replace({control: "control"})
    return ad.AnnData(
        adata.X if layer is None else adata.layers[layer], obs=obs, var=pd.DataFrame(index=adata.var_names)
    )


def _kang(adata: AnnData) -> AnnData:
    adata = _rename(adata, {"perturbation": "label", "cell_type": "cell_type", "donor": "replicate"}, "ctrl")
    adata.obs["perturbation"] = adata.obs["perturbation"].replace({"stim": "IFN-beta"})
    return adata


def _norman(adata: AnnData) -> AnnData:
    layer = "counts" if "counts" in adata.layers else None
    return _rename(adata, {"perturbation": "perturbation_name"}, layer=layer)


def _norman_file(adata: AnnData) -> AnnData:
    k562 = adata[(adata.obs["cell_type"] == "K562").to_numpy()]
    return _rename(k562, {"perturbation": "perturbation", "total": "ncounts_all_genes"})


def _papalexi(mdata: Any) -> AnnData:
    rna, old = mdata.mod["rna"].copy(), ["gene_target", "replicate"]
    if not set(old) <= set(rna.obs) and set(old) <= set(mdata.obs):  # which of the two has them changed over time
        rna.obs = mdata.obs.loc[rna.obs_names, old]
    return _rename(rna, {"perturbation": "gene_target", "donor": "replicate"}, "NT")


def _sciplex2(adata: AnnData) -> AnnData:
    """Wells without a drug are the control of all drugs; cells without a label of their well are left out."""
    tidy = _rename(adata, {"perturbation": "perturbation", "cell_type": "cell_line", "dosage": "dose_value"})
    dosage = np.asarray(pd.to_numeric(np.asarray(tidy.obs["dosage"], dtype=str), errors="coerce"), dtype=float)
    tidy.obs["dosage"] = dosage
    tidy.obs["perturbation"] = np.where(dosage == 0, "control", tidy.obs["perturbation"])
    return tidy[np.isfinite(dosage)].copy()


def _same(total: str) -> Callable[[AnnData], AnnData]:
    """Names of the files in the folder, with the column of total counts."""

    def form(adata: AnnData) -> AnnData:
        columns = {"perturbation": "perturbation", "cell_type": "cell_type", "total": total}
        return _rename(adata, columns | {"donor": "donor" if "donor" in adata.obs else "batch"})

    return form


_ONE_LINE: dict[str, Any] = {"n_cell_types": 1, "n_donors": 1, "n_genes": 150, "effect_size": 2.0}

EXAMPLES: dict[str, Example] = {
    "kang_2018": Example(
        "Kang et al. 2018",
        _kang,
        _same("n_counts"),
        "kang2018_ifnb.h5ad",
        _ONE_LINE | {"n_cell_types": 5, "n_donors": 2, "n_perturbations": 1, "combinations": 0},
    ),
    "norman_2019": Example(
        "Norman et al. 2019",
        _norman,
        _norman_file,
        "norman_mcfaline_perturbench.h5ad",
        _ONE_LINE | {"n_perturbations": 6, "combinations": 6, "seed": 6},
    ),
    "papalexi_2021": Example(
        "Papalexi et al. 2021",
        _papalexi,
        _same("n_counts"),
        "papalexi2021_eccite.h5ad",
        _ONE_LINE | {"n_donors": 3, "n_perturbations": 5, "combinations": 0, "seed": 8},
    ),
    "srivatsan_2020_sciplex2": Example(
        "Srivatsan et al. 2020 (sci-Plex 2)",
        _sciplex2,
        _sciplex2,
        None,
        _ONE_LINE | {"n_perturbations": 4, "combinations": 0, "dosages": (0.1, 0.5, 1, 5, 10, 50, 100), "seed": 4},
    ),
}
"""Example of each name; the names are those of pertpy's loaders."""
