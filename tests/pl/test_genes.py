"""Plots of single genes: distributions, dots and the spread between populations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from pertcast import pl as plots
from pertcast.pl._style import COLORS, labels

pl: Any = plots


def texts(items: Any) -> list[str]:
    return [item.get_text() for item in items]


class TestGeneDistribution:
    def test_bars_are_means_and_genes_are_the_largest_shifts(self, cells: dict[str, Any]) -> None:
        ax = pl.gene_distribution(**cells, n_genes=3)
        shift = cells["real"].X.mean(0) - cells["control"].X.mean(0)
        order = np.argsort(-np.abs(shift))[:3]
        assert texts(ax.get_xticklabels()) == [f"gene{i}" for i in order]
        bars = [line.get_ydata()[0] for line in ax.get_lines()]
        expected = [cells[kind].X[:, gene].mean() for kind in ("control", "real", "predicted") for gene in order]
        np.testing.assert_allclose(bars, expected)

    def test_shares_of_expressing_cells(self, cells: dict[str, Any]) -> None:
        for adata, every in zip(cells.values(), (2, 4, 5), strict=True):
            adata.X = np.ones_like(adata.X) + np.arange(len(adata.X))[:, None] / 100
            adata.X[::every] = 0
        ax = pl.gene_distribution(**cells, genes="gene7")
        shares = {text.get_text(): to_hex(text.get_color()).upper() for text in ax.texts}
        assert shares == {"50": COLORS["observed"], "75": COLORS["predicted"], "80": COLORS["control"]}
        control = cells["control"].X[:, 7]
        assert ax.get_lines()[0].get_ydata()[0] == pytest.approx(control[control > 0].mean())

    def test_violin_is_as_wide_as_the_share(self, cells: dict[str, Any]) -> None:
        for adata in cells.values():
            adata.X = np.abs(adata.X) + 1
        cells["real"].X[:20] = 0
        ax = pl.gene_distribution(**cells, genes=["gene0"])
        widths = [np.ptp(body.get_paths()[0].vertices[:, 0]) for body in ax.collections[:3]]
        np.testing.assert_allclose(widths, [0.26, 0.13, 0.26])

    def test_negative_values_have_no_shares(self, cells: dict[str, Any]) -> None:
        cells["real"].X[0, 0] = -5
        assert not pl.gene_distribution(**cells, genes=["gene0"]).texts

    def test_silent_and_constant_genes_are_drawn(self, cells: dict[str, Any]) -> None:
        for adata in cells.values():
            adata.X = np.zeros_like(adata.X)
        cells["predicted"].X[:, 0] = 2
        ax = pl.gene_distribution(**cells, genes=["gene0"])
        assert texts(ax.texts) == ["0", "0", "100"]


class TestDotplot:
    def test_positions_colours_and_sizes(self, screen: dict[str, Any]) -> None:
        screen["real"].X[:10, 3] = 0
        ax = pl.dotplot(**screen, genes=["gene3", "gene1"], groupby="perturbation", control_groupby="cell_type")
        assert texts(ax.get_yticklabels()) == ["x  observed", "x  predicted", "y  observed", "y  predicted"]
        assert texts(ax.get_xticklabels()) == ["gene3", "gene1"]
        real, control = screen["real"], screen["control"]
        means = {name: control.X[(control.obs["cell_type"] == name).to_numpy()].mean(0) for name in "AB"}
        x = real.X[(real.obs["perturbation"] == "x").to_numpy()]
        expected = x.mean(0) - (means["A"] + means["B"]) / 2
        np.testing.assert_allclose(ax.collections[0].get_array()[:2], expected[[3, 1]])
        np.testing.assert_allclose(ax.collections[0].get_sizes()[:2], 130 * np.array([0.75, 1]))
        y = screen["predicted"].X[(screen["predicted"].obs["perturbation"] == "y").to_numpy()]
        np.testing.assert_allclose(ax.collections[0].get_array()[-2:], (y.mean(0) - means["B"])[[3, 1]])
        colors = [to_hex(tick.get_color()).upper() for tick in ax.get_yticklabels()]
        assert colors == [COLORS["observed"], COLORS["predicted"]] * 2

    def test_spellings_of_a_combination_are_one_group(self, screen: dict[str, Any]) -> None:
        named = pl.dotplot(**screen, groupby="perturbation")
        screen["real"].obs["perturbation"] = screen["real"].obs["perturbation"].replace({"x": "b+a"})
        screen["real"].obs.iloc[:3, 0] = "a + b"
        screen["predicted"].obs["perturbation"] = screen["predicted"].obs["perturbation"].replace({"x": "a+b"})
        ax = pl.dotplot(**screen, groupby="perturbation")
        assert texts(ax.get_yticklabels()) == ["a+b  observed", "a+b  predicted", "y  observed", "y  predicted"]
        np.testing.assert_allclose(ax.collections[0].get_array(), named.collections[0].get_array())

    def test_labels_that_are_no_perturbations_stay(self, screen: dict[str, Any]) -> None:
        for cells in (screen["real"], screen["predicted"]):
            cells.obs["cell_type"] = cells.obs["cell_type"].replace({"A": "CD8+", "B": "T+B doublet"})
        ax = pl.dotplot(**screen, groupby="cell_type")
        assert texts(ax.get_yticklabels()) == ["CD8+  observed", "T+B doublet  observed", "T+B doublet  predicted"]

    def test_genes_have_the_largest_mean_measured_shift(self, screen: dict[str, Any]) -> None:
        ax = pl.dotplot(**screen, groupby="perturbation", n_genes=5)
        real, origin = screen["real"], screen["control"].X.mean(0)
        sizes = [np.abs(real.X[(real.obs["perturbation"] == p).to_numpy()].mean(0) - origin) for p in "xy"]
        assert texts(ax.get_xticklabels()) == [f"gene{i}" for i in np.argsort(-np.mean(sizes, axis=0))[:5]]

    def test_scale_is_symmetric(self, screen: dict[str, Any]) -> None:
        dots = pl.dotplot(**screen).collections[0]
        assert dots.norm.vmin == -dots.norm.vmax
        assert dots.norm.vmax == pytest.approx(np.abs(dots.get_array()).max())
        assert pl.dotplot(**screen, vmax=3).collections[0].norm.vmax == 3

    def test_context_without_controls(self, screen: dict[str, Any]) -> None:
        screen["control"] = screen["control"][:20]
        with pytest.raises(ValueError, match="`control` has no cells with 'cell_type' equal to 'B', but `real` has"):
            pl.dotplot(**screen, control_groupby="cell_type")


class TestPopulationSpread:
    def test_one_dot_for_each_population(self, screen: dict[str, Any]) -> None:
        here = {name: adata[(adata.obs["cell_type"] == "B").to_numpy()] for name, adata in screen.items()}
        here["predicted"] = here["predicted"][:20].copy()
        del here["predicted"].obs["donor"]
        ax = pl.population_spread(**here, genes=["gene2"], real_population_key="donor")
        real, control, predicted = here["real"], here["control"], here["predicted"]
        expected = [
            real.X[(real.obs["donor"] == d).to_numpy(), 2].mean()
            - control.X[(control.obs["donor"] == d).to_numpy(), 2].mean()
            for d in ("d0", "d1")
        ]
        np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], expected)
        draws = [predicted.X[i::4, 2].mean() - control.X[:, 2].mean() for i in range(4)]
        np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], draws)
        np.testing.assert_allclose(ax.get_lines()[2].get_xdata(), [min(draws), max(draws)])
        np.testing.assert_allclose(ax.get_lines()[3].get_xdata(), [np.mean(draws)] * 2)

    def test_predicted_cells_are_compared_with_controls_of_their_own(self, screen: dict[str, Any]) -> None:
        predicted, control = screen["predicted"].copy(), screen["control"].copy()
        predicted.obs["donor"] = np.where(np.arange(predicted.n_obs) % 3 == 0, "d0", "d1")
        control.X[(control.obs["donor"] == "d1").to_numpy()] += 5
        ax = pl.population_spread(predicted, control, screen["real"], genes=["gene2"], real_population_key="donor")
        own = {d: control.X[(control.obs["donor"] == d).to_numpy(), 2].mean() for d in ("d0", "d1")}
        shift = predicted.X[:, 2] - predicted.obs["donor"].map(own).to_numpy(float)
        draws = predicted.obs["population"].to_numpy()
        expected = [shift[draws == draw].mean() for draw in np.unique(draws)]
        np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], expected)

    def test_genes_are_those_of_the_prediction_without_measured_cells(self, screen: dict[str, Any]) -> None:
        ax = pl.population_spread(screen["predicted"], screen["control"], n_genes=4)
        shift = screen["predicted"].X.mean(0) - screen["control"].X.mean(0)
        assert texts(ax.get_yticklabels()) == [f"gene{i}" for i in np.argsort(-np.abs(shift))[:4]]
        assert texts(ax.get_legend().get_texts()) == ["predicted"]

    def test_missing_column(self, screen: dict[str, Any]) -> None:
        with pytest.raises(KeyError, match="No column 'draw' in `predicted.obs`, which has 'perturbation'"):
            pl.population_spread(screen["predicted"], screen["control"], population_key="draw")


@pytest.mark.parametrize("plot", [pl.gene_distribution, pl.dotplot])
def test_unknown_gene(plot: Any, cells: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="No gene 'Gene3' among the 30 genes. Did you mean 'gene3'"):
        plot(**cells, genes=["Gene3"])


@pytest.mark.parametrize("plot", [pl.gene_distribution, pl.dotplot, pl.population_spread])
def test_draws_on_the_axes_of_the_user(plot: Any, screen: dict[str, Any]) -> None:
    _, axes = plt.subplots(1, 2)
    assert plot(**screen, ax=axes[1], title="T") is axes[1]
    assert not axes[0].has_data()
    assert axes[1].get_title() == "T"


def test_labels_are_short_but_tell_names_apart() -> None:
    long = [f"a-perturbation-whose-name-{i}-has-its-number-within" for i in (1, 2)]
    assert labels(["A", long[0]]) == ["A", "a-perturbation-who...r-within"]
    assert labels(long) == long
