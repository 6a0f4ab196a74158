from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

from pertcast.baselines._network import NetworkBaseline

if TYPE_CHECKING:
    from pertcast.baselines._base import Baseline

CELL_TYPES = {"T": [1.0, 2.0, 3.0], "B": [1.5, 2.5, 3.0], "NK": [6.0, 1.0, 4.0]}
"""Mean of the controls of each cell type."""
SHIFTS = {"T": [1.0, 0.0, -0.5], "B": [3.0, 1.0, -0.5], "NK": [-2.0, 4.0, 0.25]}
"""Shift of A in each cell type; B shifts by twice that plus one."""


def shift_of(perturbation: str, cell_type: str, donor: str, dosage: float = 1.0) -> np.ndarray:
    """Shift of a population: donor d2 responds half as much as d1."""
    base = np.array(SHIFTS[cell_type])
    effect = {"control": 0 * base, "A": base, "B": 2 * base + 1}[perturbation]
    return effect * (0.5 if donor == "d2" else 1.0) * dosage


def build(dosages: tuple[float, ...] = (1.0,), skip: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """6 cells for each population, whose mean is exact; ``skip`` names (perturbation, cell type) to leave out."""
    noise = np.array([-0.5, -0.25, -0.125, 0.125, 0.25, 0.5])[:, None] * np.array([1.0, -0.5, 0.25])
    values, rows = [], []
    for cell_type, mean in CELL_TYPES.items():
        for donor in ("d1", "d2"):
            for perturbation in ("control", "A", "B"):
                for dosage in dosages if perturbation != "control" else (0.0,):
                    if (perturbation, cell_type) in skip:
                        continue
                    values.append(mean + shift_of(perturbation, cell_type, donor, dosage) + noise)
                    rows += [(perturbation, cell_type, donor, dosage)] * len(noise)
    obs = pd.DataFrame(rows, columns=["perturbation", "cell_type", "donor", "dose"])
    obs.index = [f"cell{i}" for i in range(len(obs))]
    return anndata.AnnData(np.concatenate(values), obs=obs, var=pd.DataFrame(index=["g1", "g2", "g3"]))


@pytest.fixture
def make_screen() -> Any:
    """Build a screen whose shifts are known."""
    return build


@pytest.fixture
def true_shift() -> Any:
    """Give the shift of a population."""
    return shift_of


def _fit(
    cls: type[Baseline],
    adata: Any,
    *,
    setup: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    adata = adata.copy()
    cls.setup_anndata(adata, **{"cell_type_key": "cell_type", "batch_key": "donor"} | (setup or {}))
    model = cls(adata, **arguments)
    quiet = {"progressbar": False} if issubclass(cls, NetworkBaseline) else {}
    model.train(**quiet | (train or {}))
    return model


def _controls_of(adata: Any, cell_type: str) -> Any:
    return adata[(adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == cell_type)].copy()


def _shift_in(predicted: Any, controls: Any) -> np.ndarray:
    """The one shift by which all predicted cells differ from their control cells."""
    shift = predicted.X - controls[predicted.obs["source_cell"]].X
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-6)
    return shift[0]


@pytest.fixture
def fit() -> Any:
    """Set up, build and train a baseline on a copy of a screen with cell types and donors."""
    return _fit


@pytest.fixture
def controls_of() -> Any:
    """Give the control cells of a cell type."""
    return _controls_of


@pytest.fixture
def shift_in() -> Any:
    """Give the one shift by which all predicted cells differ from their control cells."""
    return _shift_in
