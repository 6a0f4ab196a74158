from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pertcast.nn import ControlEncoder, ControlEncoding, TimeEmbedding, attend, sinusoid


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_a_softmax_over_the_allowed_keys(masked: bool) -> None:
    n_heads, width = 3, 4
    query, key, value = normal(2, 5, 12), normal(2, 6, 12, seed=1), normal(2, 6, 12, seed=2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    if masked:
        mask[0, 4:], mask[1, :2] = False, False
    expected = torch.zeros(2, 5, 12, dtype=torch.float64)
    for b in range(2):
        for h in range(n_heads):
            part = slice(h * width, (h + 1) * width)
            for m in range(5):
                logits = key[b, mask[b], part] @ query[b, m, part] / math.sqrt(width)
                expected[b, m, part] = (logits.exp() / logits.exp().sum()) @ value[b, mask[b], part]
    torch.testing.assert_close(attend(query, key, value, n_heads, mask if masked else None), expected)


def test_sinusoid_closed_form() -> None:
    values = torch.tensor([0.0, 1.5, 700.0])
    features = sinusoid(values, 6, max_period=1000.0)
    frequency = [1.0, 1000 ** (-1 / 3), 1000 ** (-2 / 3)]
    expected = [[math.cos(v * f) for f in frequency] + [math.sin(v * f) for f in frequency] for v in (0.0, 1.5, 700.0)]
    torch.testing.assert_close(features, torch.tensor(expected), rtol=0, atol=1e-4)


def test_time_embedding_sees_a_thousand_steps() -> None:
    torch.manual_seed(0)
    embedding = TimeEmbedding(8, 16)
    t = torch.tensor([0.25, 0.251])
    expected = embedding.layers(sinusoid(torch.tensor([250.0, 251.0]), 16))
    torch.testing.assert_close(embedding(t), expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01


def test_tokens_and_summary_of_controls() -> None:
    torch.manual_seed(0)
    encoder = ControlEncoder(5, 8, 2, 3).double()
    control, mask = normal(2, 6, 5), torch.ones(2, 6, dtype=torch.bool)
    mask[0, 2:] = False
    encoding = encoder(control, mask)
    assert encoding.tokens.shape == (2, 4, 8)
    mean = torch.stack([encoder.embed(control[b, mask[b]]).mean(0) for b in range(2)])
    torch.testing.assert_close(encoding.tokens[:, -1], mean)
    torch.testing.assert_close(encoding.summary, encoder.summary(mean))
    twice = encoder(control.repeat(1, 2, 1), mask.repeat(1, 2))
    torch.testing.assert_close(twice.tokens, encoding.tokens)


def test_expanding_an_encoding_copies_nothing() -> None:
    encoding = ControlEncoding(normal(1, 3, 4), normal(1, 4))
    shared = encoding.expand(5)
    assert shared.tokens.shape == (5, 3, 4)
    assert shared.summary.shape == (5, 4)
    assert shared.tokens.data_ptr() == encoding.tokens.data_ptr()
    assert all(torch.equal(row, encoding.summary[0]) for row in shared.summary)
