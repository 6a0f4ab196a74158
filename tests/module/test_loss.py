from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from pertcast.diffusion import population_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.module import PerturbDiffModule

    type MakeModule = Callable[..., PerturbDiffModule]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("representation", ["genes", "pca"])
@pytest.mark.parametrize("n_input", [4, "learned"])
@pytest.mark.parametrize("anchor", ["shift", "none"])
def test_the_gradient_reaches_every_parameter(
    make_module: MakeModule, tensors: dict[str, Tensor], representation: str, n_input: int | str, anchor: str
) -> None:
    module = make_module(
        representation=representation,
        n_latent=5,
        n_input=n_input,
        anchor=anchor,
        self_conditioning=0.5,
        condition_dropout=0.5,
        embed_context=True,
        embed_batch=True,
        mse_weight=0.1,
    ).train()
    if representation == "pca":
        module.representation.axes.copy_(torch.linalg.qr(torch.randn(6, 5, generator=generator())).Q)
    for seed in range(6):
        loss = module.loss(tensors, generator(seed)).loss
        assert torch.isfinite(loss)
        loss.backward()
    dead = [n for n, p in module.network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in module.network.parameters() if p.grad is not None)
    assert [n for n, p in module.named_parameters() if p.requires_grad and not n.startswith("network.")] == []


@pytest.mark.parametrize("training", [True, False])
def test_padding_and_seeds(make_module: MakeModule, tensors: dict[str, Tensor], training: bool) -> None:
    module = make_module(self_conditioning=0.5, condition_dropout=0.3).train(training)
    loss = module.loss(tensors, generator()).loss
    filled = {
        **tensors,
        "X": tensors["X"].masked_fill(~tensors["mask"][..., None], 1e4),
        "control": tensors["control"].masked_fill(~tensors["control_mask"][..., None], -1e4),
    }
    torch.testing.assert_close(module.loss(filled, generator()).loss, loss, rtol=1e-5, atol=0)
    assert torch.equal(module(tensors, generator()).loss, loss)
    assert abs(module.loss(tensors, generator(1)).loss - loss) > 1e-5


def test_the_first_loss_of_an_anchored_module_is_that_of_the_anchor(
    make_module: MakeModule, tensors: dict[str, Tensor]
) -> None:
    """With one control for each set, the sources are known."""
    module = make_module(randomise=False, mse_weight=0.3).train()
    tensors["control_mask"][:, 1:] = False
    out = module.loss(tensors, generator())
    moved = (tensors["control"][:, :1] + tensors["shift"][:, None]).clamp_min(0).expand_as(tensors["X"])
    expected = population_loss(moved / 2, tensors["X"] / 2, tensors["mask"], mse_weight=0.3)
    torch.testing.assert_close(out.loss, expected.total.mean(), rtol=1e-5, atol=1e-6)
    assert out.extra_metrics is not None
    torch.testing.assert_close(out.extra_metrics["energy"], expected.energy.mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out.extra_metrics["mse"], expected.mse.mean(), rtol=1e-5, atol=1e-6)


def test_validation_uses_the_averaged_weights(make_module: MakeModule, tensors: dict[str, Tensor]) -> None:
    module = make_module()
    validation, training = (module.train(mode).loss(tensors, generator()).loss for mode in (False, True))
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.mul_(0.5)
    assert torch.equal(module.eval().loss(tensors, generator()).loss, validation)
    assert not torch.equal(module.train().loss(tensors, generator()).loss, training)


def test_dosages_and_covariates_are_standardised(make_module: MakeModule, tensors: dict[str, Tensor]) -> None:
    module = make_module()
    plain = module.encode(module.network, tensors)[0]
    module.log_dosage.offset.fill_(0.5)
    module.log_dosage.moments.copy_(torch.tensor([1.5, 2.0]))
    module.covariate_moments.copy_(torch.tensor([[3.0], [4.0]]))
    raw = {
        **tensors,
        # log(1 + d') = (log(0.5 + d) - 1.5) / 2 turns one scale into the other.
        "dosage": ((tensors["dosage"] + 1).log() * 2 + 1.5).exp() - 0.5,
        "covariates": tensors["covariates"] * 4 + 3,
    }
    torch.testing.assert_close(module.encode(module.network, raw)[0], plain, rtol=1e-4, atol=1e-5)


def test_conditions_and_identities_are_dropped_in_training_only(
    make_module: MakeModule, tensors: dict[str, Tensor]
) -> None:
    module = make_module(condition_dropout=1.0)
    dropped = module.encode(module.network, tensors, generator=generator())[0]
    encoder: Any = module.network["condition"]
    null = encoder.null
    torch.testing.assert_close(dropped, null.expand(4, -1))
    kept = module.encode(module.network, tensors)[0]
    assert (kept - null).abs().amax(1).min() > 0.01
    never = make_module(condition_dropout=0.0)
    encoder = never.network["condition"]
    encoder.identity_dropout = 0.0
    torch.testing.assert_close(never.encode(never.network, tensors, generator=generator())[0], kept)


def test_one_step_draws_cells_from_noise(make_module: MakeModule, tensors: dict[str, Tensor]) -> None:
    module = make_module()
    with torch.no_grad():
        drawn, real = module.one_step(tensors, generator())
        assert torch.equal(real, tensors["X"])
        assert (drawn >= 0).all()
        module.gate.set(0.0)
        moved = module.one_step(tensors, generator())[0]
    allowed = (tensors["control"] + tensors["shift"][:, None]).clamp_min(0)
    apart = torch.cdist(moved, allowed.masked_fill(~tensors["control_mask"][..., None], 1e3))
    assert apart.amin(-1).max() < 1e-3
    assert (drawn - moved).abs().max() > 0.05


def test_the_network_sees_noisy_cells_in_the_units_of_the_data(
    make_module: MakeModule, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen = make_module(noise_share=0.0).train(), []
    noisy = module.input.noisy

    def watched(*given: Tensor) -> Tensor:
        seen.append(given)
        return noisy(*given)

    monkeypatch.setattr(module.input, "noisy", watched)
    tensors["X"] = tensors["X"] + 1000.0
    module.loss(tensors, generator())
    cells, alpha, sigma, scale = seen[0]
    noise = (cells - alpha * tensors["X"]) / (sigma * scale)
    assert float(scale) == 2.0
    assert noise.abs().max() < 5
    assert 0.7 < noise.std() < 1.3


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 1e-3), (0.3, 0.3), (0.9, 0.9)])
def test_times_are_uniform_down_to_a_thousandth(
    make_module: MakeModule,
    tensors: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    drawn: float,
    expected: float,
) -> None:
    module, seen = make_module(noise_share=0.0).train(), []
    network: Any = module.network
    network["cells"].register_forward_pre_hook(lambda _, given: seen.append(given[3]))
    monkeypatch.setattr(torch, "rand", lambda *size, **options: torch.full(torch.zeros(*size).shape, drawn))
    module.loss(tensors, generator())
    torch.testing.assert_close(seen[0], torch.full((4,), expected))
