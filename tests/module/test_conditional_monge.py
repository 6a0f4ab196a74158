from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from pertcast.module import ConditionalMongeConfig, ConditionalMongeModule, ContextEncoder, SampleRequest


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(*, randomise: bool = False, n_genes: int = 6, **config: Any) -> ConditionalMongeModule:
    torch.manual_seed(0)
    options: Any = {"representation": "genes", "n_hidden": 16, "n_layers": 2, "n_embedding": 5} | config
    sizes: Any = {"nonnegative": False, "n_trained": 3, "vectors": torch.randn(4, 3), "n_covariates": 1}
    module = ConditionalMongeModule(ConditionalMongeConfig(**options), n_genes, **sizes)
    if randomise:
        nn.init.normal_(module.network["cells"].out.weight)  # type: ignore[union-attr, arg-type]
        module.average.network.load_state_dict(module.network.state_dict())
    return module.eval()


class TestContextEncoder:
    ids = torch.tensor([[0, 3], [3, 0], [3, 1]])
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    dosage, covariates = torch.tensor([0.5, 0.5, -1.0]), torch.tensor([[1.0], [1.0], [0.0]])
    codes = torch.zeros(3, dtype=torch.long)

    def encode(self, encoder: ContextEncoder, ids: Tensor | None = None) -> Tensor:
        ids = self.ids if ids is None else ids
        return encoder(ids, self.mask, self.dosage, self.covariates, self.codes, self.codes)

    def test_combinations_are_means_and_each_input_has_its_own_features(self) -> None:
        encoder = ContextEncoder(3, n_embedding=4, n_dosage=2, vectors=torch.randn(4, 3), n_covariates=1)
        found = self.encode(encoder)
        assert found.shape == (3, 7)
        torch.testing.assert_close(found[0], found[1])
        parts = encoder.part_vectors(torch.tensor([[0, 3]]))[0]
        torch.testing.assert_close(found[0, :4], parts.mean(0))
        torch.testing.assert_close(found[2, :4], parts[1])
        jacobian = torch.autograd.functional.jacobian(
            lambda dose: encoder(self.ids, self.mask, dose, self.covariates, self.codes, self.codes), self.dosage
        )
        touched = (jacobian.abs().sum((0, 2)) > 0).tolist()
        assert touched == [False] * 4 + [True] * 2 + [False]

    def test_columns_of_given_vectors_have_one_unit(self) -> None:
        vectors = torch.tensor([[0.0, 10.0, 7.0], [2.0, 70.0, 7.0]])
        encoder = ContextEncoder(2, n_embedding=3, n_dosage=1, vectors=vectors)
        layer: Any = encoder.part
        with torch.no_grad():
            layer.weight.copy_(torch.eye(3))
            layer.bias.zero_()
            found = encoder.part_vectors(torch.tensor([[0, 1]]))[0]
        expected = nn.functional.gelu(torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
        torch.testing.assert_close(found, expected)

    def test_without_vectors_untrained_parts_are_zero(self) -> None:
        encoder = ContextEncoder(3, n_embedding=4, n_dosage=1)
        encoder.set_seen(torch.tensor([0, 2]))
        vectors = encoder.part_vectors(torch.tensor([[0, 1, 2, 5]]))[0].detach()
        assert [bool(vector.any()) for vector in vectors] == [True, False, True, False]


def test_untrained_map_is_the_identity(request_of_two: SampleRequest) -> None:
    torch.testing.assert_close(make().sample(request_of_two, generators=[]), request_of_two.source)
    moved = make(anchor="shift").sample(request_of_two, generators=[])
    torch.testing.assert_close(moved, request_of_two.source + request_of_two.shift[:, None])


def test_cells_are_mapped_one_by_one(request_of_two: SampleRequest) -> None:
    module = make(randomise=True)
    found = module.sample(request_of_two, generators=[])
    assert (found - request_of_two.source).abs().max() > 0.05
    alone = module.sample(request_of_two._replace(source=request_of_two.source[1:, 2:4]), generators=[])
    torch.testing.assert_close(alone, found[1:, 2:4])
    strangers = request_of_two._replace(control=request_of_two.control * 0 + 7)
    torch.testing.assert_close(module.sample(strangers, generators=[]), found)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, 2.0), (0.5, 1.0)])
