from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pertcast.module import BridgeEnds, DolorisConfig, DolorisModule, SampleRequest
from pertcast.module._doloris_masks import move_population, nearest_rates, switch_genes
from pertcast.module._doloris_network import BridgeNetwork


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(n_genes: int = 6, *, nonnegative: bool = False, randomise: bool = False, **config: Any) -> DolorisModule:
    torch.manual_seed(0)
    options: Any = {"n_input": "learned", "n_hidden": 32, "n_layers": 1, "anchor": "none", "ema_decay": 0.9} | config
    module = DolorisModule(
        DolorisConfig(**options), n_genes, nonnegative=nonnegative, n_trained=3, n_covariates=1, vectors=None
    )
    if randomise:
        for parameter in module.network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        module.average.network.load_state_dict(module.network.state_dict())
    return module.eval()


def batch(n_sets: int, n_cells: int, n_genes: int) -> dict[str, Tensor]:
    real = torch.ones(n_sets, n_cells, dtype=torch.bool)
    return {
        "part_ids": torch.zeros(n_sets, 1, dtype=torch.long),
        "part_mask": torch.ones(n_sets, 1, dtype=torch.bool),
        "dosage": torch.ones(n_sets),
        "covariates": torch.zeros(n_sets, 1),
        "context": torch.zeros(n_sets, dtype=torch.long),
        "batch": torch.zeros(n_sets, dtype=torch.long),
        "shift": torch.zeros(n_sets, n_genes),
        "mask": real,
        "control_mask": real,
    }


def train(module: DolorisModule, draw: Any, n_steps: int, n_sets: int = 2, n_cells: int = 64) -> None:
    """Adam on batches of control and perturbed cells that ``draw(generator, shape)`` makes."""
    g, fixed = generator(1), batch(n_sets, n_cells, module.level.numel())
    optimizer = torch.optim.Adam(module.train().network.parameters(), lr=5e-3)
    for _ in range(n_steps):
        control, target = draw(g, (n_sets, n_cells))
        optimizer.zero_grad()
        module.loss({**fixed, "control": control, "X": target}, g).loss.backward()
        optimizer.step()
        module.average.update(module.network)
    module.eval()


def test_untrained_bridge_is_the_anchor(request_of_two: SampleRequest) -> None:
    generators = [generator(0), generator(1)]
    still = make().sample(request_of_two, n_steps=3, generators=generators)
    torch.testing.assert_close(still, request_of_two.source)
    moved = make(anchor="shift").sample(request_of_two, n_steps=3, generators=generators)
    torch.testing.assert_close(moved, request_of_two.source + request_of_two.shift[:, None], atol=1e-5, rtol=0)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_same_condition_on_both_ends_returns_the_cells(nonnegative: bool) -> None:
    """Inversion and decoding with one denoiser: cells come back to a thousandth of the scale."""
    module = make(nonnegative=nonnegative, randomise=True, n_refinements=4, n_hidden=16)
    cells = torch.randn(2, 20, 6, generator=generator(0)).abs() + 0.2
    cells = cells * (torch.rand(cells.shape, generator=generator(1)) < 0.6) if nonnegative else cells
    condition, level = torch.randn(2, 16, generator=generator(2)), torch.ones(2, 6)
    with torch.no_grad():
        start = module._path(level, (cells > 0).float() if nonnegative else None)
        times = torch.linspace(0, 1, 11).tolist()
        y = start.coordinates(cells, torch.randn(cells.shape, generator=generator(3)))
        latent = start.to_noise(module._denoiser(condition), y, times, n_refinements=4)
        assert (latent - y).abs().max() > 0.05  # the network did something
        back = start.cells(start.to_data(module._denoiser(condition), latent, times[::-1]), 0.0)
    torch.testing.assert_close(back, cells, atol=1e-3, rtol=0)


