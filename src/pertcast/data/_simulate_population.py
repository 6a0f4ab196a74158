"""New cells of any condition of a simulated screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from pertcast._numbers import check_whole
from pertcast.data._simulate_cells import CONTROL, JOIN, UNS_KEY, describe_populations, sample_cells
from pertcast.data._simulate_design import check_amount
from pertcast.data._simulate_parameters import Streams
from pertcast.data._simulate_truth import Population, ScreenTruth

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["simulate_population"]


def simulate_population(
    adata: AnnData,
    *,
    perturbation: str,
    cell_type: str,
    donor: str | None = None,
    batch: str | None = None,
    dosage: float | None = None,
    latent: float | Literal["screen", "new"] = "screen",
    n_cells: int = 100,
    seed: int = 0,
) -> AnnData:
    """Draw new cells of one condition from the model of a simulated screen.

    The condition may be one that the screen does not hold: another pair (or more) of its perturbations, another
    dosage. The cells are what a perfect prediction looks like; scoring them against the cells of the screen gives
    the best score that can be reached.

    Parameters
    ----------
    adata
        What :func:`simulate_screen` returned, or a subset of its cells or genes. It is not changed.
    perturbation
        `control`, a perturbation, or several joined by `+`, in any order.
    cell_type, donor, batch
        Names of the screen. `None` spreads the cells evenly over all donors or batches.
    dosage
        Dosage, 0 or more. `None` takes the only dosage of the screen; control always has 0.
    latent
        Response factor of the population. `"screen"` takes the factor of the same population in the screen, or draws
        one where the screen does not hold the population. `"new"` draws one, for another population of the same
        condition. A number sets it; 1 is the average population.
    n_cells
        Number of cells, at least 1.
    seed
        Seed of the cells. The cells of two conditions of a context with the same seed are pairs: their state and
        library size are the same. Use different seeds for independent cells.

    Returns
    -------
    Cells in the layout of :func:`simulate_screen`, without its `uns`. Genes that `adata` no longer has are left out
    after normalisation.

    Raises
    ------
    KeyError
        If `adata` has no `uns["simulation"]`.
    TypeError
        If an argument has the wrong type.
    ValueError
        If a name is unknown, a number is out of range, or a dosage is missing.

    Examples
    --------
    >>> from pertcast.data import simulate_population, simulate_screen
    >>> adata = simulate_screen(5, n_genes=100, n_perturbations=3, combinations=False, seed=0)
    >>> unseen = simulate_population(adata, perturbation="pert_2+pert_0", cell_type="type_1", n_cells=50, seed=1)
    >>> unseen.shape, unseen.obs["perturbation"].unique().tolist()
    ((50, 100), ['pert_0+pert_2'])
    """
    if UNS_KEY not in adata.uns:
        raise KeyError(
            f"adata.uns has no {UNS_KEY!r} (found {sorted(adata.uns)}). Pass the AnnData that simulate_screen "
            "returned; anndata.concat drops uns unless uns_merge is given."
        )
    simulation = adata.uns[UNS_KEY]
    truth = ScreenTruth.from_uns(simulation)
    genes = pd.Index(truth.genes)
    unknown = adata.var_names.difference(genes)
    if len(unknown):
        raise ValueError(
            f"adata has {len(unknown)} genes that the simulated screen did not have, such as {unknown[0]!r}; "
            "expected gene names of simulate_screen. Pass the screen with its original var_names."
        )
    c = _position("cell_type", cell_type, truth.cell_types)
    donors = range(len(truth.donors)) if donor is None else [_position("donor", donor, truth.donors)]
    used = np.arange(len(truth.batches)) if batch is None else np.array([_position("batch", batch, truth.batches)])
    parts = _parse(truth, perturbation)
    level = _choose_dosage(parts, dosage, simulation["parameters"]["dosages"])
    n_cells = check_whole("n_cells", n_cells)
    streams = Streams.from_seed(check_whole("seed", seed, least=0))

    populations = [Population(parts, level, c, d) for d in donors][:n_cells]
    factors = _choose_latent(truth, simulation["populations"], latent, populations, streams.fresh_latent)
    populations = [p._replace(latent=factor) for p, factor in zip(populations, factors, strict=True)]
    n_each = [len(range(i, n_cells, len(populations))) for i in range(len(populations))]
    batches = [used[(np.arange(n) + i) % len(used)] for i, n in enumerate(n_each)]
    result = sample_cells(truth, populations, batches, streams.fresh_cells, prefix="new_cell")
    return result if adata.var_names.equals(genes) else result[:, adata.var_names].copy()


def _parse(truth: ScreenTruth, perturbation: str) -> tuple[int, ...]:
    """Return the sorted positions of the parts of a perturbation's name."""
    if not isinstance(perturbation, str):
        raise TypeError(f"perturbation={perturbation!r} is {type(perturbation).__name__}; expected a name like 'a+b'.")
    if perturbation == CONTROL:
        return ()
    names, parts = truth.perturbations.index.to_numpy(dtype=object), perturbation.split(JOIN)
    if CONTROL in parts or len(set(parts)) < len(parts):
        raise ValueError(
            f"perturbation={perturbation!r}; expected different perturbations joined by {JOIN!r}. Name each one once "
            f"and leave {CONTROL!r} out."
        )
    return tuple(sorted(_position("perturbation", part, names) for part in parts))


def _position(argument: str, name: str, known: NDArray[np.object_]) -> int:
    """Return where `name` stands among the known names."""
    found = np.flatnonzero(known == name)
    if len(found) != 1:
        raise ValueError(f"{argument} {name!r} is not in the simulated screen; choose from {', '.join(known)}.")
    return int(found[0])


def _choose_dosage(parts: tuple[int, ...], dosage: float | None, levels: NDArray[np.float64]) -> float:
    """Return the given dosage, or the only one there is."""
    if dosage is not None:
        dosage = check_amount("dosage", dosage)
    if not parts:
        if dosage:
            raise ValueError(f"dosage={dosage} was given for control, expected 0; leave dosage out.")
        return 0.0
    if dosage is None and len(levels) > 1:
        raise ValueError(f"The screen has the dosages {levels.tolist()}; expected dosage to be given. Pass one.")
    return float(levels[0]) if dosage is None else dosage


def _choose_latent(
    truth: ScreenTruth,
    measured: pd.DataFrame,
    latent: float | str,
    populations: list[Population],
    seed: np.random.SeedSequence,
) -> list[float]:
    """Return the response factors of populations: given, those of the screen, or drawn."""
    if not isinstance(latent, str):
        return [check_amount("latent", latent)] * len(populations)
    drawn = truth.draw_latent(len(populations), np.random.default_rng(seed)).tolist()
    if latent == "new":
        return drawn
    if latent != "screen":
        raise ValueError(f"latent={latent!r} is unknown; expected 'screen', 'new' or a number.")
    keys = ["perturbation", "dosage", "cell_type", "donor"]
    known = dict(zip(measured[keys].itertuples(index=False, name=None), measured["latent"].tolist(), strict=True))
    wanted = describe_populations(truth, populations, [0] * len(populations))[keys]
    return [
        known.get(key, factor) for key, factor in zip(wanted.itertuples(index=False, name=None), drawn, strict=True)
    ]
