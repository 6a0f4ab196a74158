from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pertcast.nn import ConditionEncoder

N_TRAINED, N_ALL, N_HIDDEN = 3, 5, 8


def encoder(*, vectors: bool = True, **sizes: Any) -> ConditionEncoder:
    torch.manual_seed(0)
    given = torch.randn(N_ALL, 4, generator=torch.Generator().manual_seed(7)) if vectors else None
    return ConditionEncoder(N_TRAINED, N_HIDDEN, vectors=given, **sizes).double()


def encode(net: ConditionEncoder, ids: list[list[int]], mask: list[list[int]] | None = None, **given: Any) -> Tensor:
    n = len(ids)
    part_ids = torch.tensor(ids)
    values: dict[str, Any] = {
        "part_ids": part_ids,
        "part_mask": torch.ones_like(part_ids).bool() if mask is None else torch.tensor(mask).bool(),
        "dosage": torch.zeros(n, dtype=torch.float64),
        "covariates": torch.zeros(n, 2, dtype=torch.float64),
        "context": torch.zeros(n, dtype=torch.long),
        "batch": torch.zeros(n, dtype=torch.long),
    }
    return net(**{**values, **given})


def same(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


def test_order_of_parts_and_padding_do_not_matter() -> None:
    net = encoder()
    same(encode(net, [[0, 4]]), encode(net, [[4, 0]]))
    same(encode(net, [[0, 4, 2]], [[1, 1, 0]]), encode(net, [[0, 4]]))
    same(encode(net, [[3, 0, 4]], [[0, 1, 1]]), encode(net, [[0, 4]]))


def test_a_combination_is_the_sum_of_its_parts() -> None:
    net = encoder()
    single = encode(net, [[0], [1]])
    both = encode(net, [[0, 1]])[0]
    same(both, single.sum(0))
    assert (both - single).abs().amax(1).min() > 0.01
    assert (single[0] - single[1]).abs().max() > 0.01


def test_parts_without_a_learned_vector_use_given_vectors_alone() -> None:
    net = encoder()
    before = encode(net, [[3], [0]])
    with torch.no_grad():
        net.identity.weight.add_(1.0)
    after = encode(net, [[3], [0]])
    same(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 0.01
    assert net.project is not None
    same(net.part_vectors(torch.tensor([[3]]))[0, 0], net.project(net.vectors[3]))


def test_given_vectors_are_centred_and_scaled_once() -> None:
    net, torch_scaled = encoder(), encoder()
    given = torch.randn(N_ALL, 4, generator=torch.Generator().manual_seed(7))
    centred = given - given.mean(0)
    expected = (centred / centred.square().mean().sqrt()).double()
    torch.testing.assert_close(net.vectors, expected, rtol=0, atol=1e-6)
    scaled = ConditionEncoder(N_TRAINED, N_HIDDEN, vectors=5 * given + 3)
    torch.testing.assert_close(scaled.vectors.double(), torch_scaled.vectors, rtol=0, atol=1e-5)
    moved = ConditionEncoder(N_TRAINED, N_HIDDEN, vectors=given + 100 * torch.arange(4))  # each feature by its own
    torch.testing.assert_close(moved.vectors.double(), torch_scaled.vectors, rtol=0, atol=1e-3)


def test_given_parts_replace_those_of_the_ids() -> None:
    net = encoder()
    vectors = net.part_vectors(torch.tensor([[2]]))
    same(encode(net, [[0]], parts=vectors), encode(net, [[2]]))


@pytest.mark.parametrize("vectors", [True, False])
def test_parts_without_training_cells_have_no_learned_vector(vectors: bool) -> None:
    net = encoder(vectors=vectors)
    before = net.part_vectors(torch.tensor([[0, 1]]))[0]
    net.set_seen(torch.tensor([0, 2]))
    after = net.part_vectors(torch.tensor([[0, 1]]))[0]
    same(after[0], before[0])
    same(after[1], before[1] - net.identity.weight[1])


def test_a_single_given_number_is_no_division_by_zero() -> None:
    assert ConditionEncoder(1, N_HIDDEN, vectors=torch.tensor([[2.0]])).vectors.tolist() == [[0.0]]


def test_dropped_identities_leave_the_given_vectors() -> None:
    net = encoder()
    keep = torch.tensor([True, False])
    ids = torch.tensor([[0, 1], [0, 1]])
    kept = net.part_vectors(ids, keep_identity=keep)
    same(kept[0], net.part_vectors(ids)[0])
    same(kept[0] - kept[1], net.identity.weight[:2])


def test_identity_dropout_needs_given_vectors() -> None:
    assert encoder(identity_dropout=0.4).identity_dropout == 0.4
    assert encoder(vectors=False, identity_dropout=0.4).identity_dropout == 0


def test_dosage_covariates_contexts_and_batches_count() -> None:
    net = encoder(n_covariates=2, n_contexts=3, n_batches=2)
    base = encode(net, [[0]])
    dosage = encode(net, [[0]], dosage=torch.ones(1, dtype=torch.float64))
    assert (dosage - base).abs().max() > 0.01
    covariates = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    assert net.covariates is not None
    same(encode(net, [[0]], covariates=covariates) - base, covariates @ net.covariates.weight.T)
    for name in ("context", "batch"):
        chosen: dict[str, Any] = {name: torch.tensor([1])}
        table = getattr(net, name).weight
        same(encode(net, [[0]], **chosen) - base, (table[1] - table[0])[None])


def test_contexts_and_batches_are_ignored_unless_embedded() -> None:
    net = encoder()
    same(encode(net, [[0]], context=torch.tensor([9]), batch=torch.tensor([9])), encode(net, [[0]]))
