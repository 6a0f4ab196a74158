from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pertcast as pc
from pertcast.model._precision import automatic_precision

from .conftest import QUICK, controls_of

SMALL: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "set_size": 8, "n_controls": 8, "seed": 0}


def make(screen: Any) -> pc.PerturbDiff:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    return pc.PerturbDiff(screen, **SMALL)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed"), ({"avx512_f": True}, "32-true")],
)
def test_processors_with_units_for_bfloat16_use_them(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert automatic_precision("cpu") == automatic_precision("auto") == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_gpus_that_only_emulate_bfloat16_do_not_use_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert automatic_precision("gpu") == automatic_precision("auto") == expected


def test_mixed_precision_is_chosen_switched_off_and_close(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pertcast.model._runner.automatic_precision", lambda accelerator: "bf16-mixed")
    predictions = {}
    for precision in ("bf16-mixed", "32-true"):
        model = make(screen.copy())
        switch: dict[str, Any] = {} if precision == "bf16-mixed" else {"precision": "32-true"}
        model.train(max_epochs=2, steps_per_epoch=5, **QUICK, **switch)
        assert model.trainer.precision == precision
        assert all(weight.dtype == torch.float32 for weight in model.module.parameters())
        model.module.gate.set(1.0)
        predictions[precision] = model.predict(controls_of(screen), ["pert_0"], progressbar=False).to_df().to_numpy()
    error = np.abs(predictions["bf16-mixed"] - predictions["32-true"])
    assert 0 < error.mean() < 0.02 * np.abs(predictions["32-true"]).mean()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PerturbDiff", {"n_layers": 1}),
        ("PerturbDiff", {"n_layers": 1, "representation": "pca"}),
        ("PerturbDiff", {"n_layers": 1, "representation": "autoencoder"}),
        ("PerturbDiff", {"n_layers": 1, "preset": "reference"}),
        ("SetTransformer", {"n_layers": 1}),
        ("FlowMatching", {"n_layers": 1}),
        ("ConditionalMonge", {"n_latent": 12}),
        ("ConditionalMonge", {"n_latent": 12, "representation": "autoencoder"}),
        ("Doloris", {"n_layers": 1}),
        ("Unlasting", {"n_layers": 1}),
        ("PopulationEncoder", {"n_layers": 1}),
    ],
)
def test_every_model_trains_in_mixed_precision(screen: Any, name: str, options: dict[str, Any]) -> None:
    screen.var_names = ["pert_0", "pert_1", "pert_2", *screen.var_names[3:]]  # Doloris reads them from its graph
    model_class = getattr(pc, name)
    model_class.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    model = model_class(screen, n_hidden=16, seed=0, set_size=8, **options)
    model.train(max_epochs=1, steps_per_epoch=2, precision="bf16-mixed", **QUICK)
    weights = [weight for weight in model.module.parameters() if weight.is_floating_point()]
    assert all(weight.dtype == torch.float32 and bool(torch.isfinite(weight).all()) for weight in weights)
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()


def test_compiled_training_takes_the_same_steps_and_leaves_no_trace(screen: Any) -> None:
    losses = []
    for plan in ({}, {"compile": True, "compile_kwargs": {"backend": "aot_eager"}}):
        model = make(screen.copy())
        model.train(max_epochs=1, steps_per_epoch=4, plan_kwargs=plan, **QUICK)
        losses.append(float(model.history["train_loss"].to_numpy()[-1, 0]))
        assert all(part._compiled_call_impl is None for part in model.module.network.children())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
