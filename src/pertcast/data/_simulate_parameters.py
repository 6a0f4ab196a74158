"""Draw the parameters of a simulated screen."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from pertcast.data._simulate_truth import Population, ScreenTruth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pertcast.data._simulate_design import ScreenDesign

__all__ = ["Streams", "choose_pairs", "draw_truth"]

_BASELINE_SD, _BASELINE_LIMIT = 2.5, 2.0  # log-normal gene means; the limit is in standard deviations
_LIBRARY_SD = 0.35
_MEMBERS = 0.05  # fraction of the genes in a shared programme
_PRIVATE_MEMBERS = 0.01  # and in the private programme of a perturbation
_PROGRAMMES_PER_PERTURBATION = 3
_N_STATES = 2
_RECEPTOR_RANGE = 1.25  # receptor levels of the cell types are evenly spaced within -range, range
_DONOR_RECEPTOR_SCALE = 2.0  # receptor offsets of donors are this many times donor_sd
_SLOPE, _HILL = 2.0, 1.5
_INTERACTIONS = (1.0, -1.0, 0.0, 0.0)  # synergy, buffering, none, none: dealt to the response programmes


class Streams(NamedTuple):
    """Independent seeds, so that one part of a screen can change without reshuffling the others."""

    genes: np.random.SeedSequence
    markers: np.random.SeedSequence
    receptor: np.random.SeedSequence
    donors: np.random.SeedSequence
    batches: np.random.SeedSequence
    programmes: np.random.SeedSequence
    private: np.random.SeedSequence
    perturbations: np.random.SeedSequence
    pairs: np.random.SeedSequence
    latent: np.random.SeedSequence
    cells: np.random.SeedSequence
    fresh_latent: np.random.SeedSequence
    fresh_cells: np.random.SeedSequence

    @classmethod
    def from_seed(cls, seed: int) -> Streams:
        """Spawn one child of `seed` for every field."""
        return cls(*np.random.SeedSequence(seed).spawn(len(cls._fields)))


def choose_pairs(n_perturbations: int, n_pairs: int, seed: np.random.SeedSequence) -> list[tuple[int, ...]]:
    """Choose `n_pairs` pairs of perturbations at random; a larger choice holds every smaller one."""
    pairs: list[tuple[int, ...]] = list(combinations(range(n_perturbations), 2))
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [pairs[i] for i in sorted(order[:n_pairs])]


def draw_truth(design: ScreenDesign, streams: Streams) -> ScreenTruth:
    """Draw every parameter of the model; :func:`~pertcast.data.simulate_screen` gives the distributions."""
    width = max(4, len(str(design.n_genes - 1)))
    cell_types, donors, batches, names = (
        [f"{kind}_{i}" for i in range(n)]
        for kind, n in (
            ("type", design.n_cell_types),
            ("donor", design.n_donors),
            ("batch", design.n_batches),
            ("pert", design.n_perturbations),
        )
    )
    programmes, loadings = _draw_programmes(design, streams, cell_types, names)
    perturbations, effects = _draw_perturbations(design, streams, programmes, names)

    rng = np.random.default_rng(streams.receptor)
    basal = np.zeros((design.n_cell_types, len(programmes)))
    basal[:, : design.n_cell_types] = np.eye(design.n_cell_types)
    levels = (np.arange(design.n_cell_types) + 0.5) / design.n_cell_types
    basal[:, design.n_cell_types] = _RECEPTOR_RANGE * (2 * rng.permutation(levels) - 1)

    rng = np.random.default_rng(streams.donors)
    donor_draws = design.donor_sd * rng.standard_normal((design.n_donors, design.n_genes + 1))
    rng = np.random.default_rng(streams.batches)
    capture = np.exp(design.batch_sd * rng.standard_normal((design.n_batches, design.n_genes)))

    rng = np.random.default_rng(streams.genes)
    truth = ScreenTruth(
        genes=_names(f"gene_{i:0{width}d}" for i in range(design.n_genes)),
        baseline=_BASELINE_SD * rng.standard_normal(design.n_genes).clip(-_BASELINE_LIMIT, _BASELINE_LIMIT),
        dispersion=design.dispersion * np.exp(0.3 * rng.standard_normal(design.n_genes)),
        programmes=programmes,
        loadings=loadings,
        cell_types=_names(cell_types),
        donors=_names(donors),
        batches=_names(batches),
        basal=basal,
        donor_receptor=_DONOR_RECEPTOR_SCALE * donor_draws[:, 0],
        donor_offsets=donor_draws[:, 1:],
        batch_offsets=np.log(capture / capture.mean(axis=0)),
        log_scale=np.zeros((design.n_cell_types, design.n_donors)),
        perturbations=perturbations,
        effects=effects,
        state_sd=design.state_sd,
        latent_sd=design.latent_sd,
        median_counts=design.median_counts,
        library_sd=_LIBRARY_SD,
    )
    contexts = [[Population((), 0.0, c, d) for d in range(design.n_donors)] for c in range(design.n_cell_types)]
    totals = [[truth.expected_rates(control).sum() for control in row] for row in contexts]
    return replace(truth, log_scale=np.log(totals))


def _draw_programmes(
    design: ScreenDesign, streams: Streams, cell_types: list[str], names: list[str]
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Draw the table of programmes and their loadings `[Q, G]`, in the order of the roles below."""
    markers, shared, private = map(np.random.default_rng, (streams.markers, streams.programmes, streams.private))
    kinds = shared.permutation(_INTERACTIONS)
    rows: list[tuple[str, str, float]] = []
    loadings = []
    for name in cell_types:
        rows.append((f"marker_{name}", "marker", 0.0))
        loadings.append(_draw_loadings(markers, design.n_genes, _MEMBERS, (1.0, 2.0), positive=1.0))
    rows.append(("receptor", "receptor", 0.0))
    loadings.append(_draw_loadings(shared, design.n_genes, _MEMBERS, (0.5, 1.0), positive=1.0))
    for i in range(_N_STATES):
        rows.append((f"state_{i}", "state", 0.0))
        loadings.append(_draw_loadings(shared, design.n_genes, _MEMBERS, (0.5, 1.0), positive=0.5))
    for i in range(design.n_programmes):
        rows.append((f"response_{i}", "response", design.interaction * kinds[i % len(kinds)]))
        loadings.append(_draw_loadings(shared, design.n_genes, _MEMBERS, (0.5, 1.5), positive=0.7))
    for name in names:
        rows.append((f"private_{name}", "private", 0.0))
        loadings.append(_draw_loadings(private, design.n_genes, _PRIVATE_MEMBERS, (0.5, 1.5), positive=0.7))
    table = pd.DataFrame(rows, columns=["programme", "role", "interaction"]).set_index("programme")
    return table, np.stack(loadings)


