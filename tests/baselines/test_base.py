"""The base class that users write baselines with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pertcast.data import ControlPopulation, ControlQuery, Request, Screen


class Doubled(pc.baselines.Baseline):
    """Control cells plus the number of training conditions times the dosage."""

    def __init__(self, adata: Any = None, factor: float = 2.0, registry: Any = None) -> None:
        super().__init__(adata, registry)
        self.factor = factor
        self.init_params_ = self._get_init_params(locals())

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        assert screen.X.shape == self.adata.shape  # type: ignore[union-attr]
        self.n_ = len(conditions)

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        return lambda cells: cells + self.factor * self.n_ * len(request.perturbation)


@pytest.fixture
def adata() -> Any:
    return pc.data.simulate_screen(4, n_genes=20, n_cell_types=2, n_donors=1, n_perturbations=2, seed=0)


def test_a_subclass_takes_part_with_two_methods(adata: Any, tmp_path: Path) -> None:
    Doubled.setup_anndata(adata, cell_type_key="cell_type")
    model = Doubled(adata, factor=0.5)
    with pytest.raises(RuntimeError, match="not trained"):
        model.predict()
    model.train()
    assert model.n_ == 6  # two perturbations and their pair in two cell types
    controls = adata[(adata.obs["perturbation"] == "control").to_numpy()].copy()
    predicted: Any = model.predict(controls, "pert_0", progressbar=False)
    origin = controls[predicted.obs["source_cell"].to_numpy()].X.toarray()
    np.testing.assert_allclose(predicted.X.toarray(), origin + 0.5 * 6 * len("pert_0"), rtol=1e-6)
    with pytest.raises(ValueError, match="Unknown perturbation"):
        model.predict(controls, "other", progressbar=False)
    model.save(tmp_path / "saved")
    again = Doubled.load(tmp_path / "saved")
    assert (again.factor, again.n_) == (0.5, 6)
    same: Any = again.predict(controls, "pert_0", progressbar=False)
    np.testing.assert_array_equal(same.X.toarray(), predicted.X.toarray())


def test_a_subclass_takes_part_in_a_benchmark(adata: Any) -> None:
    pc.pp.split(adata, "context", cell_type_key="cell_type", hold_out="type_1")
    scores = pc.tl.benchmark(
        Doubled,
        adata,
        setup={"cell_type_key": "cell_type"},
        baselines="NoEffect",
        metrics=["mean_absolute_error"],
        progressbar=False,
    )
    errors = scores.groupby("model")["value"].mean()
    assert errors["Doubled"] > 2 * 3 * 6 - errors["NoEffect"] - 10  # far off by construction


def test_the_base_itself_cannot_be_used(adata: Any) -> None:
    class Half(pc.baselines.Baseline):
        def _fit(self, screen: Screen, conditions: np.ndarray) -> None: ...

    for cls in (pc.baselines.Baseline, Half):
        cls.setup_anndata(adata)
        with pytest.raises(TypeError, match=r"abstract.*_forecast"):
            cls(adata)


def test_the_base_is_no_baseline_of_a_benchmark(adata: Any) -> None:
    with pytest.raises(ValueError, match=r"Unknown baseline 'Baseline'"):
        pc.tl.benchmark({}, adata, baselines=["Baseline"])
