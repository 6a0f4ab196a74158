from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import Populations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

type Build = Callable[..., Populations]


def _build(
    shifts: Mapping[str, np.ndarray],
    states: np.ndarray,
    *,
    control_mean: np.ndarray | None = None,
    dosage: Mapping[str, float] | None = None,
    n_cells: int = 10**6,
    cell_variance: float = 1.0,
) -> Populations:
    """One population of each perturbation in each context, named c0, c1, ...; rows of NaN are not measured.

    ``shifts`` maps names such as A, A+B or, to tell dosages apart, A@low, to shifts ``[C, G]``.
    """
    rows = [(name, c) for name, table in shifts.items() for c in range(len(states)) if np.isfinite(table[c]).all()]
    shift = np.stack([shifts[name][c] for name, c in rows])
    return Populations(
        perturbation=[tuple(name.split("@")[0].split("+")) for name, _ in rows],
        context=np.array([f"c{c}" for _, c in rows], dtype=object),
        batch=np.array(["batch"] * len(rows), dtype=object),
        dosage=np.array([(dosage or {}).get(name, 1.0) for name, _ in rows]),
        group=np.array([c for _, c in rows]),
        control_mean=np.full((len(states), shift.shape[1]), 5.0) if control_mean is None else control_mean,
        shift=shift,
        state=states,
        n_control=np.full(len(rows), n_cells),
        n_perturbed=np.full(len(rows), n_cells),
        cell_variance=cell_variance,
    )


@pytest.fixture(scope="session")
def build() -> Build:
    return _build
