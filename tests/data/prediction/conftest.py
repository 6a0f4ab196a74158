"""A model with predictions that are easy to check, and what tests of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scvi.model.base import BaseModelClass

from pertcast.data import screen_from_manager
from pertcast.data._prediction import PredictMixin
from pertcast.data._request import trained_dosages
from pertcast.data._setup import ScreenSetupMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETUP: dict[str, Any] = {
    "cell_type_key": "cell_type",
    "batch_key": "donor",
    "categorical_covariate_keys": ["sex"],
    "continuous_covariate_keys": ["age"],
}


class Jitter(ScreenSetupMixin, PredictMixin, BaseModelClass):
    """Adds to control cells the number of parts, the dosage, and one random number for each task."""

    def __init__(self, adata: Any = None, registry: Any = None) -> None:
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        self.noise = 1.0

    def train(self) -> None:
        self.dosages_ = trained_dosages(screen_from_manager(self.adata_manager).index)
        self.is_trained_ = True

    def predict(self, adata: Any = None, perturbations: Any = None, **options: Any) -> Any:
        shared: dict[str, Any] = {
            "n_cells": None,
            "n_populations": 1,
            "dosages": None,
            "contexts": None,
            "seed": 0,
            "batch_size": None,
            "key_added": None,
            "progressbar": False,
        }
        return self._predict(adata, perturbations, **shared | options)

    def _predict_tasks(self, query: Any, tasks: Any, *, batch_size: Any, options: Any) -> Iterator[np.ndarray]:
        for task in tasks:
            yield self._predict_task(query, task, batch_size=batch_size, options=options)

    def _predict_task(self, query: Any, task: Any, *, batch_size: Any, options: Any) -> np.ndarray:
        shift = len(task.part_names) + task.dosage + self.noise * task.rng().random()
        return query.gather(task.sources) + np.float32(shift)


@pytest.fixture
def adata(make_screen: Callable[..., Any]) -> Any:
    return make_screen()


@pytest.fixture
def controls(adata: Any) -> Any:
    return adata[adata.obs["perturbation"] == "control"].copy()


def trained(adata: Any, **setup: Any) -> Jitter:
    adata = adata.copy()
    Jitter.setup_anndata(adata, **SETUP | setup)
    model = Jitter(adata)
    model.train()
    return model


@pytest.fixture
def model(adata: Any) -> Jitter:
    return trained(adata)


@pytest.fixture
def dosed(adata: Any) -> Jitter:
    return trained(adata, dosage_key="dose")


def spy(model: Jitter) -> list[Any]:
    """Collect the tasks that a model is given."""
    tasks: list[Any] = []
    original = model._predict_task

    def predict_task(query: Any, task: Any, **rest: Any) -> np.ndarray:
        tasks.append(task)
        return original(query, task, **rest)

    model._predict_task = predict_task  # type: ignore[method-assign]
    return tasks


def table(predicted: Any, *, columns: tuple[str, ...] = ("perturbation", "source_cell", "population")) -> pd.DataFrame:
    """Expression by the names of the cells, in an order of its own."""
    X = predicted.X.toarray() if sp.issparse(predicted.X) else predicted.X
    index = pd.MultiIndex.from_frame(predicted.obs[list(columns)].astype(str))
    return pd.DataFrame(X, index=index).sort_index()


def snapshot(adata: Any) -> tuple[Any, ...]:
    return adata.X.toarray().copy(), adata.obs.copy(), adata.var.copy(), set(adata.obsm), set(adata.uns)


def assert_untouched(adata: Any, before: tuple[Any, ...]) -> None:
    np.testing.assert_array_equal(adata.X.toarray(), before[0])
    pd.testing.assert_frame_equal(adata.obs, before[1])
    pd.testing.assert_frame_equal(adata.var, before[2])
    assert (set(adata.obsm), set(adata.uns)) == before[3:]
