from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from pertcast.module import SampleRequest, SetTransformerConfig, SetTransformerModule


def make(*, randomise: bool, **config: Any) -> SetTransformerModule:
    torch.manual_seed(0)
    options: Any = {"n_input": "learned", "n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_tokens": 2} | config
    sizes: Any = {"nonnegative": True, "n_trained": 3, "vectors": torch.randn(4, 3), "n_covariates": 1}
    module = SetTransformerModule(SetTransformerConfig(**options), 6, **sizes)
    module.scale.fill_(2.0)
    if randomise:
        for parameter in module.network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
        module.average.network.load_state_dict(module.network.state_dict())
    return module.eval()


def test_untrained_is_the_moved_control_cut_at_zero(request_of_two: SampleRequest) -> None:
    moved = make(randomise=False, anchor="shift").sample(request_of_two, generators=[])
    torch.testing.assert_close(moved, (request_of_two.source + request_of_two.shift[:, None]).relu())


def test_loss_is_the_energy_distance(tensors: dict[str, Tensor]) -> None:
    """Before training, with one control cell in each set, that cell is predicted M times."""
    module = make(randomise=False)
    batch = tensors | {"control": tensors["control"][:, :1], "control_mask": tensors["control_mask"][:, :1]}
    expected = []
    for x, mask, control in zip(batch["X"], batch["mask"], batch["control"], strict=True):
        cells, n = x[mask].numpy() / 2, int(mask.sum())
        within = cdist(cells, cells).sum() / (n * (n - 1))
        expected.append((2 * cdist(cells, control.numpy() / 2).mean() - within) / 6**0.5)
    found = module.loss(batch, torch.Generator().manual_seed(0)).loss.item()
    assert found == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_cells_keep_their_order_and_the_result_is_always_the_same(request_of_two: SampleRequest) -> None:
    module = make(randomise=True)
    found = module.sample(request_of_two, generators=[torch.Generator().manual_seed(0)] * 2)
    assert (found - request_of_two.source).abs().max() > 0.1
    order = torch.tensor([3, 1, 4, 0, 2])
    turned = module.sample(request_of_two._replace(source=request_of_two.source[:, order]), generators=[])
    torch.testing.assert_close(turned, found[:, order])
    alone = module.sample(request_of_two._replace(source=request_of_two.source[1:]), generators=[])
    torch.testing.assert_close(alone, found[1:])
    other = module.sample(request_of_two._replace(part_ids=torch.tensor([[0, 2]])), generators=[])
    assert (other - found).abs().max() > 0.05
