"""The generative model of a simulated screen: its parameters, expected rates and counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from scipy import sparse
from scipy.special import expit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Population", "ScreenTruth"]

_BLOCK = 2048  # cells sampled at a time: bounds the dense memory
_LARGEST_MEAN = 2.0**30  # counts are int32
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


class Population(NamedTuple):
    """Cells that share perturbation, dosage, cell type, donor and response factor.

    Perturbations (`parts`, none for control), cell type and donor are positions in the tables of the truth.
    """

    parts: tuple[int, ...]
    dosage: float
    cell_type: int
    donor: int
    latent: float = 1.0


@dataclass(frozen=True)
class ScreenTruth:
    """All parameters of a simulated screen; :func:`~pertcast.data.simulate_screen` gives the equations.

    C cell types, D donors, H batches, P perturbations, Q programmes, G genes. Every field is something that h5ad
    stores, so that :meth:`to_uns` and :meth:`from_uns` lose nothing.

    Attributes
    ----------
    genes
        Gene names `[G]`.
    baseline
        Log-rate of every gene before programmes and offsets, `[G]`.
    dispersion
        Negative binomial dispersion, `[G]`: variance = mean + dispersion * mean^2.
    programmes
        One row a programme: `role` (marker, receptor, state, response or private) and `interaction` (relative gain
        of the programme's response in a combination at full strength: above 0 synergy, below 0 buffering).
    loadings
        Log-rate of a gene per unit of programme activity, `[Q, G]`.
    cell_types, donors, batches
        Names.
    basal
        Programme activity of control cells, mean over cells, `[C, Q]`.
    donor_receptor
        Offset of the receptor activity, `[D]`.
    donor_offsets, batch_offsets
        Log-rate offsets, `[D, G]` and `[H, G]`; the mean of `exp(batch_offsets)` over batches is one for every gene.
    log_scale
        `[C, D]`: subtracted from the log-rates so that the expected rates of control cells add up to one.
    perturbations
        One row a perturbation: `threshold` and `slope` (receptor activity of a half response, and the steepness
        there), `ec50` (in dosage units) and `hill` (exponent).
    effects
        Programme activity that a perturbation adds at full strength, `[P, Q]`.
    state_sd, latent_sd
        Standard deviations of the state of cells and of the response factor of populations.
    median_counts, library_sd
        Median library size, and the standard deviation of its logarithm.
    """

    genes: NDArray[np.object_]
    baseline: NDArray[np.float64]
    dispersion: NDArray[np.float64]
    programmes: pd.DataFrame
    loadings: NDArray[np.float64]
    cell_types: NDArray[np.object_]
    donors: NDArray[np.object_]
    batches: NDArray[np.object_]
    basal: NDArray[np.float64]
    donor_receptor: NDArray[np.float64]
    donor_offsets: NDArray[np.float64]
    batch_offsets: NDArray[np.float64]
    log_scale: NDArray[np.float64]
    perturbations: pd.DataFrame
    effects: NDArray[np.float64]
    state_sd: float
    latent_sd: float
    median_counts: float
    library_sd: float

    @classmethod
    def from_uns(cls, uns: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_uns` wrote."""
        return cls(**{field.name: uns[field.name] for field in fields(cls)})

    def to_uns(self) -> dict[str, Any]:
        """Return the fields as a dictionary that h5ad can store."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Positions of the programmes of every role."""
        roles = self.programmes["role"].to_numpy(dtype=object)
        return {role: np.flatnonzero(roles == role) for role in np.unique(roles)}

    @cached_property
    def _curves(self) -> NDArray[np.float64]:
        return self.perturbations[["threshold", "slope", "ec50", "hill"]].to_numpy(dtype=float).T

    def draw_latent(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw `n` response factors: log-normal, mean one, standard deviation `latent_sd`."""
        variance = np.log1p(self.latent_sd**2)
        return np.exp(np.sqrt(variance) * rng.standard_normal(n) - variance / 2)

    def response(self, population: Population, receptor: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the programme activity `[n, Q]` that the population's perturbations add.

        `receptor` is the receptor activity `[n]` of cells, as a deviation from the mean of their control cells.
        """
        parts = list(population.parts)
        threshold, slope, ec50, hill = self._curves[:, parts]
        basal = self._control_activity(population)[self.rows["receptor"]]
        potency = population.dosage**hill / (population.dosage**hill + ec50**hill)
        strength = potency * expit(slope * (basal + receptor[:, None] - threshold))
        activity = strength @ self.effects[parts]
        if len(parts) > 1:
            activity *= 1 + strength.prod(axis=1, keepdims=True) * self.programmes["interaction"].to_numpy()
        return population.latent * activity

    def expected_rates(self, population: Population) -> NDArray[np.float64]:
        """Return the expected count of every gene divided by the expected library size, `[G]`, mean over batches.

        The Gaussian state programmes are integrated in closed form; the receptor activity, on which the response
        depends, by Gauss-Hermite quadrature.
        """
        receptor = self.state_sd * _NODES
        activity = self.response(population, receptor)
        activity[:, self.rows["receptor"]] += receptor[:, None]
        state_variance = self.state_sd**2 * np.square(self.loadings[self.rows["state"]]).sum(axis=0)
        control = np.exp(self._control_log_rates(population) + state_variance / 2)
        return control * (_WEIGHTS @ np.exp(self._log_rate_change(activity))) / _WEIGHTS.sum()

    def sample_counts(
        self, population: Population, batch: NDArray[np.intp], rng: np.random.Generator
    ) -> sparse.csr_matrix:
        """Draw a cell for every entry of `batch` (rows of `batch_offsets`); int32 counts `[n, G]`.

        State and library size of all cells are drawn first: with equal generators, the cells of two conditions are
        pairs that differ only in what the condition changes.
        """
        n = len(batch)
        varying = np.concatenate([self.rows["receptor"], self.rows["state"]])
        state = self.state_sd * rng.standard_normal((n, len(varying)))
        library = self.median_counts * np.exp(self.library_sd * rng.standard_normal((n, 1)))
        control = self._control_log_rates(population)
        blocks = []
        for start in range(0, n, _BLOCK):
            cells = slice(start, start + _BLOCK)
            activity = self.response(population, state[cells, 0])
            activity[:, varying] += state[cells]
            log_rates = control + self.batch_offsets[batch[cells]] + self._log_rate_change(activity)
            blocks.append(self._negative_binomial(library[cells] * np.exp(log_rates), rng))
        return sparse.vstack(blocks, format="csr")

    def _control_activity(self, population: Population) -> NDArray[np.float64]:
        """Programme activity `[Q]` of control cells of this context, mean over cells."""
        activity = self.basal[population.cell_type].copy()
        activity[self.rows["receptor"]] += self.donor_receptor[population.donor]
        return activity

    def _control_log_rates(self, population: Population) -> NDArray[np.float64]:
        """Log-rates `[G]` of a control cell of this context in the mean state, batch effects aside."""
        change = self._log_rate_change(self._control_activity(population)[None, :])[0]
        scale = self.log_scale[population.cell_type, population.donor]
        return self.baseline + change + self.donor_offsets[population.donor] - scale

    def _log_rate_change(self, activity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Multiply activities `[n, Q]` with the loadings of the programmes that any of them uses."""
        used = np.flatnonzero(activity.any(axis=0))
        return activity[:, used] @ self.loadings[used]

    def _negative_binomial(self, mean: NDArray[np.float64], rng: np.random.Generator) -> sparse.csr_matrix:
        """Draw Gamma-Poisson counts around `mean`; genes without dispersion are Poisson."""
        over = self.dispersion > 0
        shape = 1 / self.dispersion[over]
        mean[:, over] *= rng.standard_gamma(shape, size=(len(mean), len(shape))) / shape
        if not mean.max(initial=0.0) < _LARGEST_MEAN:
            raise ValueError(
                f"The simulated mean count of a gene in a cell reached {mean.max():.3g}, expected less than "
                f"{_LARGEST_MEAN:.3g}. Lower effect_size, state_sd, latent_sd or median_counts."
            )
        return sparse.csr_matrix(rng.poisson(mean).astype(np.int32))
