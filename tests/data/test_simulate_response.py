"""The response to simulated perturbations against the equations of the simulator."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from pertcast.data import simulate_population, simulate_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Every cell of a population has the same rates, and a condition responds alike everywhere.
PLAIN: dict[str, Any] = {"state_sd": 0.0, "latent_sd": 0.0, "donor_sd": 0.0, "n_donors": 1, "n_batches": 1}
# The types of AnnData's attributes are too wide to test against.
make_screen: Callable[..., Any] = simulate_screen
draw: Callable[..., Any] = simulate_population


def dense(adata: Any) -> NDArray[np.float64]:
    return adata.layers["counts"].toarray().astype(float)


def select(adata: Any, **condition: object) -> NDArray[np.intp]:
    """Rows of the table of populations."""
    table = adata.uns["simulation"]["populations"]
    return np.flatnonzero(np.logical_and.reduce([table[name] == value for name, value in condition.items()]))


def log_shift(adata: Any, perturbation: str, **condition: object) -> NDArray[np.float64]:
    """Log expected rates minus those of control in the same context, one row a population."""
    truth = adata.uns["simulation"]
    rows = select(adata, perturbation=perturbation, **condition)
    table = truth["populations"].iloc[rows]
    controls = select(adata, perturbation="control")
    contexts = pd.MultiIndex.from_frame(truth["populations"].iloc[controls][["cell_type", "donor"]])
    control = controls[contexts.get_indexer(pd.MultiIndex.from_frame(table[["cell_type", "donor"]]))]
    return np.log(truth["rates"][rows]) - np.log(truth["rates"][control])


def strength(adata: Any, perturbation: str, cell_type: int, donor: int = 0, dosage: float = 1.0) -> float:
    """Hill curve times logistic function of the receptor level, written out."""
    truth = adata.uns["simulation"]
    row = truth["perturbations"].loc[perturbation]
    level = truth["basal"][cell_type, receptor_of(adata)] + truth["donor_receptor"][donor]
    return expit(row["slope"] * (level - row["threshold"])) / (1 + (row["ec50"] / dosage) ** row["hill"])


def receptor_of(adata: Any) -> int:
    return list(adata.uns["simulation"]["programmes"]["role"]).index("receptor")


def only_in(adata: Any, programme: str, among: tuple[str, ...]) -> NDArray[np.intp]:
    """Genes with a loading in this programme and in no other with one of these roles."""
    truth = adata.uns["simulation"]
    table, loaded = truth["programmes"], truth["loadings"] != 0
    position = table.index.get_loc(programme)
    others = table["role"].isin(among).to_numpy() & (np.arange(len(table)) != position)
    return np.flatnonzero(loaded[position] & ~loaded[others].any(axis=0))


def test_hill_curve() -> None:
    adata = make_screen(1, n_genes=200, n_perturbations=2, combinations=0, dosages=(0.2, 1.0, 1e6), **PLAIN)
    table = adata.uns["simulation"]["perturbations"]
    for name, cell_type, dosage in product(("pert_0", "pert_1"), ("type_0", "type_3"), (0.2, 1.0)):
        saturated = log_shift(adata, name, cell_type=cell_type, dosage=1e6)[0]
        shift = log_shift(adata, name, cell_type=cell_type, dosage=dosage)[0]
        ec50, hill = table.loc[name, "ec50"], table.loc[name, "hill"]
        potency = (dosage / ec50) ** hill / (1 + (dosage / ec50) ** hill)
        full = (1e6 / ec50) ** hill / (1 + (1e6 / ec50) ** hill)
        np.testing.assert_allclose(shift, saturated * potency / full, atol=1e-9)


def test_half_the_effect_at_ec50() -> None:
    adata = make_screen(
        1, n_genes=40, n_cell_types=1, n_perturbations=1, combinations=0, dispersion=0, median_counts=1e7, **PLAIN
    )
    ec50 = float(adata.uns["simulation"]["perturbations"].loc["pert_0", "ec50"])

    def log_mean(dosage: float) -> NDArray[np.float64]:
        cells = draw(adata, perturbation="pert_0", cell_type="type_0", dosage=dosage)
        return np.log(dense(cells).mean(axis=0))

    control, half, full = log_mean(0.0), log_mean(ec50), log_mean(1e9)
    assert np.abs(full - control).max() > 0.3
    np.testing.assert_allclose(half - control, (full - control) / 2, atol=0.02)


def test_effect_size_zero_is_control() -> None:
    adata = make_screen(2, n_genes=60, n_perturbations=2, combinations=True, effect_size=0)
    for perturbation in ("pert_0", "pert_1", "pert_0+pert_1"):
        assert np.abs(log_shift(adata, perturbation)).max() == 0


def test_response_follows_the_receptor_level() -> None:
    kwargs = PLAIN | {"donor_sd": 0.3, "n_donors": 2}
    adata = make_screen(1, n_genes=200, n_perturbations=3, combinations=0, n_cell_types=3, **kwargs)
    assert np.ptp(adata.uns["simulation"]["donor_receptor"]) > 0.1
    for name in ("pert_0", "pert_1", "pert_2"):
        shifts = log_shift(adata, name)  # cell types x donors
        strengths = np.array([strength(adata, name, c, d) for c, d in product(range(3), range(2))])
        assert strengths.max() / strengths.min() > 1.2
        np.testing.assert_allclose(shifts, np.outer(strengths / strengths[0], shifts[0]), atol=1e-9)


def test_perturbations_share_programmes_sparsely() -> None:
    adata = make_screen(
        1,
        n_genes=20,
        n_cell_types=1,
        n_perturbations=200,
        n_programmes=5,
        combinations=0,
        dosages=(1.0, 16.0),
        effect_size=2,
        **PLAIN,
    )
    truth = adata.uns["simulation"]
    role = truth["programmes"]["role"].to_numpy()
    shared, private = np.abs(truth["effects"][:, role == "response"]), truth["effects"][:, role == "private"]
    assert ((shared > 0).sum(axis=1) == 3).all()
    assert ((shared == 0) | ((shared >= 1.5) & (shared <= 3))).all()
    assert np.array_equal(private, 2 * np.eye(200))
    assert (truth["effects"][:, ~np.isin(role, ["response", "private"])] == 0).all()
    log_ec50 = np.log(truth["perturbations"]["ec50"])
    np.testing.assert_allclose(log_ec50.mean(), np.log(4 / 2), atol=0.15)  # half the geometric mean of 1 and 16
    np.testing.assert_allclose(log_ec50.std(), 0.5, rtol=0.2)


def test_receptor_level_is_visible_in_control_cells() -> None:
    adata = make_screen(1, n_genes=200, n_perturbations=1, combinations=0, **PLAIN)
    truth = adata.uns["simulation"]
    genes = only_in(adata, "receptor", among=("marker",))
    none = np.flatnonzero(~(truth["loadings"] != 0).any(axis=0))
    receptor = receptor_of(adata)
    log_rates = np.log(truth["rates"][select(adata, perturbation="control")])
    log_rates -= log_rates[:, none].mean(axis=1, keepdims=True)  # RNA content
    levels = truth["basal"][:, receptor]
    np.testing.assert_allclose(sorted(levels), [-0.9375, -0.3125, 0.3125, 0.9375])
    assert len(genes) > 3
    np.testing.assert_allclose(
        (log_rates - log_rates[0])[:, genes],
        np.outer(levels - levels[0], truth["loadings"][receptor, genes]),
        atol=1e-9,
    )


def test_cells_with_more_receptor_respond_more() -> None:
    kwargs = PLAIN | {"state_sd": 1.0}
    adata = make_screen(
        1, n_genes=100, n_cell_types=1, n_perturbations=1, combinations=0, dispersion=0, median_counts=1e8, **kwargs
    )
    truth = adata.uns["simulation"]
    shift = log_shift(adata, "pert_0")[0]
    gene = np.argmax(np.abs(shift) * (truth["rates"][0] > 1e-5))
    marker = only_in(adata, "receptor", among=("state",))
    marker = marker[np.argmax(truth["rates"][0][marker])]
    # The same seed: the perturbed cells are the control cells with the perturbation.
    control, perturbed = (
        dense(draw(adata, perturbation=name, cell_type="type_0", n_cells=3000)) for name in ("control", "pert_0")
    )
    response = np.log(perturbed[:, gene] / control[:, gene])
    library = np.log(control[:, ~(truth["loadings"] != 0).any(axis=0)].sum(axis=1))
    receptor = np.log(control[:, marker]) - library
    assert stats.spearmanr(receptor, np.sign(shift[gene]) * response).statistic > 0.95
    assert response.std() > 0.1 * np.abs(response.mean())


def test_latent_factor_scales_the_response_of_a_population() -> None:
    kwargs = PLAIN | {"n_donors": 300, "latent_sd": 0.5}
    adata = make_screen(1, n_genes=20, n_cell_types=1, n_perturbations=1, combinations=0, **kwargs)
    table = adata.uns["simulation"]["populations"]
    assert (table.loc[table["perturbation"] == "control", "latent"] == 1).all()
    same = make_screen(1, n_genes=20, n_cell_types=1, n_perturbations=1, combinations=0, **(kwargs | {"latent_sd": 0}))
    shifts, fixed = log_shift(adata, "pert_0"), log_shift(same, "pert_0")
    assert np.abs(fixed).max() > 0.1
    assert np.ptp(fixed, axis=0).max() < 1e-12
    latent = table.loc[table["perturbation"] == "pert_0", "latent"].to_numpy()
    np.testing.assert_allclose(shifts, latent[:, None] * fixed, atol=1e-12)
    # Between-population variance of the response is latent_sd^2 times the squared mean response.
    changed = np.abs(fixed[0]) > 0.05
    np.testing.assert_allclose(shifts.mean(axis=0)[changed], fixed[0][changed], rtol=0.1)
    np.testing.assert_allclose(shifts.var(axis=0)[changed], 0.25 * fixed[0][changed] ** 2, rtol=0.3)


def test_combinations_are_additive_without_interaction() -> None:
    adata = make_screen(1, n_genes=200, n_perturbations=3, combinations=True, interaction=0, **PLAIN)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        both = log_shift(adata, f"pert_{first}+pert_{second}")
        np.testing.assert_allclose(
            both, log_shift(adata, f"pert_{first}") + log_shift(adata, f"pert_{second}"), atol=1e-9
        )


def test_interaction_is_synergy_or_buffering_of_programmes() -> None:
    adata = make_screen(1, n_genes=400, n_perturbations=3, combinations=True, interaction=0.8, **PLAIN)
    truth = adata.uns["simulation"]
    gains = truth["programmes"]["interaction"]
    responses = truth["programmes"]["role"] == "response"
    assert sorted(gains[responses]) == [-0.8, -0.8, 0, 0, 0, 0, 0.8, 0.8]
    assert (gains[~responses] == 0).all()
    found = set()
    for (first, second), cell_type in product(((0, 1), (0, 2), (1, 2)), range(4)):
        names = (f"pert_{first}", f"pert_{second}")
        both = log_shift(adata, "+".join(names), cell_type=f"type_{cell_type}")[0]
        sum_of_singles = sum(log_shift(adata, name, cell_type=f"type_{cell_type}")[0] for name in names)
        product_of_strengths = np.prod([strength(adata, name, cell_type) for name in names])
        for programme in gains.index[responses]:
            genes = only_in(adata, programme, among=("response", "private"))
            expected = sum_of_singles[genes] * (1 + gains[programme] * product_of_strengths)
            np.testing.assert_allclose(both[genes], expected, atol=1e-9)
            if np.abs(sum_of_singles[genes]).max(initial=0) > 0.05:
                found.add(float(gains[programme]))
    assert found == {-0.8, 0.0, 0.8}
