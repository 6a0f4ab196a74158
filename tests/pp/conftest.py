from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COLUMNS = ["perturbation", "cell_type", "donor", "dose"]


def build_screen(conditions: Iterable[str], n_cells: int = 2) -> Any:
    """Screen with these conditions, such as "A+B x d1 10" (perturbation, cell type, donor, dose), and controls.

    What is left out is "x", "d1" and 1. Each cell type and donor has control cells, also those in "control y d2".
    """
    defaults = ["control", "x", "d1", "1"]
    rows = [text.split() for text in conditions]
    rows = [row + defaults[len(row) :] for row in rows]
    places = sorted({(row[1], row[2]) for row in rows})
    cells = [row for row in rows if row[0] != "control"] + [["control", *place, "0"] for place in places]
    obs = pd.DataFrame([cell for cell in cells for _ in range(n_cells)], columns=COLUMNS)
    obs.index = pd.Index([f"cell{i}" for i in range(len(obs))])
    obs["dose"] = obs["dose"].astype(float)
    return anndata.AnnData(np.ones((len(obs), 3), dtype=np.float32) / 2, obs=obs)


def read_parts(adata: Any, by: str | list[str] = "perturbation", key: str = "split") -> dict[str, set[str]]:
    """Part of the split to the groups of perturbed cells in it; several columns are joined by a blank."""
    perturbed = adata.obs[adata.obs["perturbation"] != "control"]
    columns = [by] if isinstance(by, str) else by
    group = perturbed[columns].astype(str).agg(" ".join, axis=1)
    found: dict[str, set[str]] = {}
    for part, name in zip(perturbed[key], group, strict=True):
        found.setdefault(str(part), set()).add(name)
    return found


@pytest.fixture
def screen() -> Callable[..., Any]:
    return build_screen


@pytest.fixture
def parts() -> Callable[..., dict[str, set[str]]]:
    return read_parts
