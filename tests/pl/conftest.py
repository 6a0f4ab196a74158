from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Iterator

N_GENES = 30


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    """Draw without a screen, and close what was drawn."""
    with mpl.rc_context():
        plt.switch_backend("agg")
        yield
        plt.close("all")


@pytest.fixture
def cells() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    base, shift = rng.gamma(2.0, 1.0, N_GENES), rng.normal(0, 1, N_GENES)
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])

    def make(mean: np.ndarray, n: int) -> anndata.AnnData:
        return anndata.AnnData(mean + rng.normal(0, 0.3, (n, N_GENES)), var=var)

    return {"real": make(base + shift, 40), "predicted": make(base + 0.7 * shift, 60), "control": make(base, 50)}


@pytest.fixture
def screen() -> dict[str, Any]:
    """Cells with names: two perturbations in two contexts, the second perturbation of B only predicted."""
    rng = np.random.default_rng(1)
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    base = {"A": rng.gamma(2.0, 1.0, N_GENES), "B": rng.gamma(2.0, 1.0, N_GENES)}
    shift = {"control": np.zeros(N_GENES), "x": rng.normal(0, 0.5, N_GENES), "y": rng.normal(0, 2, N_GENES)}

    def make(conditions: list[tuple[str, str]], n: int = 20) -> anndata.AnnData:
        X = np.concatenate([base[t] + shift[p] + rng.normal(0, 0.3, (n, N_GENES)) for p, t in conditions])
        obs = pd.DataFrame(
            {
                "perturbation": np.repeat([p for p, _ in conditions], n),
                "cell_type": np.repeat([t for _, t in conditions], n),
                "donor": np.tile(np.repeat(["d0", "d1"], n // 2), len(conditions)),
                "population": np.tile(np.arange(4), len(conditions) * n // 4),
            },
            index=[str(i) for i in range(len(X))],
        )
        return anndata.AnnData(X, obs=obs, var=var)

    return {
        "real": make([("x", "A"), ("x", "B"), ("y", "A")]),
        "predicted": make([("x", "B"), ("y", "B")]),
        "control": make([("control", "A"), ("control", "B")]),
    }
