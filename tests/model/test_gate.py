"""The gate is the value that held-out conditions speak for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pertcast as pc
from pertcast.model._gate import choose_gate
from pertcast.module._gate import ResidualGate

N_CELLS = 64


class PointModule:
    """Predicts points at ``anchor + gate * network`` of their target: the energy distance is twice the absolute sum."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.gate = ResidualGate()

    def one_step(self, tensors: dict[str, torch.Tensor], generator: torch.Generator) -> Any:
        distance = tensors["anchor"] + self.gate.value * tensors["network"]
        target = torch.zeros(*tensors["mask"].shape, 1)
        return target + distance[:, None, None], target


def chosen(anchor: list[float], network: list[float], n_cells: list[int]) -> float:
    """Gate that is chosen for some conditions, in batches of two."""
    mask = torch.arange(N_CELLS) < torch.tensor(n_cells)[:, None]
    whole = {"anchor": torch.tensor(anchor), "network": torch.tensor(network), "mask": mask}
    batches = [{key: value[i : i + 2] for key, value in whole.items()} for i in range(0, len(anchor), 2)]
    module: Any = PointModule()
    choose_gate(module, batches, seed=0)
    return float(module.gate.value)


@pytest.mark.parametrize(
    ("network", "gate"),
    [(-1.0, 1.0), (-4 / 3, 0.75), (-2.0, 0.5), (-4.0, 0.25), (1.0, 0.0)],
)
def test_value_of_the_lowest_energy_distance(network: float, gate: float) -> None:
    assert chosen([1.0] * 4, [network] * 4, [N_CELLS] * 4) == gate


def test_without_evidence_the_gate_is_in_between() -> None:
    """The network helps on a bootstrap sample with at least two of the four that it helps on: 11 of 16 samples."""
    assert chosen([2.0] * 4, [-1.2, 1.0, -1.2, 1.0], [N_CELLS] * 4) == pytest.approx(11 / 16, abs=0.03)


def test_nothing_to_gain_shuts_the_gate() -> None:
    assert chosen([2.0] * 4, [0.0] * 4, [N_CELLS] * 4) == 0


def test_conditions_count_by_their_cells() -> None:
    """A condition with few cells does not outvote others that are known well.

    With equal sizes three of four draws must be from the three conditions that gain; with a small fourth one is enough.
    """
    gains = [-0.5, -0.5, -0.5, 1.0]
    assert chosen([2.0] * 4, gains, [N_CELLS, N_CELLS, N_CELLS, 8]) == pytest.approx(255 / 256, abs=0.01)
    assert chosen([2.0] * 4, gains, [N_CELLS] * 4) == pytest.approx(189 / 256, abs=0.03)


def test_order_of_conditions_does_not_matter() -> None:
    conditions = ([2.0, 1.0, 3.0], [-0.5, -1.0, 0.1], [64, 8, 30])
    assert chosen(*conditions) == chosen(*(values[::-1] for values in conditions))  # type: ignore[arg-type]


def test_one_condition_is_evidence() -> None:
    assert chosen([1.0], [-1.0], [N_CELLS]) == 1


def test_without_held_out_conditions_half_of_the_network_is_used() -> None:
    adata = pc.data.simulate_screen(10, n_genes=30, n_perturbations=2, combinations=0, seed=0)
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
    model = pc.PerturbDiff(adata, n_hidden=16, n_layers=1, n_heads=2, seed=0)
    model.train(validation_size=0, max_epochs=1, steps_per_epoch=1, enable_progress_bar=False)
    assert float(model.module.gate.value) == 0.5
    assert "gate: 0.5" in repr(model)
