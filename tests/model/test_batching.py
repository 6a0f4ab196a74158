"""Tasks are drawn together: what is predicted beside a population, and how many at a time, changes nothing."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pertcast as pc
from pertcast.data import screen_metadata_from_registry
from pertcast.data._query import ControlQuery
from pertcast.data._request import Request
from pertcast.data._tasks import make_tasks
from pertcast.representation import Hurdle

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["pert_0", "pert_2+pert_0", "pert_1"]


def cells_of(predicted: Any) -> np.ndarray:
    X = predicted.X
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


@pytest.fixture(scope="module")
def uneven(screen_template: Any) -> Any:
    """Controls whose populations have from 3 to 16 cells, and cover parts of a set, one set and several."""
    controls = controls_of(screen_template)
    donors = controls.obs["donor"].astype(str) + controls.obs["cell_type"].astype(str)
    rank = controls.obs.groupby(donors.to_numpy()).cumcount().to_numpy()
    sizes = dict(zip(sorted(set(donors)), (3, 16, 7, 12, 5, 9, 16, 11), strict=True))
    return controls[rank < donors.map(sizes).to_numpy()].copy()


@pytest.fixture(scope="module")
def make_trained(screen_template: Any) -> Callable[..., pc.PerturbDiff]:
    def make(**config: Any) -> pc.PerturbDiff:
        adata = screen_template.copy()
        pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
        small: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "set_size": 5, "n_controls": 8, "zeros": "relu"}
        model = pc.PerturbDiff(adata, **small | config)
        model.train(max_epochs=1, steps_per_epoch=4, **QUICK)
        model.module.gate.set(1.0)
        return model

    return make


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({}, {}),
        ({"zeros": "hurdle"}, {}),
        ({"representation": "pca", "n_latent": 10}, {"n_steps": 3}),
        (
            {"condition_dropout": 0.5, "self_conditioning": 0.5, "sampler": "ancestral"},
            {"n_steps": 3, "guidance_scale": 1.0},
        ),
        ({"preset": "reference", "n_heads": 2, "zeros": "relu"}, {"n_steps": 4}),
    ],
)
def test_together_is_the_same_as_one_by_one(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any, config: dict[str, Any], options: dict[str, Any]
) -> None:
    model = make_trained(**config)
    whole = model.predict(uneven, NAMES, progressbar=False, **options)
    alone = np.concatenate([cells_of(model.predict(uneven, [name], progressbar=False, **options)) for name in NAMES])
    np.testing.assert_allclose(cells_of(whole), alone, rtol=0, atol=2e-5)
    for batch_size in (1, 13, 100_000):
        again = model.predict(uneven, NAMES, batch_size=batch_size, progressbar=False, **options)
        np.testing.assert_allclose(cells_of(again), cells_of(whole), rtol=0, atol=2e-5)


def test_many_conditions_take_few_calls(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of equal size share a call: there are 4 and 5 cells to a set, or 3, not one call for each population."""
    model, calls = make_trained(), []
    sample = model.module.sample

    def counted(request: Any, **rest: Any) -> Any:
        calls.append(tuple(request.source.shape[:2]))
        return sample(request, **rest)

    monkeypatch.setattr(model.module, "sample", counted)
    model.predict(uneven, NAMES, progressbar=False)
    n_populations, n_cells = 8 * len(NAMES), uneven.n_obs * len(NAMES)
    assert sum(sets * size for sets, size in calls) == n_cells
    assert len(calls) == len({size for _, size in calls}) < n_populations


