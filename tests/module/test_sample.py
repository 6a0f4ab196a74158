from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from pertcast.diffusion import initial_noise
from pertcast.representation import PCASpace, principal_components

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.module import PerturbDiffModule, SampleRequest

    type MakeModule = Callable[..., PerturbDiffModule]


def sample(
    module: PerturbDiffModule,
    request: SampleRequest,
    *,
    n_steps: int = 3,
    w: float = 0.0,
    seeds: Any = (0, 1),
    **kwargs: Any,
) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return module.sample(request, n_steps=n_steps, guidance_scale=w, generators=generators, **kwargs)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp_2m"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_with_a_closed_gate_a_cell_is_its_moved_source(
    make_module: MakeModule, request_of_two: SampleRequest, sampler: str, nonnegative: bool
) -> None:
    module = make_module(sampler=sampler, nonnegative=nonnegative)
    moved = request_of_two.source + request_of_two.shift
    assert moved.min() < 0
    expected = moved.clamp_min(0) if nonnegative else moved
    assert (sample(module, request_of_two) - expected).abs().max() > 0.05
    module.gate.set(0.0)
    torch.testing.assert_close(sample(module, request_of_two), expected, rtol=0, atol=0)


def test_an_untrained_network_adds_nothing_to_the_anchor(
    make_module: MakeModule, request_of_two: SampleRequest
) -> None:
    module = make_module(randomise=False)
    expected = (request_of_two.source + request_of_two.shift).clamp_min(0)
    torch.testing.assert_close(sample(module, request_of_two), expected, rtol=0, atol=0)


