"""New cells of conditions of a simulated screen."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pytest

from pertcast.data import simulate_population, simulate_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Every cell of a population has the same rates, and a condition responds alike everywhere.
PLAIN: dict[str, Any] = {"state_sd": 0.0, "latent_sd": 0.0, "donor_sd": 0.0, "n_donors": 1, "n_batches": 1}
# The types of AnnData's attributes are too wide to test against.
make_screen: Callable[..., Any] = simulate_screen
draw: Callable[..., Any] = simulate_population


@pytest.fixture(scope="module")
def screen() -> Any:
    """All sources of variation on."""
    return make_screen(
        6, n_genes=80, n_cell_types=2, n_donors=2, n_perturbations=3, combinations=1, dosages=(0.5, 2.0), seed=3
    )


def dense(adata: Any) -> NDArray[np.float64]:
    return adata.layers["counts"].toarray().astype(float)


def select(adata: Any, **condition: object) -> NDArray[np.intp]:
    """Rows of the table of populations."""
    table = adata.uns["simulation"]["populations"]
    return np.flatnonzero(np.logical_and.reduce([table[name] == value for name, value in condition.items()]))


def test_dosage_zero_is_control(screen: Any) -> None:
    control = draw(screen, perturbation="control", cell_type="type_1", donor="donor_1", seed=4)
    for perturbation in ("pert_2", "pert_0+pert_1"):
        nothing = draw(screen, perturbation=perturbation, cell_type="type_1", donor="donor_1", dosage=0, seed=4)
        assert np.array_equal(dense(nothing), dense(control))
        something = draw(screen, perturbation=perturbation, cell_type="type_1", donor="donor_1", dosage=2, seed=4)
        assert not np.array_equal(dense(something), dense(control))


def test_latent_of_a_fresh_population() -> None:
    kwargs = PLAIN | {"latent_sd": 0.4}
    adata = make_screen(
        1, n_genes=40, n_cell_types=1, n_perturbations=2, combinations=0, dispersion=0, median_counts=1e7, **kwargs
    )
    control_rates, rates = adata.uns["simulation"]["rates"][:2]
    latent_in_screen = float(adata.uns["simulation"]["populations"]["latent"].iloc[1])
    direction = np.log(rates / control_rates) / latent_in_screen

    def estimate(latent: Any, seed: int) -> float:
        """The response factor from paired cells, by least squares."""
        condition = {"cell_type": "type_0", "n_cells": 20, "seed": seed}
        means = [
            dense(draw(adata, perturbation=name, latent=latent, **condition)).sum(axis=0)
            for name in ("pert_0", "control")
        ]
        return float(np.log(means[0] / means[1]) @ direction / (direction @ direction))

    assert estimate("screen", 0) == pytest.approx(latent_in_screen, abs=0.02)
    assert estimate(1.7, 0) == pytest.approx(1.7, abs=0.02)
    assert estimate(0.0, 0) == pytest.approx(0, abs=0.02)
    new = [estimate("new", seed) for seed in range(60)]
    assert np.mean(new) == pytest.approx(1, abs=0.15)
    assert np.std(new) == pytest.approx(0.4, rel=0.35)


def test_fresh_combination_that_the_screen_does_not_hold() -> None:
    adata = make_screen(
        1, n_genes=60, n_cell_types=1, n_perturbations=3, combinations=0, dispersion=0, median_counts=1e7, **PLAIN
    )
    crossed = make_screen(
        1, n_genes=60, n_cell_types=1, n_perturbations=3, combinations=True, dispersion=0, median_counts=1e7, **PLAIN
    )
    rates = crossed.uns["simulation"]["rates"][select(crossed, perturbation="pert_0+pert_2")[0]]
    cells = draw(adata, perturbation="pert_2+pert_0", cell_type="type_0", n_cells=200)
    assert set(cells.obs["perturbation"]) == {"pert_0+pert_2"}
    observed = dense(cells).sum(axis=0)
    np.testing.assert_allclose(observed / observed.sum(), rates / rates.sum(), rtol=0.01, atol=1e-6)


def test_fresh_cells_are_spread_over_donors_and_batches(screen: Any) -> None:
    cells = draw(screen, perturbation="control", cell_type="type_0", n_cells=40)
    assert cells.obs.groupby(["donor", "batch"], observed=True).size().tolist() == [10] * 4
    odd = draw(screen, perturbation="control", cell_type="type_0", n_cells=42).obs
    assert odd["donor"].value_counts().tolist() == odd["batch"].value_counts().tolist() == [21, 21]
    assert draw(screen, perturbation="control", cell_type="type_0", n_cells=1).n_obs == 1


def test_fresh_cells_of_a_subset(screen: Any) -> None:
    part = screen[::7, [5, 2, 40]].copy()
    before = part.copy()
    condition: dict[str, Any] = {"perturbation": "pert_1", "cell_type": "type_0", "dosage": 2.0}
    few, all_genes = draw(part, **condition), draw(screen, **condition)
    assert list(few.var_names) == ["gene_0005", "gene_0002", "gene_0040"]
    assert np.array_equal(few.X.toarray(), all_genes[:, few.var_names].X.toarray())
    assert part.shape == before.shape
    assert np.array_equal(part.X.toarray(), before.X.toarray())
    assert part.obs.equals(before.obs)


def test_fresh_cells_differ_from_the_screen_and_between_seeds(screen: Any) -> None:
    condition: dict[str, Any] = {"perturbation": "control", "cell_type": "type_0", "donor": "donor_0", "n_cells": 6}
    first, again, other, same_as_screen = (dense(draw(screen, **condition, seed=seed)) for seed in (1, 1, 2, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(same_as_screen, dense(screen[:6]))


def test_memory_stays_far_below_a_dense_matrix() -> None:
    adata = make_screen(1, n_genes=400, n_perturbations=1, combinations=0, median_counts=20)
    condition: dict[str, Any] = {"perturbation": "pert_0", "cell_type": "type_0", "donor": "donor_0"}
    tracemalloc.start()
    cells = draw(adata, n_cells=20_000, **condition)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cells.n_obs == 20_000
    assert peak < 0.75 * 20_000 * 400 * 8


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"perturbation": "pert_9"}, ValueError, "perturbation 'pert_9' is not in .* pert_0, pert_1, pert_2"),
        ({"perturbation": "pert_0+control"}, ValueError, "leave 'control' out"),
        ({"perturbation": "pert_0+pert_0"}, ValueError, "Name each one once"),
        ({"perturbation": ["pert_0"]}, TypeError, "is list"),
        ({"cell_type": "B"}, ValueError, "cell_type 'B' is not in .* type_0, type_1"),
        ({"donor": "donor_7"}, ValueError, "donor 'donor_7'"),
        ({"batch": "batch_7"}, ValueError, "batch 'batch_7'"),
        ({"dosage": None}, ValueError, r"has the dosages \[0.5, 2.0\]"),
        ({"dosage": -1.0}, ValueError, "dosage=-1.0"),
        ({"perturbation": "control", "dosage": 1.0}, ValueError, "was given for control"),
        ({"latent": "any"}, ValueError, "expected 'screen', 'new' or a number"),
        ({"latent": -1.0}, ValueError, "latent=-1.0"),
        ({"n_cells": 0}, ValueError, "`n_cells` must be at least 1, but found 0"),
    ],
)
def test_bad_populations_are_refused(screen: Any, kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw(screen, **({"perturbation": "pert_0", "cell_type": "type_0", "dosage": 2.0} | kwargs))


def test_populations_need_a_simulated_screen(screen: Any) -> None:
    bare = anndata.AnnData(screen.X, obs=screen.obs, var=screen.var)
    with pytest.raises(KeyError, match=r"has no 'simulation' .*Pass the AnnData that simulate_screen returned"):
        draw(bare, perturbation="control", cell_type="type_0")
    renamed = screen[:, :3].copy()
    renamed.var_names = ["a", "b", "gene_0000"]
    with pytest.raises(ValueError, match="2 genes that the simulated screen did not have, such as 'a'"):
        draw(renamed, perturbation="control", cell_type="type_0")
