from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from pertcast.module import FlowMatchingConfig, FlowMatchingModule, SampleRequest
from pertcast.module._flow_matching import couple


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(seed: int = 0, n_genes: int = 6, **config: Any) -> FlowMatchingModule:
    torch.manual_seed(seed)
    small = {
        "representation": "genes",
        "n_input": "learned",
        "n_hidden": 32,
        "n_layers": 1,
        "n_heads": 2,
        "n_tokens": 2,
    }
    options: Any = small | config
    sizes: Any = {"nonnegative": False, "n_trained": 3, "vectors": torch.randn(4, 3), "n_covariates": 1}
    return FlowMatchingModule(FlowMatchingConfig(**options), n_genes, **sizes).eval()


def all_real(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_pairs_by_optimal_transport() -> None:
    """The plan is that of POT, and cells beyond the mask stay out of it."""
    x, y = (torch.randn(2, 12, 3, generator=generator(seed)) for seed in (0, 1))
    mask = all_real(2, 12)
    mask[1, 8:] = False
    found = couple(x, y, mask)
    for number, n in enumerate((12, 8)):
        cost = cdist(y[number, :n], x[number, :n], "sqeuclidean")
        plan = ot.emd([], [], cost)
        np.testing.assert_array_equal(found[number, :n].numpy(), plan.argmax(1))
        assert sorted(found[number].tolist()) == list(range(12))


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_solvers_have_their_growth_factors(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On dx/dt = x, Euler multiplies by 1 + h in a step and Heun by 1 + h + h^2 / 2."""
    h = 1 / n_steps
    for solver, factor in (("euler", 1 + h), ("heun", 1 + h + h**2 / 2)):
        module = make(solver=solver)
        monkeypatch.setattr(module, "velocity", lambda network, x, t, *rest: x)
        x = torch.randn(2, 5, 6, generator=generator(0))
        anything: Any = None
        moved = module.flow(None, x, all_real(2, 5), anything, anything, n_steps=n_steps)
        torch.testing.assert_close(moved, x * factor**n_steps)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_solvers_follow_a_velocity_that_changes_with_time(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On dx/dt = t Heun is exact, and Euler a sum of left ends."""
    anything: Any = None
    for solver, way in (("euler", (n_steps - 1) / (2 * n_steps)), ("heun", 0.5)):
        module = make(solver=solver)
        monkeypatch.setattr(module, "velocity", lambda network, x, t, *rest: t[:, None, None].expand_as(x))
        moved = module.flow(None, torch.zeros(2, 5, 6), None, anything, anything, n_steps=n_steps)
        torch.testing.assert_close(moved, torch.full((2, 5, 6), way))


def test_untrained_flow_stays_at_the_moved_controls(request_of_two: SampleRequest) -> None:
    generators = [generator(0), generator(1)]
    still = make().sample(request_of_two, n_steps=3, generators=generators)
    torch.testing.assert_close(still, request_of_two.source)
    moved = make(anchor="shift").sample(request_of_two, n_steps=3, generators=generators)
    torch.testing.assert_close(moved, request_of_two.source + request_of_two.shift[:, None])


def test_loss_is_the_squared_displacement_before_training(tensors: dict[str, Tensor]) -> None:
    """With one control cell in each set there is one pairing, and the velocity starts at 0."""
    module = make().train()
    module.scale.fill_(2.0)
    batch = tensors | {"control": tensors["control"][:, :1], "control_mask": tensors["control_mask"][:, :1]}
    difference = (batch["X"] - batch["control"])[..., :].square() / 4
    per_set = [difference[i][batch["mask"][i]].mean() for i in range(4)]
    assert module.loss(batch, generator(0)).loss.item() == pytest.approx(float(torch.stack(per_set).mean()), rel=1e-5)
    assert set(module.eval().loss(batch, generator(0)).extra_metrics) == {"energy"}


def test_loss_pairs_cells_in_their_order_on_a_line(tensors: dict[str, Tensor]) -> None:
    """Two clusters on each side; the velocity starts at 0, so the loss is the sorted displacement over 2 squared."""
    module = make(n_genes=1).train()
    module.scale.fill_(2.0)
    control, target = torch.tensor([10.0, 0.0, 11.0, 1.0]), torch.tensor([2.0, 14.0, 1.0, 12.0])
    batch = tensors | {
        "control": control.view(1, 4, 1).repeat(4, 1, 1),
        "X": target.view(1, 4, 1).repeat(4, 1, 1),
        "mask": all_real(4, 4),
        "control_mask": all_real(4, 4),
        "shift": torch.zeros(4, 1),
    }
    for seed in range(3):
        # 0 to 1, 1 to 2, 10 to 12 and 11 to 14
        expected = (1 + 1 + 4 + 9) / 4 / 4
        assert module.loss(batch, generator(seed)).loss.item() == pytest.approx(expected, rel=1e-6)


def test_time_runs_from_the_control_to_the_perturbed_cell(
    tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen = make(n_genes=1).train(), []

    def watched(network: Any, x_t: Tensor, t: Tensor, *rest: Any) -> Tensor:
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    monkeypatch.setattr(module, "velocity", watched)
    batch = tensors | {
        "control": torch.full((4, 2, 1), 3.0),
        "X": torch.full((4, 5, 1), 7.0),
        "mask": all_real(4, 5),
        "control_mask": all_real(4, 2),
        "shift": torch.zeros(4, 1),
    }
    module.loss(batch, generator(0))
    x_t, t = seen[0]
    assert (t - 0.5).abs().max() > 0.05, "in the middle both directions agree"
    torch.testing.assert_close(x_t, (3 + 4 * t)[:, None, None].expand(4, 5, 1))


def test_held_out_loss_is_in_units_of_the_scale_and_of_one_gene(tensors: dict[str, Tensor]) -> None:
    """All controls at 1 and all targets at 4 in four genes: the distance is 2 * 3 * sqrt(4)."""
    module = make(n_genes=4)
    module.scale.fill_(2.0)
    batch = tensors | {
        "control": torch.full((4, 3, 4), 1.0),
        "X": torch.full((4, 5, 4), 4.0),
        "mask": all_real(4, 5),
        "control_mask": all_real(4, 3),
        "shift": torch.zeros(4, 4),
    }
    assert module.loss(batch, generator(0)).loss.item() == pytest.approx(2 * 3 * 2 / 2 / 2, rel=1e-5)


def test_learns_the_monge_map_of_gaussians() -> None:
    """x -> 2 + x * (0.5, 1.5) is the Monge map between the two Gaussians: cells keep their places."""
    module = make(n_genes=2, ema_decay=0.95).train()
    scale, g = torch.tensor([0.5, 1.5]), generator(0)
    n_sets = 4
    fixed = {
        "part_ids": torch.zeros(n_sets, 1, dtype=torch.long),
        "part_mask": all_real(n_sets, 1),
        "dosage": torch.ones(n_sets),
        "covariates": torch.zeros(n_sets, 1),
        "context": torch.zeros(n_sets, dtype=torch.long),
        "batch": torch.zeros(n_sets, dtype=torch.long),
        "shift": torch.zeros(n_sets, 2),
        "mask": all_real(n_sets, 32),
        "control_mask": all_real(n_sets, 32),
    }
    optimizer = torch.optim.Adam(module.network.parameters(), lr=5e-3)
    for _ in range(150):
        control = torch.randn(n_sets, 32, 2, generator=g)
        target = torch.randn(n_sets, 32, 2, generator=g) * scale + 2
        optimizer.zero_grad()
        module.loss({**fixed, "control": control, "X": target}, g).loss.backward()
        optimizer.step()
        module.average.update(module.network)
    source = torch.randn(8, 32, 2, generator=g)
    one: dict[str, Any] = {
        name: fixed[name][:1] for name in ("part_ids", "part_mask", "dosage", "covariates", "context", "batch", "shift")
    }
    request = SampleRequest(source=source, control=source[:1], control_mask=fixed["control_mask"][:1], **one)
    found = module.eval().sample(request, n_steps=10, generators=[])
    expected = source * scale + 2
    error = (found - expected).square().mean() / (expected - expected.mean((0, 1))).square().mean()
    assert error.item() < 0.1
    torch.testing.assert_close(found.std((0, 1)), expected.std((0, 1)), atol=0.15, rtol=0)
