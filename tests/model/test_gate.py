"""The gate is the value that held-out conditions speak for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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


def test_without_evidence_the_anchor_stays() -> None:
    """Of the mean gain 0.1 the standard error is 0.6: sqrt(4 x 1.1^2 / 3) / 2."""
    assert chosen([2.0] * 4, [-1.2, 1.0, -1.2, 1.0], [N_CELLS] * 4) == 0


def test_conditions_count_by_their_cells() -> None:
    """A condition with few cells does not outvote others that are known well."""
    gains = [-0.5, -0.5, -0.5, 1.0]
    assert chosen([2.0] * 4, gains, [N_CELLS, N_CELLS, N_CELLS, 8]) == 1
    assert chosen([2.0] * 4, gains, [N_CELLS] * 4) == 0


def test_order_of_conditions_does_not_matter() -> None:
    conditions = ([2.0, 1.0, 3.0], [-0.5, -1.0, 0.1], [64, 8, 30])
    assert chosen(*conditions) == chosen(*(values[::-1] for values in conditions))  # type: ignore[arg-type]


def test_one_condition_is_evidence() -> None:
    assert chosen([1.0], [-1.0], [N_CELLS]) == 1
