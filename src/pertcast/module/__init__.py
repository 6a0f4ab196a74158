"""The scvi modules: loss and sampling."""

from __future__ import annotations

from pertcast.module._batch import SampleRequest
from pertcast.module._config import PRESETS, PerturbDiffConfig, resolve_config
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._gate import ResidualGate
from pertcast.module._inputs import FixedInput, LearnedInput
from pertcast.module._perturbdiff import PerturbDiffModule

__all__ = [
    "PRESETS",
    "ExponentialMovingAverage",
    "FixedInput",
    "LearnedInput",
    "PerturbDiffConfig",
    "PerturbDiffModule",
    "ResidualGate",
    "SampleRequest",
    "resolve_config",
]
