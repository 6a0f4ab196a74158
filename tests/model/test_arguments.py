"""Arguments of models, of training and of prediction that make no sense are refused before any work is done."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import pertcast as pc

from .conftest import QUICK, controls_of

SMALL: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "seed": 0}
MODELS = ["ConditionalMonge", "Doloris", "FlowMatching", "PerturbDiff", "PopulationEncoder", "SetTransformer"]


def make(name: str, screen: Any, **options: Any) -> Any:
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    return getattr(pc, name)(screen, **SMALL | options)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but found -1"),
        ({"seed": 0.5}, TypeError, "`seed` must be a whole number, but found 0.5"),
        ({"min_cells": "5"}, TypeError, "`min_cells` must be a whole number, but found '5'"),
        ({"n_layers": 1.5}, TypeError, "`n_layers` must be a whole number, but found 1.5"),
        ({"n_sets": True}, TypeError, "`n_sets` must be a whole number, but found True"),
        ({"learning_rate": "1e-3"}, TypeError, "`learning_rate` must be a number, but found '1e-3'"),
        ({"learning_rate": float("nan")}, ValueError, "`learning_rate` must be finite"),
    ],
)
def test_bad_numbers(screen: Any, name: str, option: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(name, screen, **option)


@pytest.mark.parametrize("name", ["sampler", "schedule"])
def test_unknown_choices(screen: Any, name: str) -> None:
    options: Any = {name: "x"}
    with pytest.raises(ValueError, match=f"^Unknown .*{name} 'x'. Choose one of"):
        make("PerturbDiff", screen, **options)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"max_epochs": 2.0}, TypeError, "`max_epochs` must be a whole number, but found 2.0"),
        ({"steps_per_epoch": 1.5}, TypeError, "`steps_per_epoch` must be a whole number, but found 1.5"),
        ({"max_epochs": -1}, ValueError, "`max_epochs` must be at least 1, but found -1"),
        ({"max_steps": 2.0}, TypeError, "`max_steps` must be a whole number, but found 2.0"),
        ({"max_steps": 0}, ValueError, "`max_steps` must be at least 1, but found 0"),
        ({"batch_size": 32}, TypeError, r"has no argument 'batch_size'.*\(adata, n_sets=\.\.\., set_size=\.\.\.\)"),
        ({"train_size": 0.9}, TypeError, "has no argument 'train_size'.*`validation_size`"),
        ({"datasplitter_kwargs": {}}, TypeError, "has no argument 'datasplitter_kwargs'.*`split_key`"),
        ({"shuffle_set_split": True}, TypeError, "has no argument 'shuffle_set_split'.*seed"),
        ({"learning_rate": 1e-4}, TypeError, "'learning_rate'. It is an argument of the model"),
        ({"warmup": 5}, TypeError, "'warmup'. It is an argument of `plan_kwargs`"),
        ({"max_epoch": 5}, TypeError, "'max_epoch'. Did you mean 'max_epochs'"),
        ({"gradient_clip_value": 5}, TypeError, "Did you mean 'gradient_clip_val'"),
        ({"plan_kwargs": {"lr": 1e-4}}, TypeError, r"no argument 'lr'.*\(adata, learning_rate=\.\.\.\)"),
        ({"plan_kwargs": {"weight_decay": 1e-4}}, TypeError, "'weight_decay'. It is an argument of the model"),
        ({"plan_kwargs": {"warm_up": 3}}, TypeError, r"Did you mean 'warmup'\? It has warmup, compile"),
        ({"plan_kwargs": {"warmup": 0.5}}, TypeError, "`warmup` must be a whole number"),
        ({"plan_kwargs": 3}, TypeError, "`plan_kwargs` must be a dict"),
    ],
)
def test_bad_training(screen: Any, name: str, option: dict[str, Any], error: Any, message: str) -> None:
    model = make(name, screen)
    with pytest.raises(error, match=message):
        model.train(**QUICK | option)
    assert not model.is_trained_


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({"max_steps": 4}, 4, 1),
        ({"max_steps": 5, "steps_per_epoch": 2}, 5, 3),
        ({"max_steps": 9, "steps_per_epoch": 2, "max_epochs": 2}, 4, 2),
        ({"max_steps": -1, "steps_per_epoch": 2, "max_epochs": 2}, 4, 2),
    ],
)
def test_steps_end_training_with_a_validation(screen: Any, options: dict[str, int], steps: int, epochs: int) -> None:
    model = make("PerturbDiff", screen)
    model.train(**QUICK | options)
    assert model.trainer.global_step == steps
    assert len(model.history["validation_loss"]) == epochs


def test_no_warm_up(screen: Any) -> None:
    make("PerturbDiff", screen).train(max_steps=1, plan_kwargs={"warmup": 0}, **QUICK)


def test_trainer_arguments_still_arrive(screen: Any) -> None:
    model = make("PerturbDiff", screen)
    model.train(max_steps=2, gradient_clip_val=0.5, log_every_n_steps=1, trainer_config={"benchmark": False}, **QUICK)
    assert model.trainer.gradient_clip_val == 0.5


@pytest.fixture(scope="module", params=["FlowMatching", "PerturbDiff"])
def fitted(request: pytest.FixtureRequest, screen_template: Any) -> Any:
    options: Any = {"condition_dropout": 0.5} if request.param == "PerturbDiff" else {}
    model = make(request.param, screen_template.copy(), **options)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    return model


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"n_steps": 2.5}, TypeError, "`n_steps` must be a whole number, but found 2.5"),
        ({"n_steps": "3"}, TypeError, "`n_steps` must be a whole number, but found '3'"),
        ({"n_steps": True}, TypeError, "`n_steps` must be a whole number, but found True"),
        ({"n_steps": 0}, ValueError, "`n_steps` must be at least 1, but found 0"),
        ({"guidance_scale": float("nan")}, ValueError, "`guidance_scale` must be finite, but found nan"),
        ({"guidance_scale": "1"}, TypeError, "`guidance_scale` must be a number, but found '1'"),
        ({"guidance_scale": -1}, ValueError, "`guidance_scale` must be at least 0, but found -1"),
    ],
)
def test_bad_sampling(fitted: Any, screen: Any, option: dict[str, Any], error: Any, message: str) -> None:
    if "guidance_scale" in option and isinstance(fitted, pc.FlowMatching):
        pytest.skip("no guidance")
    with pytest.raises(error, match=message):
        fitted.predict(controls_of(screen, "type_0"), ["pert_0"], **option, progressbar=False)


def test_whole_numbers_of_numpy_are_fine(fitted: Any, screen: Any) -> None:
    predicted = fitted.predict(controls_of(screen, "type_0"), ["pert_0"], n_steps=np.int64(2), progressbar=False)
    assert predicted.uns["pertcast"]["steps"] == 2


def test_an_untested_gate_is_logged(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = make("PerturbDiff", screen)
    with caplog.at_level(logging.INFO, logger="pertcast"):
        model.train(max_epochs=1, steps_per_epoch=1, validation_size=0, **QUICK)
    assert "Gate of the network: 0.50, because no conditions are held out" in caplog.text
