from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.module import PerturbDiffModule

    type MakeModule = Callable[..., PerturbDiffModule]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("share", "tolerance"), [(1e-9, 0.0), (0.2, 0.09), (1.0, 0.0)])
def test_a_share_of_sets_sees_the_first_prediction(
    make_module: MakeModule,
    tensors: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    tolerance: float,
) -> None:
    module, given, found = make_module(self_conditioning=share).train(), [], []
    predict = module.predict_x0

    def watched(*args: Any) -> Tensor:
        given.append(args[-1])
        found.append(predict(*args))
        return found[-1]

    monkeypatch.setattr(module, "predict_x0", watched)
    many = {name: values.repeat(100, *[1] * (values.ndim - 1)) for name, values in tensors.items()}
    module.loss(many, generator())
    assert len(given) == 2
    assert not given[0].any()
    kept = given[1].flatten(1).any(1)
    assert torch.equal(given[1][kept], found[0][kept])
    # Four standard errors of a share of 400 sets.
    assert float(kept.float().mean()) == pytest.approx(share, abs=tolerance or 1e-6)


def test_the_network_sees_the_previous_prediction_in_the_units_of_the_data(
    make_module: MakeModule, tensors: dict[str, Tensor]
) -> None:
    module, seen = make_module(self_conditioning=0.5), []
    network: Any = module.network
    inputs: Any = module.input
    network["cells"].register_forward_pre_hook(lambda _, given: seen.append(given[6]))
    previous = torch.randn(4, 5, 6, generator=generator())
    with torch.no_grad():
        condition, controls = module.encode(network, tensors)
        x = tensors["X"]
        module.predict_x0(network, x, torch.full((4,), 0.5), x, tensors["mask"], condition, controls, previous)
    # The scale is 2, the centre 1 in every gene, and the largest variance 3.
    expected = (2 * previous - 1) @ inputs.axes / 3**0.5
    torch.testing.assert_close(seen[0], expected)
