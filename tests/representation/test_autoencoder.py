from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pertcast.representation import (
    REPRESENTATIONS,
    AutoencoderSpace,
    GeneSpace,
    PCASpace,
    make_representation,
    principal_components,
)

N_GENES = 20


@pytest.fixture(scope="module")
def circle() -> np.ndarray:
    """Cells on a closed curve in 20 dimensions: two numbers say where, but no plane holds it."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 600)[:, None]
    waves = np.concatenate([f(k * angle) for k in (1, 2, 3) for f in (np.sin, np.cos)], axis=1)
    return (waves @ rng.normal(size=(6, N_GENES)) + 0.05 * rng.normal(size=(600, N_GENES)) + 3).astype(np.float32)


@pytest.fixture(scope="module")
def fit(circle: np.ndarray) -> tuple[AutoencoderSpace, float]:
    """A fitted space, and what it says that it explains."""
    space = AutoencoderSpace(N_GENES, 3, nonnegative=False)
    return space, space.fit(circle)


@pytest.fixture(scope="module")
def fitted(fit: tuple[AutoencoderSpace, float]) -> AutoencoderSpace:
    return fit[0]


def unexplained(found: Any, cells: np.ndarray) -> float:
    return float(((np.asarray(found) - cells) ** 2).sum() / ((cells - cells.mean(0)) ** 2).sum())


def test_curved_data_need_fewer_features_than_components(fitted: AutoencoderSpace, circle: np.ndarray) -> None:
    cells = torch.from_numpy(circle)
    pca = principal_components(circle, 3)
    planar = pca.mean + (circle - pca.mean) @ pca.axes @ pca.axes.T
    curved = unexplained(fitted.reconstruct(fitted.encode(cells)), circle)
    assert unexplained(planar, circle) > 0.2
    assert curved < 0.05


def test_the_fit_says_what_it_explains(fit: tuple[AutoencoderSpace, float], circle: np.ndarray) -> None:
    space, explained = fit
    cells = torch.from_numpy(circle)
    assert explained == pytest.approx(1 - unexplained(space.reconstruct(space.encode(cells)), circle), abs=0.02)


def test_a_cell_that_keeps_its_code_is_unchanged(fitted: AutoencoderSpace, circle: np.ndarray) -> None:
    strange = torch.from_numpy(circle[:50]) + 2 * torch.randn(50, N_GENES, generator=torch.Generator().manual_seed(0))
    codes = fitted.encode(strange)
    assert (fitted.reconstruct(codes) - strange).abs().max() > 1
    torch.testing.assert_close(fitted.decode(codes, strange), strange, atol=1e-5, rtol=0)


def test_the_residual_is_carried(fitted: AutoencoderSpace, circle: np.ndarray) -> None:
    source, target = torch.from_numpy(circle[:50]), torch.from_numpy(circle[50:100])
    codes = fitted.encode(target)
    residual = source - fitted.reconstruct(fitted.encode(source))
    torch.testing.assert_close(fitted.decode(codes, source), fitted.reconstruct(codes) + residual, atol=1e-4, rtol=0)


def test_weights_are_constants_and_depend_on_the_seed_alone(fitted: AutoencoderSpace, circle: np.ndarray) -> None:
    assert not any(weight.requires_grad for weight in fitted.parameters())
    cells = torch.from_numpy(circle[:5]).requires_grad_()
    fitted.encode(cells).sum().backward()
    assert cells.grad is not None
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    again = AutoencoderSpace(N_GENES, 3, nonnegative=False)
    before = torch.random.get_rng_state()
    again.fit(sp.csr_array(circle))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(before, state)  # the layers themselves are made with the global generator, as torch does
    torch.testing.assert_close(again.encode(cells), fitted.encode(cells))


def test_no_negative_expression(circle: np.ndarray) -> None:
    space = AutoencoderSpace(N_GENES, 3, nonnegative=True)
    codes = 10 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    source = torch.from_numpy(circle[:30])
    assert space.reconstruct_freely(codes).min() < 0
    assert space.reconstruct(codes).min() == 0
    assert space.decode(codes, source - 3).min() == 0


def test_codes_and_cells_are_not_rounded_under_autocast(fitted: AutoencoderSpace, circle: np.ndarray) -> None:
    cells, codes = torch.from_numpy(circle[:30]), torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    expected = fitted.encode(cells), fitted.decode(codes, cells), fitted.reconstruct(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert fitted.encoder(cells).dtype == torch.bfloat16
        found = fitted.encode(cells), fitted.decode(codes, cells), fitted.reconstruct(codes)
        from_rounded = fitted.decode(codes.bfloat16(), cells)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(from_rounded, fitted.decode(codes.bfloat16().float(), cells), rtol=0, atol=0)


def test_registry() -> None:
    classes = [type(make_representation(name, 5, 3, nonnegative=True)) for name in REPRESENTATIONS]
    assert classes == [GeneSpace, PCASpace, AutoencoderSpace]
    assert make_representation("autoencoder", 5, 50, nonnegative=True).n_features == 5
    with pytest.raises(ValueError, match="Unknown representation 'scvi'"):
        make_representation("scvi", 5, 3, nonnegative=True)
