from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pertcast.nn import DosageGate, GeneGraph, GraphAttention, GraphConditionEncoder, KnockoutReadout, message_edges

N_GENES = 7


def edges() -> torch.Tensor:
    return torch.tensor([[0, 1, 2, 3, 3], [1, 2, 0, 4, 4]])


def test_messages_pass_both_ways_and_to_oneself() -> None:
    found = {(int(a), int(b)) for a, b in message_edges(edges(), N_GENES).T}
    given = {(int(a), int(b)) for a, b in edges().T}
    assert found == given | {(b, a) for a, b in given} | {(i, i) for i in range(N_GENES)}


@pytest.mark.parametrize("n_heads", [1, 2])
def test_attention_is_the_dense_computation(n_heads: int) -> None:
    """Softmax over the row of an adjacency matrix, head by head, written out."""
    torch.manual_seed(0)
    layer = GraphAttention(5, 6, n_heads)
    nodes, messages = torch.randn(N_GENES, 5), message_edges(edges(), N_GENES)
    joined = torch.zeros(N_GENES, N_GENES, dtype=torch.bool)
    joined[messages[1], messages[0]] = True
    weight = layer.project.weight.view(n_heads, 6 // n_heads, 5)
    outputs = []
    for head in range(n_heads):
        h = nodes @ weight[head].T
        e = F.leaky_relu((h @ layer.receive[head])[:, None] + (h @ layer.send[head])[None], 0.2)
        outputs.append(e.masked_fill(~joined, -torch.inf).softmax(1) @ h)
    torch.testing.assert_close(layer(nodes, messages), torch.cat(outputs, 1))


def test_attention_keeps_double_precision() -> None:
    torch.manual_seed(0)
    layer, messages = GraphAttention(5, 6, 2).double(), message_edges(edges(), N_GENES)
    nodes = torch.randn(N_GENES, 5, dtype=torch.float64)
    found = layer(nodes, messages)
    torch.testing.assert_close(found.float(), layer.float()(nodes.float(), messages))
    assert found.dtype == torch.float64


def test_attention_survives_large_scores() -> None:
    layer = GraphAttention(2, 4, 2)
    found = layer(1e4 * torch.randn(N_GENES, 2), message_edges(edges(), N_GENES))
    assert found.isfinite().all()


def test_states_follow_the_genes_in_any_order() -> None:
    torch.manual_seed(0)
    graph, moved = (GeneGraph(N_GENES, 3, 8, 2) for _ in range(2))
    moved.load_state_dict(graph.state_dict())
    order, embedding = torch.randperm(N_GENES), torch.randn(N_GENES, 3)
    graph.fit(edges(), embedding)
    moved.fit(order.argsort()[edges()], embedding[order])
    torch.testing.assert_close(moved(), graph()[order])


def test_state_reaches_two_edges_far() -> None:
    torch.manual_seed(0)
    graph = GeneGraph(6, 3, 8, 2)
    embedding = torch.randn(6, 3)
    chain = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    graph.fit(chain, embedding)
    before = graph()
    embedding[0] += 1
    graph.fit(chain, embedding)
    changed = (graph() - before).abs().amax(1) > 1e-6
    assert changed.tolist() == [True, True, True, False, False, False]


def test_edges_are_loaded_whatever_their_number() -> None:
    graph = GeneGraph(N_GENES, 3, 8, 2)
    graph.fit(edges(), torch.randn(N_GENES, 3))
    other = GeneGraph(N_GENES, 3, 8, 2)
    other.load_state_dict(graph.state_dict())
    torch.testing.assert_close(other(), graph())


def test_heads_share_the_width() -> None:
    with pytest.raises(ValueError, match="7 features cannot be shared by 2 heads"):
        GraphAttention(3, 7, 2)


def test_dosage_gate_scales_features_by_a_sigmoid() -> None:
    gate = DosageGate(4)
    part = torch.randn(3, 5)
    for bias, factor in ((50.0, 1.0), (-50.0, 0.0)):
        last: Any = gate.gate[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, bias)
        torch.testing.assert_close(gate(part), gate.layers(factor * part[:, :4]))


def encoder(vectors: torch.Tensor | None = None) -> GraphConditionEncoder:
    torch.manual_seed(1)
    made = GraphConditionEncoder(3, 8, n_genes=N_GENES, n_embedding=3, n_heads=2, vectors=vectors)
    made.genes.fit(edges(), torch.randn(N_GENES, 3))
    return made


def test_parts_read_their_node_and_unseen_genes_nothing_else() -> None:
    made = encoder()
    made.set_genes(torch.tensor([4, -1, 2]))
    found = made.part_vectors(torch.tensor([[0, 1, 3 + 4]]))[0]
    states = made.genes()
    torch.testing.assert_close(found[0], made.identity.weight[0] + states[4])
    torch.testing.assert_close(found[1], made.identity.weight[1])
    torch.testing.assert_close(found[2], states[4])
    dropped = made.part_vectors(torch.tensor([[0, 1]]), keep_identity=torch.tensor([False]))[0]
    torch.testing.assert_close(dropped[0], states[4])
    torch.testing.assert_close(dropped[1], made.identity.weight[1])  # nothing else describes it


def test_given_vectors_are_added() -> None:
    vectors = torch.randn(4, 5)
    made = encoder(vectors)
    made.set_genes(torch.tensor([4, -1, -1, 6]))
    assert made.project is not None
    found = made.part_vectors(torch.tensor([[3]]))[0, 0]
    torch.testing.assert_close(found, made.genes()[6] + made.project(made.vectors[3]))


def test_knockout_readout_is_the_graph_with_an_embedding_set_to_zero() -> None:
    torch.manual_seed(0)
    graph, read, embedding = GeneGraph(6, 3, 8, 2), KnockoutReadout(6, 8), torch.randn(6, 3)
    chain = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    graph.fit(chain, embedding)
    found, intact = read(graph, torch.tensor([[4, 0], [4, 4]])), graph()
    without = embedding.clone()
    without[4] = 0
    graph.fit(chain, without)
    changed = graph() - intact
    assert (changed.abs().amax(1) > 1e-6).tolist() == [False, False, True, True, True, False]
    numbers = torch.einsum("gd,gd->g", changed, read.query)
    torch.testing.assert_close(found[0, 0], read.out.weight @ numbers + read.out.bias)
    torch.testing.assert_close(found[1], found[:1, 0].expand(2, -1))
    assert (found[0, 1] - found[0, 0]).abs().max() > 1e-4


def test_encoder_of_knockouts() -> None:
    torch.manual_seed(1)
    made = GraphConditionEncoder(3, 8, n_genes=N_GENES, n_embedding=3, n_heads=2, knockout=True)
    made.genes.fit(edges(), torch.randn(N_GENES, 3))
    made.set_genes(torch.tensor([4, -1, 2]))
    found = made.part_vectors(torch.tensor([[0, 1], [3 + 4, 3 + 6]]))
    read = made.read(made.genes, torch.tensor([4, 6]))
    torch.testing.assert_close(found[0, 0], made.identity.weight[0] + read[0])
    torch.testing.assert_close(found[0, 1], made.identity.weight[1])
    torch.testing.assert_close(found[1], read)
