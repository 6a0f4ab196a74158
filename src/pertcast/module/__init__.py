"""The scvi modules: loss and sampling."""

from __future__ import annotations

from pertcast.module._base import PopulationModule
from pertcast.module._batch import SampleRequest
from pertcast.module._conditional_monge import ConditionalMongeConfig, ConditionalMongeModule
from pertcast.module._config import PRESETS, PerturbDiffConfig, PopulationConfig, replace_values, resolve_config
from pertcast.module._doloris import BridgeEnds, DolorisModule
from pertcast.module._doloris_config import DolorisConfig
from pertcast.module._doloris_network import BridgeBlock, BridgeNetwork
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._flow_matching import FlowMatchingConfig, FlowMatchingModule
from pertcast.module._gate import ResidualGate
from pertcast.module._inputs import FixedInput, LearnedInput
from pertcast.module._monge_network import ContextEncoder, ResidualMap
from pertcast.module._perturbdiff import PerturbDiffModule
from pertcast.module._population_encoder import PopulationEncoderConfig, PopulationEncoderModule
from pertcast.module._population_networks import SetEncoder, SetGenerator
from pertcast.module._set_transformer import SetTransformerConfig, SetTransformerModule

__all__ = [
    "PRESETS",
    "BridgeBlock",
    "BridgeEnds",
    "BridgeNetwork",
    "ConditionalMongeConfig",
    "ConditionalMongeModule",
    "ContextEncoder",
    "DolorisConfig",
    "DolorisModule",
    "ExponentialMovingAverage",
    "FixedInput",
    "FlowMatchingConfig",
    "FlowMatchingModule",
    "LearnedInput",
    "PerturbDiffConfig",
    "PerturbDiffModule",
    "PopulationConfig",
    "PopulationEncoderConfig",
    "PopulationEncoderModule",
    "PopulationModule",
    "ResidualGate",
    "ResidualMap",
    "SampleRequest",
    "SetEncoder",
    "SetGenerator",
    "SetTransformerConfig",
    "SetTransformerModule",
    "replace_values",
    "resolve_config",
]