def test_threads_change_nothing(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_trained(zeros="hurdle")
    found = []
    for n_threads in (1, 3):
        with monkeypatch.context() as patch:
            patch.setattr("torch.get_num_threads", lambda n=n_threads: n)
            found.append(cells_of(model.predict(uneven, NAMES, batch_size=20, progressbar=False)))
    np.testing.assert_array_equal(found[0], found[1])


def test_memory_does_not_grow_with_the_number_of_populations(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any
) -> None:
    """Memory of drawing 640 populations against that of 64, each given up as soon as it is drawn."""
    model = make_trained(zeros="hurdle")
    metadata = screen_metadata_from_registry(model.registry)
    query = ControlQuery.from_adata(uneven, metadata)

    def peak(n_populations: int) -> int:
        tasks = make_tasks(query, [Request("pert_0", 1.0)], n_cells=300, n_populations=n_populations)
        assert len(tasks) == 8 * n_populations
        tracemalloc.start()
        drawn = model._predict_tasks(query, tasks, batch_size=1200, options={"steps": 1, "guidance_scale": 0.0})
        n_cells = sum(len(cells) for cells in drawn)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_cells == 4 * 300 * n_populations
        return found

    peak(1)
    assert peak(80) < 1.2 * peak(8)


@pytest.fixture
def parts_of_60(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut populations at 60 cells, as large ones are cut at 67 million values."""
    monkeypatch.setattr("pertcast.data._tasks._MOST_VALUES", 1)
    monkeypatch.setattr("pertcast.data._tasks._LEAST_CELLS", 60)


@pytest.mark.parametrize("zeros", ["relu", "hurdle"])
def test_large_populations_are_drawn_in_parts(
    make_trained: Callable[..., pc.PerturbDiff], screen_template: Any, zeros: str, request: pytest.FixtureRequest
) -> None:
    """Parts have each cell once and the mean of the whole, whatever the order of the cells and the batch size."""
    model, controls = make_trained(zeros=zeros, set_size=30), controls_of(screen_template)
    controls.obs = controls.obs.assign(donor="donor_0", cell_type="type_0")
    whole = model.predict(controls, NAMES[:2], progressbar=False)
    request.getfixturevalue("parts_of_60")
    parts = model.predict(controls, NAMES[:2], progressbar=False)
    shuffled = controls[np.random.default_rng(0).permutation(controls.n_obs)].copy()
    again = model.predict(shuffled, NAMES[:2], batch_size=7, progressbar=False)
    assert controls.n_obs == 128
    np.testing.assert_array_equal(cells_of(again), cells_of(parts))
    for name in NAMES[:2]:
        found, expected = (each[each.obs["perturbation"] == name] for each in (parts, whole))
        assert sorted(found.obs["source_cell"]) == sorted(controls.obs_names)
        assert list(found.obs["source_cell"]) != list(expected.obs["source_cell"])
        mean, wanted = cells_of(found).mean(axis=0), cells_of(expected).mean(axis=0)
        start = np.asarray(controls.X.mean(axis=0)).ravel()
        assert np.abs(mean - wanted).mean() < 0.1 * np.abs(wanted - start).mean()


@pytest.mark.usefixtures("parts_of_60")
def test_memory_does_not_grow_with_the_size_of_a_population(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any
) -> None:
    """Memory of drawing populations of 6,000 cells against those of 600, each part given up as soon as it is drawn."""
    model = make_trained(zeros="hurdle")
    query = ControlQuery.from_adata(uneven, screen_metadata_from_registry(model.registry))

    def peak(n_cells: int) -> int:
        tasks = make_tasks(query, [Request("pert_0", 1.0)], n_cells=n_cells)
        assert max(len(task.sources) for task in tasks) <= 60
        tracemalloc.start()
        drawn = model._predict_tasks(query, tasks, batch_size=60, options={"steps": 1, "guidance_scale": 0.0})
        n_drawn = sum(len(cells) for cells in drawn)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_drawn == 4 * n_cells
        return found

    peak(60)
    assert peak(6000) < 1.5 * peak(600)


@pytest.mark.usefixtures("parts_of_60")
def test_parts_and_cuts_have_seeds_of_their_own(
    make_trained: Callable[..., pc.PerturbDiff], screen_template: Any
) -> None:
    model, controls = make_trained(), controls_of(screen_template)
    controls.obs = controls.obs.assign(donor="donor_0", cell_type="type_0")
    query = ControlQuery.from_adata(controls, screen_metadata_from_registry(model.registry))
    tasks = make_tasks(query, [Request("pert_0", 1.0)], n_populations=2)
    assert [task.draw for task in tasks] == [0, 0, 0, 1, 1, 1]
    assert len({task.torch_seed() for task in tasks}) == 6
    assert not np.array_equal(tasks[0].sources, tasks[3].sources)


def test_of_many_controls_the_same_ones_tell_the_zeros(
    make_trained: Callable[..., pc.PerturbDiff], uneven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What controls express is looked up once for all perturbations, whatever the order of the cells."""
    model, sizes = make_trained(zeros="hurdle"), []
    monkeypatch.setattr("pertcast.model._zeros._MAX_CONTROLS", 10)

    class Counted(Hurdle):
        def __init__(self, control: np.ndarray) -> None:
            sizes.append(len(control))
            super().__init__(control)

    monkeypatch.setattr("pertcast.model._zeros.Hurdle", Counted)
    found = model.predict(uneven, NAMES, progressbar=False)
    query = ControlQuery.from_adata(uneven, screen_metadata_from_registry(model.registry))
    of_populations = [len(population.pool) for population in query.populations]
    assert sorted(sizes) == sorted(min(n, 10) for n in of_populations)
    assert max(of_populations) > 10
    shuffled = uneven[np.random.default_rng(0).permutation(uneven.n_obs)].copy()
    np.testing.assert_array_equal(cells_of(model.predict(shuffled, NAMES, progressbar=False)), cells_of(found))
