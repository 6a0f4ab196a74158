"""The networks of the models, on tensors only."""

from __future__ import annotations

from pertcast.nn._attention import PopulationBlock, attend
from pertcast.nn._condition import ConditionEncoder
from pertcast.nn._controls import ControlEncoder, ControlEncoding
from pertcast.nn._embedding import TimeEmbedding, sinusoid
from pertcast.nn._graph import GeneGraph, GraphAttention, message_edges
from pertcast.nn._graph_condition import DosageGate, GraphConditionEncoder
from pertcast.nn._graph_readout import KnockoutReadout, NodeReadout
from pertcast.nn._population import PopulationTransformer

__all__ = [
    "ConditionEncoder",
    "ControlEncoder",
    "ControlEncoding",
    "DosageGate",
    "GeneGraph",
    "GraphAttention",
    "GraphConditionEncoder",
    "KnockoutReadout",
    "NodeReadout",
    "PopulationBlock",
    "PopulationTransformer",
    "TimeEmbedding",
    "attend",
    "message_edges",
    "sinusoid",
]
