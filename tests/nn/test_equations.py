"""The population transformer written out with numpy, head by head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pertcast.nn import GeneGraph, PopulationTransformer

N_HEADS, WIDTH = 2, 8


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return x @ layer.weight.detach().numpy().T + bias


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    heads = []
    for columns in np.split(np.arange(WIDTH), N_HEADS):
        scores = query[:, columns] @ key[:, columns].T / math.sqrt(WIDTH / N_HEADS)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        heads.append(weights / weights.sum(1, keepdims=True) @ value[:, columns])
    return np.concatenate(heads, 1)


def block(layer: Any, cells: np.ndarray, tokens: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """adaLN-Zero: shift, scale and gate of attention, then those of the perceptron."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = np.split(linear(layer.modulation, silu(condition)), 6)
    query, key, value = np.split(
        linear(layer.query_key_value, standardised(cells) * (1 + scale_a) + shift_a), 3, axis=1
    )
    of_controls = np.split(linear(layer.control_key_value, tokens), 2, axis=1)
    key, value = np.concatenate([key, of_controls[0]]), np.concatenate([value, of_controls[1]])
    cells = cells + gate_a * linear(layer.out, attention(query, key, value))
    inner = gelu(linear(layer.mlp[0], standardised(cells) * (1 + scale_m) + shift_m))
    return cells + gate_m * linear(layer.mlp[2], inner)


@pytest.fixture
def network() -> PopulationTransformer:
    """Two blocks in which no weight is zero."""
    torch.manual_seed(0)
    net = PopulationTransformer(
        5, 7, n_hidden=WIDTH, n_layers=2, n_heads=N_HEADS, n_tokens=3, self_conditioning=True, zero_output=False
    ).double()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    return net


def test_transformer_is_the_computation_written_out(network: Any) -> None:
    noisy, source, previous, control = torch.randn(4, 1, 6, 5, dtype=torch.float64)
    condition, t = torch.randn(1, WIDTH, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    with torch.no_grad():
        controls = network.encode_controls(control, torch.ones(1, 6, dtype=torch.bool))
        found = network(noisy, source, None, t, condition, controls, previous)[0].numpy()
        time = network.time(t)[0].numpy()

    embedded = linear(network.controls.embed, control[0].numpy())
    keys, values = np.split(linear(network.controls.key_value, embedded), 2, axis=1)
    queries = network.controls.queries.detach().numpy()
    pooled = linear(network.controls.out, attention(queries, keys, values))
    mean = embedded.mean(0)
    of_set = network.controls.summary
    scaled = standardised(mean) * of_set[0].weight.detach().numpy() + of_set[0].bias.detach().numpy()
    summary = linear(of_set[3], silu(linear(of_set[1], scaled)))

    cells = linear(network.embed_noisy, noisy[0].numpy()) + linear(network.embed_source, source[0].numpy())
    cells = cells + linear(network.embed_previous, previous[0].numpy())
    vector = condition[0].numpy() + time + summary
    for layer in network.blocks:
        cells = block(layer, cells, np.concatenate([pooled, mean[None]]), vector)
    shift, scale = np.split(linear(network.modulation, silu(vector)), 2)
    expected = linear(network.out, standardised(cells) * (1 + scale) + shift)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_second_layer_of_the_graph_adds_to_the_first() -> None:
    torch.manual_seed(0)
    graph: Any = GeneGraph(4, 3, 8, 2)
    graph.fit(torch.tensor([[0, 1], [1, 2]]), torch.randn(4, 3))
    nn.init.zeros_(graph.second.project.weight)
    alone = graph.first(graph.embedding, graph.edges)
    torch.testing.assert_close(graph(), torch.where(alone > 0, alone, alone.expm1()))
