"""The models that users call."""

from __future__ import annotations

from pertcast.model._base import PopulationModel
from pertcast.model._conditional_monge import ConditionalMonge
from pertcast.model._doloris import Doloris, Unlasting
from pertcast.model._flow_matching import FlowMatching
from pertcast.model._perturbdiff import PerturbDiff
from pertcast.model._population_encoder import PopulationEncoder
from pertcast.model._set_transformer import SetTransformer

__all__ = [
    "ConditionalMonge",
    "Doloris",
    "FlowMatching",
    "PerturbDiff",
    "PopulationEncoder",
    "PopulationModel",
    "SetTransformer",
    "Unlasting",
]
