from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from scvi.train import TrainRunner

from pertcast.data import PopulationDataModule, screen_from_manager

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.data import Screen

SIZES: dict[str, Any] = {"n_sets": 3, "set_size": 6, "n_controls": 5, "steps_per_epoch": 4}


@pytest.fixture
def adata(make_screen: Callable[..., Any], toy_model: Any) -> Any:
    adata = make_screen()
    adata.obs["split"] = adata.obs["donor"].map({"d1": "train", "d2": "val", "d10": "test"})
    toy_model.setup_anndata(adata, batch_key="donor", split_key="split")
    return adata


@pytest.fixture
def screen(adata: Any, toy_model: Any) -> Screen:
    return screen_from_manager(toy_model(adata).adata_manager)


@pytest.fixture
def datamodule(screen: Screen) -> PopulationDataModule:
    return PopulationDataModule(screen, screen.split(), **SIZES)


def test_indices_are_those_of_the_split(adata: Any, datamodule: PopulationDataModule) -> None:
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    part = adata.obs["split"].to_numpy()
    np.testing.assert_array_equal(datamodule.val_idx, np.flatnonzero(perturbed & (part == "val")))
    np.testing.assert_array_equal(datamodule.test_idx, np.flatnonzero(perturbed & (part == "test")))
    # the controls of the training donor are matched to its conditions
    np.testing.assert_array_equal(datamodule.train_idx, np.flatnonzero(part == "train"))
    assert datamodule.n_train == len(datamodule.train_idx)
    assert datamodule.n_val == len(datamodule.val_idx)


def test_loaders_give_batches_of_their_part(datamodule: PopulationDataModule) -> None:
    train = list(datamodule.train_dataloader())
    assert len(train) == 4
    for batch in train:
        assert batch["X"].shape == (3, 6, 12)
        assert batch["control"].shape == (3, 5, 12)
        assert set(batch["condition"].tolist()) <= set(datamodule.split.train)
    validation: list[Any] = list(datamodule.val_dataloader())
    seen = torch.cat([batch["condition"] for batch in validation])
    assert seen.tolist() == datamodule.split.validation.tolist()
    again: list[Any] = list(datamodule.val_dataloader())
    assert all(torch.equal(one["X"], other["X"]) for one, other in zip(validation, again, strict=True))


def test_of_many_validation_conditions_some_are_looked_at(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pertcast.data._datamodule._MOST_VALIDATED", 2)
    split = screen.split()
    split = type(split)(split.train[:1], np.concatenate([split.train[1:], split.validation]), split.test, split.kind)
    found = []
    for seed in (0, 0, 1, 2, 3):
        datamodule = PopulationDataModule(screen, split, **SIZES | {"seed": seed})
        seen = torch.cat([batch["condition"] for batch in datamodule.validation_batches()])
        assert seen.tolist() == datamodule.validation.tolist() == sorted(set(seen.tolist()) & set(split.validation))
        assert len(seen) == 2 < len(split.validation)
        found.append(tuple(seen.tolist()))
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_cells_may_come_from_another_matrix(screen: Screen) -> None:
    rows = np.arange(screen.X.shape[0], dtype=np.float32)[:, None]
    datamodule = PopulationDataModule(screen, screen.split(), X=rows, **SIZES)
    for batch in datamodule.train_dataloader():
        for i, condition in enumerate(batch["condition"].tolist()):
            assert set(batch["X"][i].reshape(-1).tolist()) <= set(screen.index.rows(condition))
            assert set(batch["control"][i].reshape(-1).tolist()) <= set(screen.controls.rows(condition))


def test_workers_follow_the_settings_of_scvi(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    import scvi

    assert PopulationDataModule(screen, screen.split(), **SIZES).train_dataloader().num_workers == 0
    monkeypatch.setattr(scvi.settings, "dl_num_workers", 3)
    assert PopulationDataModule(screen, screen.split(), **SIZES).train_dataloader().num_workers == 3
    assert PopulationDataModule(screen, screen.split(), num_workers=1, **SIZES).train_dataloader().num_workers == 1


class Recorder(LightningModule):
    """Trains one number, and keeps the conditions of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.trained.append(batch["X"].sum(dim=(1, 2)).tolist())
        return ((self.weight - batch["X"].mean()) ** 2).mean()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.validated.append(batch["X"].sum(dim=(1, 2)).tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(toy_model: Any, adata: Any, datamodule: PopulationDataModule) -> tuple[Any, Recorder]:
    model, plan = toy_model(adata), Recorder()
    runner = TrainRunner(
        model,
        training_plan=plan,
        data_splitter=datamodule,
        max_epochs=2,
        accelerator="cpu",
        check_val_every_n_epoch=1,
        enable_progress_bar=False,
    )
    runner()
    return model, plan


def test_train_runner_of_scvi(adata: Any, toy_model: Any, datamodule: PopulationDataModule) -> None:
    model, plan = fit(toy_model, adata, datamodule)
    n_steps, n_batches = 4, len(datamodule.val_dataloader())
    assert len(plan.trained) == 2 * n_steps
    assert plan.trained[:n_steps] != plan.trained[n_steps:]  # set_epoch reached the sampler
    assert plan.validated[:n_batches] == plan.validated[n_batches:]
    np.testing.assert_array_equal(model.train_indices, datamodule.train_idx)
    np.testing.assert_array_equal(model.validation_indices, datamodule.val_idx)
    np.testing.assert_array_equal(model.test_indices, datamodule.test_idx)
    assert plan.n_obs_training == datamodule.n_train
    assert plan.n_obs_validation == datamodule.n_val


def test_training_without_validation(adata: Any, toy_model: Any, screen: Screen) -> None:
    split = screen.split(kind="none")
    empty = type(split)(np.concatenate([split.train, split.validation]), np.zeros(0, dtype=int), split.test, "none")
    datamodule = PopulationDataModule(screen, empty, **SIZES)
    assert datamodule.n_val == 0
    _, plan = fit(toy_model, adata, datamodule)
    assert plan.validated == []
    assert len(plan.trained) == 8
