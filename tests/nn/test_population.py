from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pertcast.nn import PopulationTransformer

N_FEATURES, N_OUT, N_HIDDEN = 5, 7, 16


def network(*, zero_output: bool = True, randomise: bool = True) -> PopulationTransformer:
    """A float64 network in which no weight is zero, unless asked for."""
    torch.manual_seed(0)
    net = PopulationTransformer(
        N_FEATURES,
        N_OUT,
        n_hidden=N_HIDDEN,
        n_layers=2,
        n_heads=4,
        n_tokens=3,
        self_conditioning=True,
        zero_output=zero_output,
    ).double()
    if randomise:
        for parameter in net.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
    return net


@pytest.fixture
def batch() -> dict[str, Any]:
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    control_mask = torch.ones(2, 8, dtype=torch.bool)
    control_mask[0, 5:] = False
    return {
        "noisy": normal(2, 6, N_FEATURES),
        "source": normal(2, 6, N_FEATURES),
        "mask": mask,
        "t": torch.tensor([0.3, 0.9], dtype=torch.float64),
        "condition": normal(2, N_HIDDEN),
        "previous": normal(2, 6, N_FEATURES),
        "control": normal(2, 8, N_FEATURES),
        "control_mask": control_mask,
    }


def run(net: PopulationTransformer, batch: dict[str, Any], **changed: Any) -> Tensor:
    values = {**batch, **changed}
    controls = net.encode_controls(values.pop("control"), values.pop("control_mask"))
    return net(**values, controls=controls)


def permuted(x: Tensor, seed: int = 3) -> Tensor:
    return torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed))


def test_outputs_follow_the_order_of_the_cells(batch: dict[str, Any]) -> None:
    net, order = network(), permuted(batch["noisy"])
    moved = {name: batch[name][:, order] for name in ("noisy", "source", "mask", "previous")}
    out = run(net, batch)
    torch.testing.assert_close(run(net, batch, **moved), out[:, order], rtol=0, atol=1e-10)
    assert (out[:, order] - out).abs().max() > 0.1


def test_order_of_the_controls_does_not_matter(batch: dict[str, Any]) -> None:
    net, order = network(), permuted(batch["control"])
    shuffled = run(net, batch, control=batch["control"][:, order], control_mask=batch["control_mask"][:, order])
    torch.testing.assert_close(shuffled, run(net, batch), rtol=0, atol=1e-10)


def test_contents_of_padding_do_not_matter(batch: dict[str, Any]) -> None:
    net, mask, control_mask = network(), batch["mask"], batch["control_mask"]
    filled = {name: batch[name].masked_fill(~mask[..., None], 1e6) for name in ("noisy", "source", "previous")}
    filled["control"] = batch["control"].masked_fill(~control_mask[..., None], -1e6)
    torch.testing.assert_close(run(net, batch, **filled)[mask], run(net, batch)[mask], rtol=0, atol=1e-10)


def test_no_mask_means_that_all_cells_are_real(batch: dict[str, Any]) -> None:
    net, full = network(), torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close(run(net, batch, mask=None), run(net, batch, mask=full), rtol=0, atol=1e-12)


def test_more_padding_changes_nothing(batch: dict[str, Any]) -> None:
    net, extra = network(), torch.full((2, 3, N_FEATURES), 50.0, dtype=torch.float64)
    no = torch.zeros(2, 3, dtype=torch.bool)
    longer = {name: torch.cat([batch[name], extra], 1) for name in ("noisy", "source", "previous", "control")}
    masks = {name: torch.cat([batch[name], no], 1) for name in ("mask", "control_mask")}
    out = run(net, batch, **longer, **masks)[:, :6]
    torch.testing.assert_close(out[batch["mask"]], run(net, batch)[batch["mask"]], rtol=0, atol=1e-10)


def test_sets_do_not_see_each_other(batch: dict[str, Any]) -> None:
    net = network()
    alone = run(net, {name: value[:1] for name, value in batch.items()})
    torch.testing.assert_close(alone, run(net, batch)[:1], rtol=0, atol=1e-10)


def test_a_cell_depends_on_the_other_cells_of_its_set(batch: dict[str, Any]) -> None:
    net, noisy = network(), batch["noisy"].clone()
    noisy[0, 0] += 1
    change = (run(net, batch, noisy=noisy) - run(net, batch)).abs().amax(-1)
    assert (change[0, 1:] > 1e-4).all()
    assert (change[1] == 0).all()


@pytest.mark.parametrize("name", ["noisy", "source", "t", "condition", "previous", "control"])
def test_every_input_is_used(batch: dict[str, Any], name: str) -> None:
    net = network()
    change = (run(net, batch, **{name: batch[name] * 0.5}) - run(net, batch)).abs().amax(-1)
    assert (change[batch["mask"]] > 1e-4).all()


def test_previous_is_optional_and_zero_means_none(batch: dict[str, Any]) -> None:
    net = network()
    torch.testing.assert_close(
        run(net, batch, previous=None), run(net, batch, previous=torch.zeros_like(batch["previous"])), rtol=0, atol=0
    )


def test_output_starts_at_zero_only_on_request(batch: dict[str, Any]) -> None:
    assert not run(network(randomise=False), batch).any()
    free = run(network(zero_output=False, randomise=False), batch)
    assert free.abs().min() > 0


def test_blocks_start_as_the_identity(batch: dict[str, Any]) -> None:
    net = network(randomise=False)
    cells = torch.randn(2, 6, N_HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = net.encode_controls(batch["control"], batch["control_mask"]).tokens
    for block in net.blocks:
        torch.testing.assert_close(block(cells, batch["mask"], tokens, batch["condition"]), cells, rtol=0, atol=0)


def test_shared_controls_equal_repeated_ones(batch: dict[str, Any]) -> None:
    net = network()
    first = {name: batch[name][:1] for name in ("control", "control_mask")}
    shared = net.encode_controls(**{"control": first["control"], "mask": first["control_mask"]}).expand(2)
    out = net(**{k: v for k, v in batch.items() if not k.startswith("control")}, controls=shared)
    repeated = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in first.items()}
    torch.testing.assert_close(out, run(net, batch, **repeated), rtol=0, atol=1e-12)


def test_width_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(ValueError, match="n_hidden=10 is not a multiple of n_heads=4"):
        PopulationTransformer(3, 3, n_hidden=10, n_heads=4)
