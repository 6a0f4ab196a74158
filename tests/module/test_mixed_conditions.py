from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from pertcast.module import SampleRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.module import PerturbDiffModule


@pytest.mark.parametrize(("w", "config"), [(0.0, {}), (0.7, {"self_conditioning": 0.5, "sampler": "ancestral"})])
def test_sets_of_several_conditions_are_those_of_each(
    make_module: Callable[..., PerturbDiffModule], request_of_two: SampleRequest, w: float, config: dict[str, Any]
) -> None:
    """Three sets of two conditions, in mixed order, against one condition at a time."""
    module, g = make_module(**config), torch.Generator().manual_seed(3)
    first = request_of_two
    control = torch.randn(first.control.shape, generator=g).abs()
    second = first._replace(
        control=control,
        control_mask=torch.ones_like(first.control_mask),
        shift=torch.flip(first.shift, [1]),
        part_ids=torch.tensor([[2, 0]]),
        part_mask=torch.tensor([[True, False]]),
        dosage=torch.tensor([5.0]),
        covariates=torch.tensor([[-1.0]]),
    )
    source = torch.randn(3, *first.source.shape[1:], generator=g).abs()
    names = ("control", "control_mask", "shift", "part_ids", "part_mask", "dosage", "covariates", "context", "batch")
    both: dict[str, Any] = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names}
    owner = torch.tensor([1, 0, 1])

    def draw(request: SampleRequest, sets: list[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(i) for i in sets]
        return module.sample(request, n_steps=3, guidance_scale=w, generators=generators)

    found = draw(SampleRequest(source=source, owner=owner, **both), [0, 1, 2])
    torch.testing.assert_close(found[[1]], draw(first._replace(source=source[[1]]), [1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[[0, 2]], draw(second._replace(source=source[[0, 2]]), [0, 2]), rtol=0, atol=1e-5)
    assert (draw(first._replace(source=source[[0]]), [0]) - found[0]).abs().max() > 1e-3
