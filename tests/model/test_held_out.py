"""What training knows of conditions that are held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

import pertcast as pc
from pertcast.model import _training as training
from pertcast.model._dataset import anchored_dataset
from pertcast.model._forecast import fit_forecaster
from pertcast.model._statistics import set_statistics

from .conftest import QUICK, SMALL, controls_of, make

if TYPE_CHECKING:
    import pytest


def test_training_reads_the_shifts_of_all_cells_once(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[np.ndarray] = []
    from_index = pc.data.ShiftTable.from_index

    def noted(X: Any, index: Any, controls: Any, conditions: Any) -> pc.data.ShiftTable:
        read.append(conditions)
        return from_index(X, index, controls, conditions)

    monkeypatch.setattr(pc.data.ShiftTable, "from_index", noted)
    model = make(screen)
    model.train(max_epochs=1, steps_per_epoch=1, **QUICK)
    assert len(model.split_.validation)
    assert len(read) == 1
    np.testing.assert_array_equal(read[0], np.union1d(model.split_.train, model.split_.validation))


def test_the_anchor_of_training_does_not_know_what_is_held_out(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training sets are anchored at their measured shifts, held-out ones at forecasts from the training part."""
    fitted: list[tuple[np.ndarray, Any]] = []
    datasets: list[Any] = []
    of_statistics: list[np.ndarray] = []

    def noted_fit(screen: Any, components: Any, table: Any, **options: Any) -> Any:
        fitted.append((table.condition, fit_forecaster(screen, components, table, **options)))
        return fitted[-1][1]

    def noted_statistics(module: Any, screen: Any, table: Any, *args: Any, **options: Any) -> None:
        of_statistics.append(table.condition)
        set_statistics(module, screen, table, *args, **options)

    def noted_dataset(*args: Any) -> Any:
        datasets.append(anchored_dataset(*args))
        return datasets[-1]

    monkeypatch.setattr(training, "fit_forecaster", noted_fit)
    monkeypatch.setattr(training, "set_statistics", noted_statistics)
    monkeypatch.setattr(training, "anchored_dataset", noted_dataset)
    model = make(screen)
    model.train(max_epochs=1, steps_per_epoch=1, **QUICK)
    index, train, held = model.screen.index, model.split_.train, model.split_.validation
    assert len(held)
    np.testing.assert_array_equal(of_statistics, [train])
    assert [conditions.tolist() for conditions, _ in fitted] == [train.tolist(), np.union1d(train, held).tolist()]
    assert model.forecaster_ is fitted[1][1]
    (dataset,) = datasets
    shifts = dict(zip(dataset.conditions.tolist(), dataset.shifts.numpy(), strict=True))
    table = pc.data.ShiftTable.from_index(model.screen.X, index, model.screen.controls, np.union1d(train, held))
    for row, condition in enumerate(table.condition.tolist()):
        expected = table.shift[row]
        if condition in held:
            expected = fitted[0][1].shift(
                index.parts(index.perturbation[condition]), index.dosage[condition], table.control_mean[row],
                index.context_names[index.context[condition]], index.batch_names[index.batch[condition]],
                n_control=int(table.n_control[row]),
            )  # fmt: skip
        np.testing.assert_allclose(shifts[condition], expected, atol=1e-5)


def test_the_weights_with_the_lowest_validation_loss_are_kept(screen: Any) -> None:
    class Noted(Callback):
        weights: ClassVar[list[dict[str, torch.Tensor]]] = []

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            state = pl_module.module.average.network.state_dict()
            self.weights.append({name: value.clone() for name, value in state.items()})

    model = make(screen, learning_rate=0.1)  # so high that the loss rises
    model.train(max_epochs=6, steps_per_epoch=5, callbacks=[Noted()], early_stopping=False, **QUICK)
    losses = model.history["validation_loss"].to_numpy(dtype=float).ravel()
    weights = Noted.weights[-len(losses) :]  # without those of a check before training
    best = int(losses.argmin())
    assert best < len(losses) - 1
    kept = model.module.average.network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in weights[best].items())
    assert not all(torch.equal(kept[name], value) for name, value in weights[-1].items())


def test_test_conditions_change_nothing(screen: Any) -> None:
    """Perturbed cells labelled test could be anything: weights and forecasts stay the same."""
    results: list[Any] = []
    for factor in (1.0, 5.0):
        adata = screen.copy()
        test = (adata.obs["cell_type"] == "type_0") & (adata.obs["perturbation"] != "control")
        adata.obs["split"] = np.where(test, "test", "train")
        X = adata.X.toarray()
        X[test.to_numpy()] *= factor
        adata.X = X
        pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor", split_key="split")
        model = pc.PerturbDiff(adata, **SMALL)
        model.train(max_epochs=1, steps_per_epoch=3, **QUICK)
        results.append(model.predict(controls_of(adata, "type_0"), ["pert_0"], progressbar=False).X)
    np.testing.assert_array_equal(*results)
