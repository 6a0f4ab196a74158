from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from pertcast.module import FixedInput, PerturbDiffConfig, PerturbDiffModule, SampleRequest

if TYPE_CHECKING:
    from collections.abc import Callable

type MakeModule = Callable[..., PerturbDiffModule]

N_GENES, N_CONTROLS, N_CELLS = 6, 9, 5


def _module(seed: int = 0, *, nonnegative: bool = True, randomise: bool = True, **config: Any) -> PerturbDiffModule:
    """A tiny module whose network and average have no zero weights, unless asked for."""
    torch.manual_seed(seed)
    small = {"n_hidden": 16, "n_layers": 1, "n_heads": 2, "n_tokens": 2, "n_input": 4}
    module = PerturbDiffModule(
        PerturbDiffConfig(**{**small, **config}),
        N_GENES,
        nonnegative=nonnegative,
        n_trained=3,
        vectors=torch.randn(4, 3),
        n_covariates=1,
        n_contexts=2,
        n_batches=2,
    )
    if isinstance(module.input, FixedInput):
        n_features = len(module.input.mean)
        axes = torch.linalg.qr(torch.randn(n_features, 4)).Q
        module.input.fit(torch.ones(n_features), axes, torch.tensor([3.0, 2.0, 1.0, 0.5]))
    module.scale.fill_(2.0)
    if randomise:
        for parameter in module.network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
        module.average.network.load_state_dict(module.network.state_dict())
    return module.eval()


@pytest.fixture(scope="session")
def make_module() -> MakeModule:
    return _module


@pytest.fixture
def request_of_two() -> SampleRequest:
    g = torch.Generator().manual_seed(5)

    def cells(*shape: int) -> Tensor:
        return torch.randn(*shape, N_GENES, generator=g).abs()

    mask = torch.ones(1, N_CONTROLS, dtype=torch.bool)
    mask[:, 7:] = False
    return SampleRequest(
        source=cells(2, N_CELLS),
        control=cells(1, N_CONTROLS),
        control_mask=mask,
        shift=torch.tensor([[-3.0, -0.5, 0.0, 0.5, 1.0, 2.0]]),
        part_ids=torch.tensor([[1, 3]]),
        part_mask=torch.tensor([[True, True]]),
        dosage=torch.tensor([2.0]),
        covariates=torch.tensor([[0.5]]),
        context=torch.tensor([1]),
        batch=torch.tensor([0]),
    )


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(6)
    mask, control_mask = torch.ones(4, N_CELLS, dtype=torch.bool), torch.ones(4, N_CONTROLS, dtype=torch.bool)
    mask[0, 3:], control_mask[1, 4:] = False, False
    return {
        "X": torch.randn(4, N_CELLS, N_GENES, generator=g).abs() * mask[..., None],
        "mask": mask,
        "control": torch.randn(4, N_CONTROLS, N_GENES, generator=g).abs() * control_mask[..., None],
        "control_mask": control_mask,
        "shift": torch.randn(4, N_GENES, generator=g) * 0.3,
        "part_ids": torch.tensor([[0, 1], [2, 0], [3, 0], [1, 0]]),
        "part_mask": torch.tensor([[True, True], [True, False], [True, False], [True, False]]),
        "dosage": torch.tensor([1.0, 2.0, 3.0, 0.5]),
        "covariates": torch.tensor([[0.5], [-1.0], [2.0], [0.1]]),
        "context": torch.tensor([0, 1, 0, 1]),
        "batch": torch.tensor([1, 0, 0, 1]),
    }
