"""The arguments of a simulated screen, and their checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast._numbers import check_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ScreenDesign", "check_amount", "check_combinations", "check_dosages"]

_DEFAULT_COMBINATIONS = 4


@dataclass(frozen=True)
class ScreenDesign:
    """Checked arguments of :func:`~pertcast.data.simulate_screen`, under the same names."""

    n_cells_per_condition: int
    n_genes: int
    n_cell_types: int
    n_donors: int
    n_batches: int
    n_perturbations: int
    n_programmes: int
    n_combinations: int
    dosages: tuple[float, ...]
    effect_size: float
    interaction: float
    latent_sd: float
    state_sd: float
    donor_sd: float
    batch_sd: float
    dispersion: float
    median_counts: float
    seed: int

    def to_uns(self) -> dict[str, Any]:
        """Return the arguments as a dictionary that h5ad can store."""
        return {**asdict(self), "dosages": np.array(self.dosages)}


def check_amount(name: str, value: Any, *, maximum: float = np.inf, positive: bool = False) -> float:
    """Return `value` as a finite number of at least 0, or say what is wrong with it."""
    expected = f"a finite number {'above' if positive else 'of at least'} 0"
    if np.isfinite(maximum):
        expected += f" and at most {maximum:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is {type(value).__name__}; expected {expected}.")
    number = float(value)
    if not (np.isfinite(number) and 0 <= number <= maximum) or (positive and number == 0):
        raise ValueError(f"{name}={value} is out of range; expected {expected}.")
    return number


def check_combinations(combinations: bool | int | None, n_perturbations: int) -> int:
    """Return the number of pairs that `combinations` asks for."""
    available = n_perturbations * (n_perturbations - 1) // 2
    if combinations is None:
        return min(_DEFAULT_COMBINATIONS, available)
    if isinstance(combinations, bool):
        return available if combinations else 0
    n_pairs = check_whole("combinations", combinations, least=0)
    if n_pairs > available:
        raise ValueError(
            f"combinations={n_pairs}, but {n_perturbations} perturbations have {available} pairs; lower combinations, "
            "raise n_perturbations, or pass True for all pairs."
        )
    return n_pairs


def check_dosages(dosages: Sequence[float] | None) -> tuple[float, ...]:
    """Return the dosages, all positive and different; `None` is the single dosage 1."""
    if dosages is None:
        return (1.0,)
    if isinstance(dosages, str) or not np.iterable(dosages):
        raise TypeError(f"dosages={dosages!r} is {type(dosages).__name__}; expected a sequence of positive numbers.")
    levels = tuple(check_amount("dosages", dosage, positive=True) for dosage in dosages)
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(f"dosages={levels}; expected at least one dosage, all different. Pass None for a single one.")
    return levels
