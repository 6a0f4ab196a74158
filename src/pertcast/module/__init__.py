"""The scvi modules: loss and sampling."""

from __future__ import annotations

from pertcast.module._base import PopulationModule
from pertcast.module._batch import SampleRequest
from pertcast.module._conditional_monge import ConditionalMongeConfig, ConditionalMongeModule
from pertcast.module._config import PRESETS, PerturbDiffConfig, PopulationConfig, replace_values, resolve_config
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._flow_matching import FlowMatchingConfig, FlowMatchingModule
from pertcast.module._gate import ResidualGate
from pertcast.module._inputs import FixedInput, LearnedInput
from pertcast.module._monge_network import ContextEncoder, ResidualMap
from pertcast.module._perturbdiff import PerturbDiffModule
from pertcast.module._set_transformer import SetTransformerConfig, SetTransformerModule

__all__ = [
    "PRESETS",
    "ConditionalMongeConfig",
    "ConditionalMongeModule",
    "ContextEncoder",
    "ExponentialMovingAverage",
    "FixedInput",
    "FlowMatchingConfig",
    "FlowMatchingModule",
    "LearnedInput",
    "PerturbDiffConfig",
    "PerturbDiffModule",
    "PopulationConfig",
    "PopulationModule",
    "ResidualGate",
    "ResidualMap",
    "SampleRequest",
    "SetTransformerConfig",
    "SetTransformerModule",
    "replace_values",
    "resolve_config",
]
