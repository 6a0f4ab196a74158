"""The mean that a predicted population is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pertcast as pc
from pertcast.model._means import PopulationMeans

from .conftest import QUICK, controls_of

CELLS = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, 0.0], [1.0, 4.0, 2.0]], dtype=np.float32)


def means(*, gate: float = 1.0, anchored: bool = True, nonnegative: bool = True) -> PopulationMeans:
    module: Any = SimpleNamespace(gate=SimpleNamespace(value=gate), anchored=anchored, nonnegative=nonnegative)
    query: Any = SimpleNamespace(mean=lambda rows: CELLS[rows].mean(0, dtype=np.float64))
    return PopulationMeans(module, query)


class Controls:
    rows = np.arange(3)


def task(sources: list[int]) -> Any:
    return SimpleNamespace(sources=np.array(sources), population=Controls())


@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
def test_the_gate_weighs_anchor_and_network(gate: float) -> None:
    shift, drawn = np.array([0.5, -3.0, 1.0]), np.array([[2.0, 0.0, 4.0], [0.0, 1.0, 4.0]])
    anchor, network = np.array([1.5, -1.0, 3.0]), np.array([1.0, 0.5, 4.0])  # sources have the means 1, 2, 2
    for nonnegative, floor in ((True, 0), (False, -np.inf)):
        found = means(gate=gate, nonnegative=nonnegative)(task([0, 1, 2]), drawn, shift)
        expected = (1 - gate / 2) * np.maximum(anchor, floor) + gate / 2 * network
        np.testing.assert_allclose(found, expected)


def test_means_are_those_of_the_sources_in_use_and_of_the_cells_without_an_anchor() -> None:
    of, shift = means(gate=0.0), np.array([0.5, 0.5, 0.5])
    for rows in ([0, 1, 2], [0], [0, 0, 1], [1, 2]):
        np.testing.assert_allclose(of(task(rows), CELLS, shift), CELLS[rows].mean(0) + 0.5)
    np.testing.assert_allclose(means(anchored=False)(task([0]), CELLS, shift), CELLS.mean(0))


@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
def test_real_valued_cells_are_moved_as_one_to_the_mean(
    screen: Any, monkeypatch: pytest.MonkeyPatch, gate: float
) -> None:
    screen.X = screen.X.toarray() - 1.5
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type")
    model: Any = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, set_size=8, learning_rate=0.02, seed=0)
    model.train(max_epochs=1, steps_per_epoch=5, plan_kwargs={"warmup": 0}, **QUICK)
    model.module.gate.set(gate)
    controls = controls_of(screen, "type_1")
    mean = controls.X.mean(0)
    predicted = model.predict(controls, ["pert_0"], progressbar=False).X
    monkeypatch.setattr(PopulationMeans, "__call__", lambda _, task, cells, shift: cells.mean(0))
    drawn = model.predict(controls, ["pert_0"], progressbar=False).X
    moved = mean + model.forecaster_.shift(("pert_0",), 1.0, mean, "type_1", "all", n_control=controls.n_obs)
    wanted = (1 - gate / 2) * moved + gate / 2 * drawn.mean(0)
    np.testing.assert_allclose(predicted - drawn, np.tile(wanted - drawn.mean(0), (len(drawn), 1)), atol=1e-5)
    assert gate == 0 or np.abs(moved - drawn.mean(0)).max() > 1e-2


def test_as_many_other_sources_as_controls_have_their_own_mean() -> None:
    """Parts of a population can be as large as its controls."""
    of, population = means(gate=0.0), Controls()
    for rows in ([0, 1, 2], [0, 0, 2], [0, 1, 2]):
        asked = SimpleNamespace(sources=np.array(rows), population=population)
        np.testing.assert_allclose(of(asked, CELLS, np.zeros(3)), CELLS[rows].mean(0))  # type: ignore[arg-type]
