from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pertcast.representation import GeneSpace, PCASpace, principal_components

N_GENES = 20


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def cells() -> Tensor:
    return normal(60, 4) @ normal(4, N_GENES, seed=1) * 2 + normal(60, N_GENES, seed=2) + 1


def space(
    cells: Tensor, shifts: Tensor, n_features: int = 8, n_directions: int = 2, *, nonnegative: bool = False
) -> PCASpace:
    result = PCASpace(N_GENES, n_features, nonnegative=nonnegative)
    result.fit(principal_components(cells.numpy(), n_features), shifts, n_directions=n_directions)
    return result.double()


def test_axes_are_orthonormal_and_hold_components_then_shifts(cells: Tensor) -> None:
    shifts = normal(2, N_GENES, seed=3)
    axes = space(cells, shifts).axes
    torch.testing.assert_close(axes.T @ axes, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-5)
    leading = torch.from_numpy(principal_components(cells.numpy(), 6).axes).double()
    torch.testing.assert_close(axes[:, :6] @ axes[:, :6].T, leading @ leading.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(shifts @ axes @ axes.T, shifts, rtol=0, atol=1e-4)


def test_a_cell_that_keeps_its_scores_comes_back_unchanged(cells: Tensor) -> None:
    pca = space(cells, normal(2, N_GENES, seed=3))
    torch.testing.assert_close(pca.decode(pca.encode(cells), cells), cells, rtol=0, atol=1e-10)
    residual = cells - pca.mean - pca.encode(cells) @ pca.axes.T
    assert residual.norm(dim=1).min() > 0.5


def test_encode_is_a_projection_of_the_centred_cell(cells: Tensor) -> None:
    pca = space(cells, normal(2, N_GENES, seed=3))
    expected = np.einsum("ng,gk->nk", (cells - pca.mean).numpy(), pca.axes.numpy())
    np.testing.assert_allclose(pca.encode(cells).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("n_directions", [0, 2])
def test_shifts_are_carried_exactly_when_their_directions_are_axes(cells: Tensor, n_directions: int) -> None:
    shifts = normal(2, N_GENES, seed=3)
    pca = space(cells, shifts, n_directions=n_directions)
    carried = pca.decode(pca.encode(cells + shifts[0]), cells) - cells
    error = (carried - shifts[0]).abs().max()
    assert (error < 1e-4) == (n_directions == 2)
    torch.testing.assert_close(carried[0], shifts[0] @ pca.axes @ pca.axes.T, rtol=0, atol=1e-6)


def test_decoding_moves_cells_along_the_axes_only(cells: Tensor) -> None:
    pca = space(cells, normal(2, N_GENES, seed=3))
    scores = normal(60, 8, seed=5)
    decoded = pca.decode(scores, cells)
    torch.testing.assert_close(pca.encode(decoded), scores, rtol=0, atol=1e-4)
    outside = torch.eye(N_GENES, dtype=torch.float64) - pca.axes @ pca.axes.T
    torch.testing.assert_close(decoded @ outside, cells @ outside, rtol=0, atol=1e-4)


def test_missing_axes_are_zero_and_harmless(cells: Tensor) -> None:
    few = cells[:4]
    pca = space(few, torch.zeros(1, N_GENES, dtype=torch.float64), n_features=10)
    norms = pca.axes.norm(dim=0)
    torch.testing.assert_close(norms, torch.tensor([1.0] * 3 + [0.0] * 7, dtype=torch.float64), rtol=0, atol=1e-5)
    assert not pca.encode(cells)[:, 3:].any()
    scores = pca.encode(cells)
    scores[:, 3:] = 100.0
    torch.testing.assert_close(pca.decode(scores, cells), cells, rtol=0, atol=1e-8)


def test_refitting_leaves_nothing_of_the_first_fit(cells: Tensor) -> None:
    fresh = space(cells[:4], torch.zeros(1, N_GENES, dtype=torch.float64))
    pca = PCASpace(N_GENES, 8, nonnegative=False)
    pca.fit(principal_components(cells.numpy(), 8), normal(2, N_GENES), n_directions=2)
    pca.fit(principal_components(cells[:4].numpy(), 8), torch.zeros(1, N_GENES), n_directions=2)
    torch.testing.assert_close(pca.axes.double(), fresh.axes)


def test_the_largest_shifts_that_components_miss_become_axes(cells: Tensor) -> None:
    leading = torch.from_numpy(principal_components(cells.numpy(), 6).axes).double()
    within, missed = normal(4, 6, seed=3) @ leading.T, normal(3, N_GENES, seed=4)
    missed = torch.linalg.qr((missed - missed @ leading @ leading.T).T).Q.T * torch.tensor([[5.0], [3.0], [1.0]])
    axes = space(cells, torch.cat([10 * within, missed])).axes
    kept = (missed @ axes @ axes.T).norm(dim=1) / missed.norm(dim=1)
    torch.testing.assert_close(kept, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-4)
    assert not space(cells, 10 * within).axes[:, 6:].any()  # what is left of them is rounding


def test_no_more_features_than_genes() -> None:
    assert PCASpace(5, 50, nonnegative=True).n_features == 5


def test_bounds(cells: Tensor) -> None:
    pca = space(cells, normal(2, N_GENES, seed=3), nonnegative=True)
    scores = normal(60, 8, seed=5) * 10
    torch.testing.assert_close(pca.bound(scores), scores, rtol=0, atol=0)
    free = space(cells, normal(2, N_GENES, seed=3)).decode(scores, cells)
    assert free.min() < 0
    torch.testing.assert_close(pca.decode(scores, cells), free.clamp_min(0), rtol=0, atol=0)


def test_scores_and_cells_are_not_rounded_under_autocast(cells: Tensor) -> None:
    pca = space(cells, normal(2, N_GENES, seed=3)).float()
    single, scores = cells.float(), normal(60, 8, seed=5).float()
    expected = pca.encode(single), pca.decode(scores, single), pca.reconstruct(scores)
    with torch.autocast("cpu", torch.bfloat16):
        assert (single @ pca.axes).dtype == torch.bfloat16
        found = pca.encode(single), pca.decode(scores, single), pca.reconstruct(scores)
        from_rounded = pca.decode(scores.bfloat16(), single)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(from_rounded, pca.decode(scores.bfloat16().float(), single), rtol=0, atol=0)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_genes_are_their_own_features(cells: Tensor, nonnegative: bool) -> None:
    genes = GeneSpace(N_GENES, nonnegative=nonnegative)
    assert genes.n_features == N_GENES
    assert torch.equal(genes.encode(cells), cells)
    expected = cells.clamp_min(0) if nonnegative else cells
    assert cells.min() < 0
    assert torch.equal(genes.bound(cells), expected)
    assert torch.equal(genes.decode(cells, cells.flip(0)), expected)
