"""The network of PerturbDiff, on tensors only."""

from __future__ import annotations

from pertcast.nn._attention import PopulationBlock, attend
from pertcast.nn._condition import ConditionEncoder
from pertcast.nn._controls import ControlEncoder, ControlEncoding
from pertcast.nn._embedding import TimeEmbedding, sinusoid
from pertcast.nn._population import PopulationTransformer

__all__ = [
    "ConditionEncoder",
    "ControlEncoder",
    "ControlEncoding",
    "PopulationBlock",
    "PopulationTransformer",
    "TimeEmbedding",
    "attend",
    "sinusoid",
]
