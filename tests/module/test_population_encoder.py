from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pertcast.module import PopulationEncoderConfig, PopulationEncoderModule
from pertcast.module._population_networks import SetEncoder, SetGenerator


def moments(unit: float, **config: Any) -> PopulationEncoderModule:
    """Untrained for two genes: codes are means and standard deviations in units of ``unit``."""
    torch.manual_seed(0)
    module = PopulationEncoderModule(PopulationEncoderConfig(n_embedding=4, **config), 2, nonnegative=False)
    module.input.fit(mean=torch.zeros(2), axes=torch.eye(2), variance=torch.ones(2))
    module.initialise(spread=torch.zeros(2), unit=unit)
    return module.eval()


def populations() -> Tensor:
    """Three sets of four cells around the corners of a triangle with sides of 3, 4 and 5."""
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    around = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    return centres[:, None] + around


@pytest.mark.parametrize(("unit", "share"), [(1.0, 0.0), (2.0, 0.5), (0.5, -1.0)])
def test_stress_is_half_the_mean_square_of_what_distances_lack(unit: float, share: float) -> None:
    """Codes are apart as the cells are, in units of 1; partners of equal noise are in units of another."""
    module, cells, mask = moments(1.0), populations(), torch.ones(3, 4, dtype=torch.bool)
    module.unit.fill_(unit)
    tensors = {"X": cells, "mask": mask, "control": cells, "control_mask": mask}
    out = module.loss(tensors, torch.Generator().manual_seed(0))
    expected = 0.5 * share**2 * (9 + 16 + 25) / 3
    metrics = out.extra_metrics
    assert metrics["stress"].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert out.loss.item() == pytest.approx((metrics["energy"] + 0.1 * metrics["stress"]).item(), rel=1e-5)


@pytest.mark.parametrize("unit", [1.0, 4.0])
def test_embeddings_are_in_the_units_of_the_data(unit: float) -> None:
    module = moments(unit)
    mean = module.cell_features(torch.tensor([[1.0, 1.0], [3.0, 5.0]])).mean(0)
    found = module.embed(mean[None])
    torch.testing.assert_close(found, torch.tensor([[2.0, 3.0, 1.0, 2.0]]), atol=1e-4, rtol=0)


def test_random_directions_are_a_frame() -> None:
    """All have the same length, and many of them keep the length of every vector."""
    torch.manual_seed(0)
    for network in (SetEncoder(3, 4, n_hidden=1000, n_layers=1), SetGenerator(3, 4, 5, n_hidden=1000, n_layers=1)):
        weight = network.directions.weight.detach()
        torch.testing.assert_close(weight.square().sum(1), torch.full((1000,), 3 / 1000))
        torch.testing.assert_close(weight.T @ weight, torch.eye(3), atol=0.12, rtol=0)


def test_stress_moves_the_encoder_alone() -> None:
    """Its weight makes no difference to the gradient of the generator."""
    cells, mask = populations(), torch.ones(3, 4, dtype=torch.bool)
    tensors = {"X": cells + 0.3, "mask": mask, "control": cells, "control_mask": mask}
    gradients = []
    for weight in (0.1, 10.0):
        module = moments(1.0, isometry_weight=weight).train()
        module.unit.fill_(2.0)
        module.loss(tensors, torch.Generator().manual_seed(0)).loss.backward()
        network: Any = module.network
        gradients.append(
            {
                name: torch.cat([p.grad.flatten() for p in network[name].parameters() if p.grad is not None])
                for name in ("encoder", "generator")
            }
        )
    torch.testing.assert_close(gradients[0]["generator"], gradients[1]["generator"])
    assert gradients[0]["generator"].abs().max() > 1e-3
    assert (gradients[0]["encoder"] - gradients[1]["encoder"]).abs().max() > 1e-3


def test_validation_and_embeddings_use_the_averaged_weights() -> None:
    module, cells, mask = moments(1.0), populations(), torch.ones(3, 4, dtype=torch.bool)
    tensors = {"X": cells, "mask": mask, "control": cells, "control_mask": mask}
    before = module.loss(tensors, torch.Generator().manual_seed(0)).loss
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(module.loss(tensors, torch.Generator().manual_seed(0)).loss, before)