def test_learns_the_transport_of_gaussians_and_keeps_every_cell_in_its_place() -> None:
    """N(0, 1) to N(2, (0.5, 1.5)^2): the bridge through a shared Gaussian is x -> 2 + x * (0.5, 1.5)."""
    module, scale = make(n_genes=2), torch.tensor([0.5, 1.5])

    def draw(g: torch.Generator, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return torch.randn(*shape, 2, generator=g), torch.randn(*shape, 2, generator=g) * scale + 2

    train(module, draw, 300)
    source = torch.randn(4, 64, 2, generator=generator(5))
    fixed: Any = batch(4, 64, 2)
    with torch.no_grad():
        ends = module.ends(module.average.network, {**fixed, "control": source})
        found = module.translate(source, ends, n_steps=10, generators=[])
    expected = source * scale + 2
    error = (found - expected).square().mean() / expected.var()
    assert error.item() < 0.08
    torch.testing.assert_close(found.std((0, 1)), expected.std((0, 1)), atol=0.25, rtol=0)
    rank = [np.corrcoef(found[..., k].flatten(), source[..., k].flatten())[0, 1] for k in range(2)]
    assert min(rank) > 0.97  # a decoded sample of noise would have 0


def test_loss_counts_expressed_genes_only() -> None:
    """The network starts at 0: what silent genes hold adds nothing, and one expressed value has its own error."""
    module = make(n_genes=3, nonnegative=True).train()
    module.fit_levels(torch.tensor([1.0, 1.0, 1.0]), torch.ones(3), torch.full((3,), 0.5), torch.zeros(1, 3))
    cells = torch.zeros(1, 4, 3)
    cells[..., 0] = 1.0
    level, condition = torch.ones(1, 3), (torch.zeros(1, 32),)
    mask = torch.ones(1, 4, dtype=torch.bool)
    first = module._error(module.network, cells, mask, level, condition, generator(0))
    t = torch.rand(1, 4, generator=generator(0))
    g = generator(0)
    torch.rand(1, 4, generator=g)
    noise = torch.randn(1, 4, 3, generator=g)[..., 0]
    alpha, sigma = module.noise.alpha(t), module.noise.sigma(t)
    expected = (alpha * sigma * noise).square().mean()  # posterior mean of N(1, 1) minus 1, for a cell at 1
    assert first.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_certain_guess_misses_by_its_distance_in_units_of_the_scale() -> None:
    """Without variance the network counts for nothing: cells are taken for the levels of their side."""
    module = make(n_genes=2, anchor="shift").train()
    module.scale.fill_(2.0)
    module.level.copy_(torch.tensor([2.0, -1.0]))
    module.variance.fill_(1e-10)
    control = torch.tensor([[[1.0, 0.0], [2.0, 4.0], [6.0, 2.0]]])
    target = torch.tensor([[[4.0, 1.0], [3.0, 5.0], [0.0, 0.0]]])
    shift = {"shift": torch.tensor([[0.5, -1.0]])}
    found = module.loss({**batch(1, 3, 2), **shift, "control": control, "X": target}, generator(0)).extra_metrics
    level = torch.tensor([(9 + 5 * 2) / 8, (6 - 5 * 1) / 8])
    moved = torch.tensor([2.375 + 0.5, 0.125 - 1.0])
    assert found["source"].item() == pytest.approx((control - level).square().mean().item() / 4, rel=1e-3)
    assert found["target"].item() == pytest.approx((target - moved).square().mean().item() / 4, rel=1e-3)


def test_a_denoiser_that_knows_the_cells_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells at 3 under the guess N(1, 0.5), with noise of scale 2: x0 = 3 solves for the output."""
    module = make(n_genes=2)
    module.scale.fill_(2.0)
    module.variance.fill_(0.5)

    def knowing(network: Any, x_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, conditions: Any) -> Tensor:
        total = 0.5 * alpha**2 + 4 * sigma**2
        guess = 1 + 0.5 * alpha / total * (x_t - alpha)
        return (3 - guess) / (2 * sigma * (0.5 / total) ** 0.5)

    monkeypatch.setattr(module, "_slope", knowing)
    cells, mask = torch.full((2, 50, 2), 3.0), torch.ones(2, 50, dtype=torch.bool)
    error = module._error(module.network, cells, mask, torch.ones(2, 2), (torch.zeros(2, 32),), generator(0))
    assert error.item() < 1e-6


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        # 5 / 3 above the levels on average: 2 + 5 * 8 / 3 over 6 cells, and 10 + 5 * 14 / 3 over 7
        ([[2.0, 5.0], [0.0, 5.0]], [23 / 9, 100 / 21]),
        # 2.1 below: no less than a tenth of a level is typical
        ([[0.1, 0.3], [0.0, 0.3]], [0.6 / 6, 5.1 / 7]),
        # no gene is expressed: the levels of training
        ([[0.0, 0.0], [0.0, 0.0]], [1.0, 3.0]),
    ],
)
def test_levels_are_drawn_to_those_of_training(control: list[list[float]], expected: list[float]) -> None:
    module = make(n_genes=2, nonnegative=True, zeros="switch")
    module.level.copy_(torch.tensor([1.0, 3.0]))
    with torch.no_grad():
        ends = module.ends(module.network, {**batch(1, 2, 2), "control": torch.tensor([control])})
    torch.testing.assert_close(ends.level, torch.tensor([expected]))
    torch.testing.assert_close(ends.moved, ends.level)


def test_levels_of_all_cells_have_no_offset() -> None:
    module = make(n_genes=2)
    module.level.copy_(torch.tensor([1.0, 3.0]))
    control = torch.tensor([[[2.0, -5.0], [0.0, -5.0]]])
    with torch.no_grad():
        ends = module.ends(module.network, {**batch(1, 2, 2), "control": control})
    torch.testing.assert_close(ends.level, torch.tensor([[(2 + 5) / 7, (-10 + 15) / 7]]))


def test_one_more_control_expresses_genes_as_training_does() -> None:
    module = make(n_genes=2, nonnegative=True, zeros="switch")
    module.fit_levels(torch.ones(2), torch.ones(2), torch.tensor([0.2, 0.9]), torch.zeros(1, 2))
    given: dict[str, Any] = {**batch(1, 2, 2), "control": torch.tensor([[[2.0, 5.0], [0.0, 5.0]]])}
    with torch.no_grad():
        counted = module.ends(module.network, given)
        told = module.ends(module.network, {**given, "detection": torch.tensor([[0.25, 0.75]])})
    torch.testing.assert_close(counted.log_odds.sigmoid(), torch.tensor([[1.2 / 3, 2.9 / 3]]))
    torch.testing.assert_close(told.log_odds.sigmoid(), torch.tensor([[0.7 / 3, 2.4 / 3]]))


def test_perturbed_cells_get_the_slope_of_controls_and_what_the_target_head_adds() -> None:
    torch.manual_seed(0)
    network = BridgeNetwork(4, 3, n_hidden=8, n_layers=1)
    last: Any = network.target[-1]
    with torch.no_grad():
        torch.nn.init.normal_(network.out.weight)
        last.bias.fill_(0.5)
        features, t, source, target = torch.randn(5, 4), torch.rand(5), torch.randn(5, 8), torch.randn(5, 8)
        control, perturbed = network(features, t, source), network(features, t, source, target)
        added = 0.5 * network.out.weight.sum(1)
    assert control.abs().max() > 0.05
    torch.testing.assert_close(perturbed - control, added.expand(5, 3), atol=1e-5, rtol=1e-5)


def test_masks_are_those_of_the_condition() -> None:
    """The network of silent genes finds the rates of Bernoulli variables, and draws have them."""
    rates_before, rates_after = torch.tensor([0.2, 0.8, 0.5, 0.1]), torch.tensor([0.7, 0.3, 0.5, 0.4])

    def draw(g: torch.Generator, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return tuple(  # type: ignore[return-value]
            (torch.rand(*shape, 4, generator=g) < rate) * (1 + torch.rand(*shape, 4, generator=g))
            for rate in (rates_before, rates_after)
        )

    module = make(4, nonnegative=True, zeros="switch")
    module.fit_levels(torch.full((4,), 1.5), torch.full((4,), 0.1), rates_before, rates_after[None])
    train(module, draw, 150)
    control, _ = draw(generator(7), (8, 64))
    fixed: Any = batch(8, 64, 4)
    with torch.no_grad():
        ends = module.ends(module.average.network, {**fixed, "control": control})
        torch.testing.assert_close(ends.log_odds.sigmoid().mean(0), rates_after, atol=0.06, rtol=0)
        cells = module.translate(control, ends, n_steps=4, generators=[generator(i) for i in range(8)])
    torch.testing.assert_close((cells > 0).float().mean((0, 1)), rates_after, atol=0.07, rtol=0)
    assert cells.min() >= 0


def test_switching_reaches_the_share_and_changes_no_more_than_it_must() -> None:
    before, after = torch.tensor([[[0.3, 0.6, 0.5]]]), torch.tensor([[[0.6, 0.2, 0.5]]])
    expressed = torch.rand(1, 40_000, 3, generator=generator(0)) < before
    found = switch_genes(expressed, before, after, torch.rand(expressed.shape, generator=generator(1)))
    torch.testing.assert_close(found.float().mean(1), after[0], atol=0.01, rtol=0)
    torch.testing.assert_close((found != expressed).float().mean(1), (after - before).abs()[0], atol=0.01, rtol=0)
    assert not (found & ~expressed)[..., 1].any()
    assert (found | ~expressed)[..., 0].all()


def test_nearest_condition_decides_and_certain_genes_are_forced() -> None:
    module = make(4, nonnegative=True, zeros="nearest")
    rates = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.9, 0.1, 0.2, 0.8]])
    module.fit_levels(torch.ones(4), torch.ones(4), torch.full((4,), 0.5), rates)
    probability = torch.tensor([[0.999, 0.2, 0.001, 0.7]])
    torch.testing.assert_close(nearest_rates(probability, rates, n_genes=2), rates[1:])
    before = torch.full((1, 4), 0.5)
    ends = BridgeEnds(before, before, before, before, before, probability.logit())
    expressed = torch.rand(1, 20_000, 4, generator=generator(0)) < 0.5
    found = module.draw_mask(expressed, ends, torch.rand(expressed.shape, generator=generator(1)))
    torch.testing.assert_close(found.float().mean((0, 1)), torch.tensor([1.0, 0.1, 0.0, 0.8]), atol=0.015, rtol=0)
    assert found[..., 0].all()
    assert not found[..., 2].any()


def test_predictions_come_from_the_averaged_weights(request_of_two: SampleRequest) -> None:
    module = make(randomise=True)
    before = module.sample(request_of_two, n_steps=3, generators=[generator(0), generator(1)])
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.add_(1.0)
    after = module.sample(request_of_two, n_steps=3, generators=[generator(0), generator(1)])
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert (before - request_of_two.source).abs().max() > 1e-3


def test_validation_takes_eight_steps_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(DolorisModule, "translate", lambda self, *ends, n_steps, **rest: taken.append(n_steps))
    tensors: Any = batch(2, 5, 6)
    tensors |= {"X": torch.ones(2, 5, 6), "control": torch.ones(2, 5, 6)}
    for n_steps in (3, 20):
        make(n_steps=n_steps).one_step(tensors, generator(0))
    assert taken == [3, 8]


def test_moved_population_has_the_moved_mean() -> None:
    rate, level = torch.tensor([[0.01, 0.5, 0.95]]), torch.tensor([[1.5, 1.0, 2.0]])
    shift = torch.tensor([[0.02, 0.3, 0.5]])
    after, moved = move_population(rate, level, shift)
    torch.testing.assert_close(after * moved, rate * level + shift)
    poisson = -torch.log1p(-after) / -torch.log1p(-rate)
    torch.testing.assert_close(poisson, (rate * level + shift) / (rate * level), atol=1e-4, rtol=1e-4)
    still = move_population(rate, level, torch.zeros(1, 3))
    torch.testing.assert_close(still, (rate, level), atol=1e-5, rtol=1e-5)
    gone = move_population(rate, level, -10 * torch.ones(1, 3))
    assert (gone[0] * gone[1] < 0.01 * rate * level).all()


def test_a_gene_that_nothing_expresses_can_appear() -> None:
    rate, level = torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2)
    after, moved = move_population(rate, level, torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(after * moved, torch.tensor([[0.0, 1.0]]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_what_padded_cells_hold_does_not_matter(nonnegative: bool) -> None:
    module = make(nonnegative=nonnegative, randomise=True, anchor="shift").train()
    tensors: Any = batch(2, 5, 6)
    cells = torch.randn(2, 2, 5, 6, generator=generator(0)).abs()
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    tensors |= {"mask": mask, "control_mask": mask}
    losses = []
    for padding in (0.0, 9.0, torch.nan):
        control, target = cells.where(mask[..., None], padding)
        found = module.loss({**tensors, "control": control, "X": target}, generator(1))
        losses.append(found.loss.item())
    assert losses == [losses[0]] * 3


def test_one_value_moves_the_scale_of_the_noise_little() -> None:
    """The typical standard deviation against the largest value, which a single count can multiply."""
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(1.0, size=(400, 50)))
    spread, largest = np.sqrt(x.var(0).mean()), x.max()
    x[3, 7] = 10 * largest
    assert np.sqrt(x.var(0).mean()) < 1.1 * spread
    assert x.max() == 10 * largest


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0"),
        ({"gene_embedding": "scgpt"}, "one of"),
        ({"representation": "pca"}, "it must be 'genes'"),
    ],
)
def test_bad_hyperparameters(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DolorisConfig(**option)