def test_loss_is_that_of_pot(tensors: dict[str, Tensor], weights: tuple[float, float]) -> None:
    """Divergence and gap of each set, entropies included, from the plans of POT."""
    module = make(randomise=True, fit_weight=weights[0], gap_weight=weights[1], gap_epsilon=0.5, fit_epsilon=1.0)
    module.scale.fill_(2.0)
    network = module.average.network
    with torch.no_grad():
        mapped = module.transform(network, tensors["control"], module.encode_condition(network, tensors))
    expected = []
    for i in range(4):
        x, y, z = (
            cells[i][tensors[mask][i]].numpy().astype(float) / 2
            for cells, mask in ((tensors["control"], "control_mask"), (mapped, "control_mask"), (tensors["X"], "mask"))
        )
        fit = _entropic(y, z, 1.0) - _entropic(y, y, 1.0) / 2 - _entropic(z, z, 1.0) / 2
        gap = np.linalg.norm(x - y, axis=1).mean() - _entropic(x, y, 0.5)
        expected.append(weights[0] * fit + weights[1] * gap)
    found = module.loss(tensors, generator(0))
    assert found.loss.item() == pytest.approx(np.mean(expected), abs=2e-3)
    assert ("gap" in found.extra_metrics) == (weights[1] > 0)


def _entropic(x: np.ndarray, y: np.ndarray, epsilon: float) -> float:
    a, b, M = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), cdist(x, y)
    plan = ot.sinkhorn(a, b, M, epsilon, method="sinkhorn_log", stopThr=1e-9, numItermax=5000)
    return float((plan * M).sum() + epsilon * (plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b))).sum())


def test_finds_the_monge_map_of_gaussians() -> None:
    """With the gap the fitted map is the known one; the population is matched with and without."""
    first, second = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.5, -0.3], [-0.3, 1.2]])
    root = scipy.linalg.sqrtm(first).real
    inverse = np.linalg.inv(root)
    linear = torch.from_numpy(inverse @ scipy.linalg.sqrtm(root @ second @ root).real @ inverse).float()
    draw = torch.linalg.cholesky(torch.from_numpy(first)).float()
    module = make(n_genes=2, n_hidden=32, cost="sqeuclidean", fit_epsilon=0.2, gap_epsilon=0.2, ema_decay=0.95).train()
    g = generator(0)
    one: dict[str, Any] = {
        "part_ids": torch.zeros(1, 1, dtype=torch.long),
        "part_mask": torch.ones(1, 1, dtype=torch.bool),
        "dosage": torch.ones(1),
        "covariates": torch.zeros(1, 1),
        "context": torch.zeros(1, dtype=torch.long),
        "batch": torch.zeros(1, dtype=torch.long),
        "shift": torch.zeros(1, 2),
    }
    mask = torch.ones(1, 64, dtype=torch.bool)
    optimizer = torch.optim.Adam(module.network.parameters(), lr=5e-3)
    for _ in range(200):
        control, target = (torch.randn(1, 64, 2, generator=g) @ draw.T for _ in range(2))
        optimizer.zero_grad()
        batch = {**one, "control": control, "X": target @ linear.T + 2, "control_mask": mask, "mask": mask}
        module.loss(batch, g).loss.backward()
        optimizer.step()
        module.average.update(module.network)
    source = torch.randn(1, 1000, 2, generator=g) @ draw.T
    request = SampleRequest(source=source, control=source, control_mask=torch.ones(1, 1000, dtype=torch.bool), **one)
    found = module.eval().sample(request, generators=[])
    expected = source @ linear.T + 2
    unexplained = (found - expected).square().sum(-1).mean() / np.trace(second)
    assert unexplained.item() < 0.05
    x, y = source[0, :300].numpy().astype(float), found[0, :300].numpy().astype(float)
    M = cdist(x, y, "sqeuclidean")
    assert np.diagonal(M).mean() - ot.emd2([], [], M) < 0.01 * np.diagonal(M).mean()


@pytest.mark.parametrize(
    ("option", "message"), [({"cost": "cosine"}, "cost is 'cosine'"), ({"gap_weight": -1.0}, "gap_weight is -1.0")]
)
def test_bad_hyperparameters(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalMongeConfig(**option)