def _draw_loadings(
    rng: np.random.Generator, n_genes: int, fraction: float, size: tuple[float, float], positive: float
) -> NDArray[np.float64]:
    """Draw the loadings `[G]` of one programme: few genes, sizes uniform in a range, a share of them positive."""
    n_members = max(2, round(fraction * n_genes))
    loadings = np.zeros(n_genes)
    signs = np.where(rng.random(n_members) < positive, 1.0, -1.0)
    loadings[rng.choice(n_genes, n_members, replace=False)] = signs * rng.uniform(*size, n_members)
    return loadings


def _draw_perturbations(
    design: ScreenDesign, streams: Streams, programmes: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Draw thresholds, dose curves and effects `[P, Q]` of the perturbations."""
    shared = np.flatnonzero(programmes["role"].to_numpy() == "response")
    private = np.flatnonzero(programmes["role"].to_numpy() == "private")
    effects = np.zeros((len(names), len(programmes)))
    middle = np.exp(np.log(design.dosages).mean())
    rows = []
    rng = np.random.default_rng(streams.perturbations)
    for p in range(len(names)):
        used = rng.choice(shared, min(_PROGRAMMES_PER_PERTURBATION, len(shared)), replace=False)
        effects[p, used] = rng.choice([-1.0, 1.0], len(used)) * rng.uniform(0.75, 1.5, len(used))
        effects[p, private[p]] = 1.0
        threshold = rng.uniform(-1.5, 0.5)
        rows.append((threshold, _SLOPE, middle / 2 * np.exp(0.5 * rng.standard_normal()), _HILL))
    table = pd.DataFrame(rows, columns=["threshold", "slope", "ec50", "hill"], index=pd.Index(names))
    return table, design.effect_size * effects


def _names(values: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(values), dtype=np.object_)
