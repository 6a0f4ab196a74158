"""Hyper-parameters that all population models share, those of PerturbDiff, and its presets."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pertcast._numbers import check_number, check_whole
from pertcast.diffusion import get_sampler, get_schedule
from pertcast.representation import REPRESENTATIONS, RepresentationName

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PRESETS",
    "PerturbDiffConfig",
    "PopulationConfig",
    "check_types",
    "replace_values",
    "require",
    "resolve_config",
]


def require(name: str, value: object, condition: bool, expected: str) -> None:
    """Raise an error about a hyper-parameter unless a condition holds.

    Parameters
    ----------
    name
        Its name.
    value
        What was given.
    condition
        Whether that is fine.
    expected
        What it must be.

    Raises
    ------
    ValueError
        With all three in the message.
    """
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {expected}.")


def check_types(config: Any, values: Mapping[str, Any]) -> None:
    """Raise unless numbers are given for hyper-parameters that are numbers, and whole ones where they count something.

    Parameters
    ----------
    config
        Hyper-parameters, of which the class holds the defaults.
    values
        What was given, by name.

    Raises
    ------
    TypeError
        If a value is of another type than its default.
    ValueError
        If a number is NaN or infinite.
    """
    defaults = {field.name: field.default for field in fields(config)} | {"n_input": None}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(default, bool) and value not in (True, False):
            raise TypeError(f"`{name}` must be True or False, but found {value!r}.")
        if isinstance(default, int) and not isinstance(default, bool):
            check_whole(name, value, least=-sys.maxsize)  # ranges have messages of their own
        if isinstance(default, float) or (name == "data_scale" and value is not None):
            check_number(name, value)


@dataclass(frozen=True)
class PopulationConfig:
    """Hyper-parameters that all population models share; see :class:`pertcast.PerturbDiff` for what each means.

    Examples
    --------
    >>> PopulationConfig(n_controls=64).n_controls
    64
    >>> PopulationConfig(set_size=1)
    Traceback (most recent call last):
        ...
    ValueError: set_size is 1; it must be at least 2: a distance needs pairs of cells.
    """

    ways_to_zeros: ClassVar[tuple[str, ...]] = ("hurdle", "relu")
    """Values that ``zeros`` may have."""

    representation: RepresentationName = "genes"
    n_latent: int = 50
    anchor: Literal["shift", "none"] = "none"
    zeros: Literal["hurdle", "relu"] = "hurdle"
    n_input: int | Literal["learned"] = 64
    data_scale: float | None = None
    set_size: int = 64
    n_controls: int = 128
    n_sets: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.98

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        check_types(self, vars(self))
        for name in ("n_latent", "n_controls", "n_sets"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        require("set_size", self.set_size, self.set_size >= 2, "at least 2: a distance needs pairs of cells")
        learned = self.n_input == "learned"
        fixed = isinstance(self.n_input, Integral) and not isinstance(self.n_input, bool) and self.n_input >= 1
        require("n_input", self.n_input, learned or fixed, "at least 1, or 'learned'")
        require("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        require("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        scaled = self.data_scale is None or self.data_scale > 0
        require("data_scale", self.data_scale, scaled, "above 0, or None for the spread of the data")
        choices = {"representation": REPRESENTATIONS, "anchor": ("shift", "none"), "zeros": self.ways_to_zeros}
        for name, known in choices.items():
            require(name, getattr(self, name), getattr(self, name) in known, f"one of {known}")


@dataclass(frozen=True)
class TransformerConfig(PopulationConfig):
    """Hyper-parameters of models whose network is a :class:`pertcast.nn.PopulationTransformer`."""

    n_hidden: int = 128
    n_layers: int = 3
    n_heads: int = 4
    n_tokens: int = 8

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        super().__post_init__()
        for name in ("n_hidden", "n_layers", "n_heads", "n_tokens"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")


@dataclass(frozen=True)
class PerturbDiffConfig(TransformerConfig):
    """Hyper-parameters; see :class:`pertcast.PerturbDiff` for what each means.

    Examples
    --------
    >>> PerturbDiffConfig(n_steps=4).n_steps
    4
    >>> PerturbDiffConfig(noise_share=1.5)
    Traceback (most recent call last):
        ...
    ValueError: noise_share is 1.5; it must be between 0 and 1.
    """

    anchor: Literal["shift", "none"] = "shift"
    schedule: Literal["cosine", "linear", "discrete_linear"] = "cosine"
    noise_share: float = 0.5
    self_conditioning: float = 0.0
    condition_dropout: float = 0.0
    mse_weight: float = 0.0
    unbiased: bool = True
    embed_context: bool = False
    embed_batch: bool = False
    sampler: Literal["ddim", "ancestral", "dpmpp_2m"] = "ddim"
    n_steps: int = 1
    guidance_scale: float = 0.0

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        super().__post_init__()
        require("n_steps", self.n_steps, self.n_steps >= 1, "at least 1")
        get_schedule(self.schedule)  # raises for an unknown name
        get_sampler(self.sampler)
        for name in ("noise_share", "self_conditioning", "condition_dropout"):
            require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("mse_weight", "guidance_scale"):
            require(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")


PRESETS: dict[str, PerturbDiffConfig] = {
    "default": PerturbDiffConfig(),
    "reference": PerturbDiffConfig(
        anchor="none",
        zeros="relu",
        n_input="learned",
        data_scale=10.0,
        n_hidden=512,
        n_layers=8,
        n_heads=8,
        schedule="discrete_linear",
        noise_share=0.0,
        self_conditioning=0.5,
        condition_dropout=0.5,
        mse_weight=0.045,  # 2 / sqrt(K) of the published loss at K = 2,000 features
        unbiased=False,
        embed_context=True,
        embed_batch=True,
        n_steps=100,
        guidance_scale=1.0,
        set_size=256,
        n_controls=256,
        n_sets=8,
        learning_rate=2e-4,
        ema_decay=0.99,
    ),
}
"""``default``: anchored, small, one step. ``reference``: the published network, loss, guidance and number of steps."""


def resolve_config(preset: str, overrides: dict[str, Any]) -> PerturbDiffConfig:
    """Return a preset with some values replaced.

    Parameters
    ----------
    preset
        Name of a preset.
    overrides
        Values to replace; None keeps the value of the preset.

    Returns
    -------
    The configuration.

    Raises
    ------
    ValueError
        If the preset is unknown or a value is out of its range.

    Examples
    --------
    >>> config = resolve_config("reference", {"n_hidden": 64, "n_layers": None})
    >>> config.n_hidden, config.n_layers
    (64, 8)
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset!r}; choose one of {sorted(PRESETS)}.")
    return replace_values(PRESETS[preset], overrides)


def replace_values[Config](config: Config, overrides: dict[str, Any]) -> Config:
    """Return hyper-parameters with some values replaced.

    Parameters
    ----------
    config
        Hyper-parameters.
    overrides
        Values by name; names that are no hyper-parameters, and values of None, are left out.

    Returns
    -------
    A copy of the configuration with these values.

    Raises
    ------
    TypeError
        If a value is not a number where one is needed.
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> replace_values(PerturbDiffConfig(), {"n_steps": 4, "n_sets": None, "adata": "other"}).n_steps
    4
    """
    given: Any = config
    names = {field.name for field in fields(given)}
    chosen = {name: value for name, value in overrides.items() if name in names and value is not None}
    check_types(given, chosen)
    return replace(given, **chosen)
