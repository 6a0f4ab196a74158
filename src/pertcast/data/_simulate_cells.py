"""From populations of a simulated screen to AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pertcast.data._simulate_truth import Population, ScreenTruth

__all__ = ["CONTROL", "JOIN", "UNS_KEY", "describe_populations", "sample_cells"]

CONTROL, JOIN, UNS_KEY = "control", "+", "simulation"


def describe_populations(truth: ScreenTruth, populations: Sequence[Population], n_cells: Sequence[int]) -> pd.DataFrame:
    """Return a table with one row a population: perturbation, dosage, cell type, donor, latent, n_cells."""
    names = truth.perturbations.index.to_numpy(dtype=object)
    return pd.DataFrame(
        {
            "perturbation": [JOIN.join(names[list(p.parts)]) or CONTROL for p in populations],
            "dosage": [p.dosage for p in populations],
            "cell_type": [truth.cell_types[p.cell_type] for p in populations],
            "donor": [truth.donors[p.donor] for p in populations],
            "latent": [p.latent for p in populations],
            "n_cells": list(n_cells),
        },
        index=pd.Index([f"population_{i}" for i in range(len(populations))]),
    )


def sample_cells(
    truth: ScreenTruth,
    populations: Sequence[Population],
    batches: Sequence[NDArray[np.intp]],
    seed: np.random.SeedSequence,
    prefix: str,
) -> AnnData:
    """Draw cells, one for every entry of the population's array in `batches`, each population with its own stream.

    Only one block of one population is ever dense.
    """
    rngs = map(np.random.default_rng, seed.spawn(len(populations)))
    blocks = [truth.sample_counts(*each) for each in zip(populations, batches, rngs, strict=True)]
    counts = sparse.vstack(blocks, format="csr")
    totals = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()

    table = describe_populations(truth, populations, [len(batch) for batch in batches])
    rows = table.iloc[np.repeat(np.arange(len(table)), table["n_cells"])]
    obs = pd.DataFrame(
        {
            "perturbation": rows["perturbation"].astype("category"),
            "cell_type": rows["cell_type"].astype("category"),
            "donor": rows["donor"].astype("category"),
            "batch": pd.Categorical(truth.batches[np.concatenate(batches)]),
            "dosage": rows["dosage"],
            "n_counts": totals,
        }
    ).set_axis([f"{prefix}_{i}" for i in range(len(rows))])
    return AnnData(_log_normalise(counts, totals), obs=obs, var=_describe_genes(truth), layers={"counts": counts})


def _log_normalise(counts: sparse.csr_matrix, totals: NDArray[np.int64]) -> sparse.csr_matrix:
    """Return float32 `log1p` of the counts per 10,000 of each cell; empty cells stay empty."""
    scale = np.divide(1e4, totals, out=np.zeros(len(totals)), where=totals > 0)
    values = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr))).astype(np.float32)
    return sparse.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def _describe_genes(truth: ScreenTruth) -> pd.DataFrame:
    """Return `var`: the programme in which a gene has its largest loading, and the role of that programme."""
    sizes = np.abs(truth.loadings)
    main, member = sizes.argmax(axis=0), sizes.max(axis=0) > 0
    names = truth.programmes.index.to_numpy(dtype=object)[main]
    roles = truth.programmes["role"].to_numpy(dtype=object)[main]
    return pd.DataFrame(
        {
            "programme": pd.Categorical(np.where(member, names, "none")),
            "programme_role": pd.Categorical(np.where(member, roles, "none")),
        },
        index=pd.Index(truth.genes),
    )