def test_the_network_answers_in_units_of_the_data_scale(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module = make_module(randomise=False, nonnegative=False)
    average: Any = module.average.network
    with torch.no_grad():
        average["cells"].out.bias.fill_(0.7)
    module.gate.set(0.5)
    expected = request_of_two.source + request_of_two.shift + 0.5 * 0.7 * 2.0
    torch.testing.assert_close(sample(module, request_of_two), expected, rtol=0, atol=1e-5)


def test_without_an_anchor_the_answer_is_in_units_of_the_data_scale(
    make_module: MakeModule, request_of_two: SampleRequest
) -> None:
    module = make_module(anchor="none")
    average: Any = module.average.network
    with torch.no_grad():
        average["cells"].out.weight.zero_()
        average["cells"].out.bias.fill_(0.7)
    torch.testing.assert_close(sample(module, request_of_two), torch.full((2, 5, 6), 0.7 * 2.0))


def test_principal_components_carry_the_moved_source(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module = make_module(representation="pca", n_latent=4, nonnegative=False)
    space = module.representation
    assert isinstance(space, PCASpace)
    components = principal_components(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).numpy(), 4)
    space.fit(components, request_of_two.shift, n_directions=1)
    free = sample(module, request_of_two)
    moved = request_of_two.source + request_of_two.shift
    outside = torch.eye(6) - space.axes @ space.axes.T
    torch.testing.assert_close((free - moved) @ outside, torch.zeros_like(moved), rtol=0, atol=1e-4)
    assert (free - moved).abs().max() > 0.05
    module.gate.set(0.0)
    torch.testing.assert_close(sample(module, request_of_two), moved, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_a_set_does_not_depend_on_the_sets_beside_it(
    make_module: MakeModule, request_of_two: SampleRequest, sampler: str
) -> None:
    module = make_module(sampler=sampler)
    both = sample(module, request_of_two)
    alone = sample(module, request_of_two._replace(source=request_of_two.source[1:]), seeds=(1,))
    torch.testing.assert_close(alone[0], both[1], rtol=0, atol=1e-5)
    same_source = request_of_two._replace(source=request_of_two.source[[0, 0]])
    first, second = sample(module, same_source)
    assert (first - second).abs().max() > 1e-3


def test_controls_are_a_set(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module, order = make_module(), torch.tensor([8, 3, 1, 0, 7, 2, 4, 6, 5])
    before = sample(module, request_of_two)
    control, mask = request_of_two.control, request_of_two.control_mask
    shuffled = request_of_two._replace(control=control[:, order], control_mask=mask[:, order])
    torch.testing.assert_close(sample(module, shuffled), before, rtol=0, atol=1e-5)
    padded = request_of_two._replace(control=control.masked_fill(~mask[..., None], 1e4))
    torch.testing.assert_close(sample(module, padded), before, rtol=0, atol=1e-5)
    other = request_of_two._replace(control=control + 1)
    assert (sample(module, other) - before).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "value"), [("part_ids", [[0, 2]]), ("dosage", [9.0]), ("covariates", [[3.0]])])
def test_the_condition_matters(
    make_module: MakeModule, request_of_two: SampleRequest, name: str, value: list[Any]
) -> None:
    module = make_module()
    replaced: dict[str, Any] = {name: torch.tensor(value)}
    changed = request_of_two._replace(**replaced)
    assert (sample(module, changed) - sample(module, request_of_two)).abs().max() > 1e-3


def test_one_step_is_one_call_at_the_noise_end(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module, calls = make_module(self_conditioning=0.5), []
    found = sample(module, request_of_two, n_steps=1, callback=lambda *given: calls.append(given))
    assert len(calls) == 1
    moved = request_of_two.source + request_of_two.shift
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    noise = initial_noise(moved.shape, 1.0, module.schedule, generators)
    with torch.no_grad():
        condition, controls = module.encode(module.average.network, request_of_two._asdict())
        mask = torch.ones(moved.shape[:2], dtype=torch.bool)
        given = condition.expand(2, -1), controls.expand(2), torch.zeros_like(noise)
        x0 = module.predict_x0(module.average.network, noise, torch.ones(2), moved, mask, *given)
    torch.testing.assert_close(found, x0 * module.scale, rtol=0, atol=1e-5)


def test_guidance_extrapolates_from_the_empty_condition(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module = make_module(nonnegative=False)
    calls: list[Tensor] = []
    average: Any = module.average.network
    average["cells"].register_forward_hook(lambda _, given, out: calls.append(given[4]))
    plain = sample(module, request_of_two, n_steps=1)
    assert len(calls) == 1
    guided = sample(module, request_of_two, n_steps=1, w=1.5)
    assert [len(call) for call in calls] == [2, 4], "sets with and without their condition share a call"
    torch.testing.assert_close(calls[1][:2], calls[0])
    torch.testing.assert_close(calls[1][2:], average["condition"].null.expand(2, -1))
    with torch.no_grad():
        average["condition"].part[2].weight.zero_()
        average["condition"].part[2].bias.copy_(average["condition"].null / 2)
        average["condition"].covariates.weight.zero_()
        average["condition"].covariates.bias.zero_()
    # Two parts, each with half of the empty condition: the condition is the empty one.
    empty = sample(module, request_of_two, n_steps=1)
    torch.testing.assert_close(guided, 2.5 * plain - 1.5 * empty, rtol=0, atol=1e-4)
    assert (plain - empty).abs().max() > 1e-3


def test_guided_cells_stay_possible_at_every_step(
    make_module: MakeModule, request_of_two: SampleRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 with and 2 without the condition make 1 - 3 * 1, and 2 with and 1 without 2 + 3 * 1."""
    module, seen = make_module(), []
    with_condition, without = torch.tensor([1.0, 2.0] * 3), torch.tensor([2.0, 1.0] * 3)
    both = torch.stack([with_condition, with_condition, without, without])[:, None].expand(4, 5, 6)
    monkeypatch.setattr(module, "predict_x0", lambda *given: both)
    found = sample(module, request_of_two, n_steps=2, w=3.0, callback=lambda *given: seen.append(given[3]))
    assert len(seen) == 2
    expected = torch.tensor([0.0, 5.0] * 3).expand(2, 5, 6)
    for x0 in seen:
        torch.testing.assert_close(x0, expected)
    torch.testing.assert_close(found, 2.0 * expected)


def test_without_guidance_the_empty_condition_is_not_used(
    make_module: MakeModule, request_of_two: SampleRequest
) -> None:
    module = make_module()
    before = sample(module, request_of_two)
    average: Any = module.average.network
    with torch.no_grad():
        average["condition"].null.fill_(5.0)
    assert torch.equal(sample(module, request_of_two), before)


def test_without_an_anchor_the_shift_is_not_used(make_module: MakeModule, request_of_two: SampleRequest) -> None:
    module = make_module(anchor="none")
    before = sample(module, request_of_two)
    assert torch.equal(sample(module, request_of_two._replace(shift=torch.full((1, 6), 9.0))), before)
    module.gate.set(0.0)
    assert torch.equal(sample(module, request_of_two), before)


def test_seeds_repeat_and_a_saved_state_samples_the_same(
    make_module: MakeModule, request_of_two: SampleRequest
) -> None:
    module, other = make_module(), make_module(seed=9)
    before = sample(module, request_of_two)
    assert torch.equal(sample(module, request_of_two), before)
    assert (sample(module, request_of_two, seeds=(2, 3)) - before).abs().max() > 1e-3
    assert (sample(other, request_of_two) - before).abs().max() > 1e-3
    module.gate.set(0.5)
    module.log_dosage.moments.copy_(torch.tensor([0.3, 2.0]))
    other.load_state_dict(module.state_dict())
    assert torch.equal(sample(other, request_of_two), sample(module, request_of_two))
