from __future__ import annotations

from typing import Any

import pytest

from pertcast.diffusion import DiscreteLinearSchedule, get_schedule
from pertcast.module import PRESETS, PerturbDiffConfig, PopulationEncoderConfig, resolve_config


def test_reference_has_the_published_numbers() -> None:
    config = PRESETS["reference"]
    assert (config.n_hidden, config.n_layers, config.n_heads) == (512, 8, 8)
    assert (config.n_steps, config.guidance_scale) == (100, 1.0)
    assert (config.condition_dropout, config.self_conditioning) == (0.5, 0.5)
    assert (config.data_scale, config.anchor, config.n_input) == (10.0, "none", "learned")
    assert config.noise_share == 0
    assert not config.unbiased
    schedule = get_schedule(config.schedule)
    assert isinstance(schedule, DiscreteLinearSchedule)
    assert (schedule.n_timesteps, schedule.beta_start, schedule.beta_end) == (1000, 1e-4, 2e-2)


def test_the_default_is_anchored_and_takes_one_step() -> None:
    config = PRESETS["default"]
    assert config == PerturbDiffConfig()
    assert (config.anchor, config.n_steps, config.guidance_scale) == ("shift", 1, 0.0)


def test_overrides_replace_values_and_none_keeps_them() -> None:
    config = resolve_config("reference", {"n_hidden": 64, "n_layers": None, "adata": object()})
    assert config.n_hidden == 64
    assert config.n_layers == PRESETS["reference"].n_layers
    assert PRESETS["reference"].n_hidden == 512


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("n_hidden", 0, "at least 1"),
        ("n_steps", 0, "at least 1"),
        ("set_size", 1, "at least 2"),
        ("n_input", 0, "at least 1, or 'learned'"),
        ("n_input", "all", "at least 1, or 'learned'"),
        ("noise_share", 1.5, "between 0 and 1"),
        ("condition_dropout", -0.1, "between 0 and 1"),
        ("guidance_scale", -1.0, "at least 0"),
        ("learning_rate", 0.0, "above 0"),
        ("ema_decay", 1.0, "at least 0 and below 1"),
        ("data_scale", 0.0, "above 0"),
        ("representation", "umap", "one of"),
        ("anchor", "mean", "one of"),
    ],
)
def test_values_out_of_range_are_named(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; it must be {expected}"):
        resolve_config("default", {name: value})


def test_the_population_encoder_checks_its_values_too() -> None:
    with pytest.raises(TypeError, match="n_embedding"):
        PopulationEncoderConfig(n_embedding=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ema_decay is 2; it must be at least 0 and below 1"):
        PopulationEncoderConfig(ema_decay=2)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown preset 'best'; choose one of \['default', 'reference'\]"):
        resolve_config("best", {})
