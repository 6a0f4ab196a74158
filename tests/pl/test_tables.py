"""Plots of tables: scores, effects, distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from pertcast import pl as plots
from pertcast import tl
from pertcast._cli._benchmark import format_summary
from pertcast.pl._style import COLORS

pl: Any = plots


def texts(items: Any) -> list[str]:
    return [item.get_text() for item in items]


@pytest.fixture
def scores() -> pd.DataFrame:
    values = {
        ("base", "baseline"): {"energy_distance": [2.0, 4.0], "shift_pearson": [0.5, 0.7]},
        ("mine", "model"): {"energy_distance": [1.0, 1.5], "shift_pearson": [0.9, 0.9]},
        ("point", "baseline"): {"energy_distance": [np.nan, np.nan], "shift_pearson": [0.8, np.nan]},
        ("ceiling", "ceiling"): {"energy_distance": [0.0, 0.1], "shift_pearson": [1.0, 1.0]},
    }
    rows = [
        (model, role, metric, f"c{i}", value)
        for (model, role), columns in values.items()
        for metric, pair in columns.items()
        for i, value in enumerate(pair)
    ]
    return pd.DataFrame(rows, columns=["model", "role", "metric", "condition", "value"]).assign(task="")


class TestScoreTable:
    def test_numbers_order_and_marks(self, scores: pd.DataFrame) -> None:
        ax = pl.score_table(scores)
        assert texts(ax.get_yticklabels()) == ["mine", "point", "base", "noise ceiling"]
        assert texts(ax.get_xticklabels()) == ["energy_distance ↓", "shift_pearson ↑"]
        cell = {text.get_position(): text for text in ax.texts}
        found = [[cell[column, row].get_text() for column in range(2)] for row in range(4)]
        assert found == [["1.25", "0.900"], ["–", "0.800 (1)"], ["3.00", "0.600"], ["0.05", "1.000"]]
        bold = {place for place, text in cell.items() if text.get_fontweight() == "bold"}
        assert bold == {(0, 0), (1, 0)}  # the ceiling competes with nobody
        colors = [to_hex(tick.get_color()).upper() for tick in ax.get_yticklabels()]
        assert (colors[0], colors[3]) == (COLORS["predicted"], COLORS["observed"])

    @pytest.mark.parametrize(("factor", "text"), [(1e-9, "0.0000"), (0.01, "0.0125"), (10, "12.5"), (1000, "1250")])
    def test_decimals_fit_the_size_of_a_metric(self, scores: pd.DataFrame, factor: float, text: str) -> None:
        energy = scores[scores["metric"] == "energy_distance"]
        ax = pl.score_table(energy.assign(value=energy["value"] * factor))
        assert ax.texts[0].get_text() == text

    def test_shades_lead_from_the_worst_of_a_column_to_the_best(self, scores: pd.DataFrame) -> None:
        shades = pl.score_table(scores).get_images()[0].get_array()
        np.testing.assert_allclose(shades[:, 1], [0.75, 0.5, 0, 1])
        np.testing.assert_allclose(shades[[0, 2, 3], 0], [1.75 / 2.95, 0, 1])
        assert shades.mask[1, 0]

    def test_numbers_that_look_equal_are_equally_good(self, scores: pd.DataFrame) -> None:
        scores.loc[(scores["model"] == "point") & (scores["metric"] == "shift_pearson"), "value"] = 0.9001
        ax = pl.score_table(scores)
        bold = {text.get_position() for text in ax.texts if text.get_fontweight() == "bold"}
        assert bold == {(0, 0), (1, 0), (1, 1)}

    def test_what_is_not_defined_counts_as_the_worst(self, scores: pd.DataFrame) -> None:
        scores.loc[(scores["model"] == "point") & (scores["metric"] == "shift_pearson"), "value"] = 0.99
        names = texts(pl.score_table(scores).get_yticklabels())
        assert names == ["mine", "point", "base", "noise ceiling"]  # 0.59 and 0.75, nothing and 0.98, 0 and 0

    @pytest.mark.parametrize(
        ("metric", "wild", "near"),
        [("de_calibration", [1, -1], [0.1, 0.1]), ("variance_ratio", [1.8, 0.2], [1.1, 1.1])],
    )
    def test_too_high_and_too_low_do_not_make_up_for_each_other(self, metric: str, wild: Any, near: Any) -> None:
        values = {"wild": wild, "near": near}
        rows = [(name, "model", f"c{i}", value) for name, both in values.items() for i, value in enumerate(both)]
        table = pd.DataFrame(rows, columns=["model", "role", "condition", "value"]).assign(metric=metric, task="")
        ax = pl.score_table(table)
        assert texts(ax.get_yticklabels()) == ["near", "wild"]
        assert [text.get_position() for text in ax.texts if text.get_fontweight() == "bold"] == [(0, 0)]
        assert texts(pl.scores(table, metric).get_yticklabels()) == ["wild", "near"]  # the best is on top
        assert format_summary(tl.summarize(table), metric).splitlines()[1].split()[0] == "near"

    def test_metrics_without_a_value_have_no_column(self, scores: pd.DataFrame) -> None:
        empty = scores[scores["metric"] == "shift_pearson"].assign(metric="de_overlap")
        empty.loc[empty["role"] != "ceiling", "value"] = np.nan
        both = pd.concat([empty, scores])
        assert texts(pl.score_table(both).get_xticklabels()) == ["energy_distance ↓", "shift_pearson ↑"]
        assert len(pl.score_table(both, ["de_overlap", "shift_pearson"]).get_xticklabels()) == 2

    def test_choice_of_metrics_and_task(self, scores: pd.DataFrame) -> None:
        ax = pl.score_table(scores, ["shift_pearson"])
        assert texts(ax.get_xticklabels()) == ["shift_pearson ↑"]
        both = pd.concat([scores, scores.assign(task="b")])
        with pytest.raises(ValueError, match="holds the tasks"):
            pl.score_table(both)
        assert texts(pl.score_table(both, task="b").get_yticklabels())[0] == "mine"
        with pytest.raises(ValueError, match="no rows of the metric 'shift_person'. Did you mean 'shift_pearson'"):
            pl.score_table(scores, "shift_person")
        with pytest.raises(ValueError, match="No value of these metrics is defined"):
            pl.score_table(scores.assign(value=np.nan))

    def test_scores_of_one_task(self, scores: pd.DataFrame) -> None:
        both = pd.concat([scores, scores.assign(task="b", value=2 * scores["value"])])
        with pytest.raises(ValueError, match="holds the tasks"):
            pl.scores(both, "energy_distance")
        one = pl.scores(scores, "energy_distance")
        for a, b in zip(one.lines, pl.scores(both, "energy_distance", task="b").lines, strict=True):
            np.testing.assert_allclose(2 * np.asarray(a.get_xdata()), b.get_xdata())
        with pytest.raises(ValueError, match="no rows of the metric 'energy_distance' in task 'c'"):
            pl.scores(both, "energy_distance", task="c")
        with pytest.raises(ValueError, match="No value of 'energy_distance' is defined"):
            pl.scores(scores.assign(value=np.nan), "energy_distance")


class TestEffectHeatmap:
    def test_values_are_sizes_of_shifts_and_predicted_ones_are_framed(self, screen: dict[str, Any]) -> None:
        ax = pl.effect_heatmap(**screen, groupby="cell_type")
        assert texts(ax.get_yticklabels()) == ["y", "x"]  # the larger effect on top
        assert texts(ax.get_xticklabels()) == ["A", "B"]
        shown = ax.get_images()[0].get_array()

        def mean(adata: Any, perturbation: str, cell_type: str) -> np.ndarray:
            here = (adata.obs["perturbation"] == perturbation) & (adata.obs["cell_type"] == cell_type)
            return adata.X[here.to_numpy()].mean(0)

        def size(side: str, perturbation: str, cell_type: str) -> float:
            shift = mean(screen[side], perturbation, cell_type) - mean(screen["control"], "control", cell_type)
            return float(np.sqrt((shift**2).mean()))

        expected = [
            [size("real", "y", "A"), size("predicted", "y", "B")],
            [size("real", "x", "A"), size("real", "x", "B")],  # measured, although predicted too
        ]
        np.testing.assert_allclose(shown, expected)
        assert [(patch.get_x() + 0.44, patch.get_y() + 0.44) for patch in ax.patches] == [(1.0, 0.0)]
        assert texts(ax.texts) == [f"{value:.2f}" for row in expected for value in row]

    def test_spellings_of_a_perturbation_are_one_row(self, screen: dict[str, Any]) -> None:
        expected = pl.effect_heatmap(**screen, groupby="cell_type").get_images()[0].get_array()
        for real, predicted, control in (("b+a", "a+b", "control"), ("a+ctrl", "a", "ctrl")):
            cells = {name: adata.copy() for name, adata in screen.items()}
            names = {"real": real, "predicted": predicted, "control": control}
            for name, adata in cells.items():
                adata.obs["perturbation"] = (
                    adata.obs["perturbation"].astype(str).replace({"x": names[name], "control": control})
                )
            ax = pl.effect_heatmap(**cells, groupby="cell_type")
            assert texts(ax.get_yticklabels()) == ["y", predicted]
            np.testing.assert_allclose(ax.get_images()[0].get_array(), expected)
            dots = pl.dotplot(**cells, groupby="perturbation")
            assert [each.split()[0] for each in texts(dots.get_yticklabels())] == [predicted, predicted, "y", "y"]

    def test_one_gene_has_a_sign(self, screen: dict[str, Any]) -> None:
        image = pl.effect_heatmap(screen["real"], None, screen["control"], groupby="cell_type", gene="gene4")
        shown = image.get_images()[0]
        table: Any = tl.delta_table(screen["real"], control=screen["control"], groupby="cell_type")
        assert sorted(shown.get_array().compressed()) == pytest.approx(sorted(table.X[:, 4]))
        assert shown.norm.vmin == -shown.norm.vmax
        assert shown.get_array().mask.sum() == 1  # y in B was not measured
        assert not image.patches

    def test_contexts_are_in_the_order_of_their_categories(self, screen: dict[str, Any]) -> None:
        control = screen["control"].copy()
        control.obs["cell_type"] = control.obs["cell_type"].astype(str).astype("category")
        control.obs["cell_type"] = control.obs["cell_type"].cat.reorder_categories(["B", "A"])
        ax = pl.effect_heatmap(screen["real"], None, control, groupby="cell_type")
        assert texts(ax.get_xticklabels()) == ["B", "A"]

    def test_many_fields_have_no_numbers(self, screen: dict[str, Any]) -> None:
        assert not pl.effect_heatmap(**screen, groupby="cell_type", annotate=False).texts
        with pytest.raises(ValueError, match="nothing to plot"):
            pl.effect_heatmap(None, None, screen["control"], groupby="cell_type")


class TestDistanceMatrix:
    def test_energy_distances_of_cells(self, screen: dict[str, Any]) -> None:
        real = screen["real"]
        ax = pl.distance_matrix(real, "perturbation", cluster=False)
        x, y = (real.X[(real.obs["perturbation"] == p).to_numpy()] for p in "xy")
        expected = tl.energy_distance(x, y)
        np.testing.assert_allclose(ax.get_images()[0].get_array(), [[0, expected], [expected, 0]])

    def test_spellings_of_a_combination_are_one_population(self, screen: dict[str, Any]) -> None:
        expected = pl.distance_matrix(screen["real"], "perturbation", cluster=False).get_images()[0].get_array()
        screen["real"].obs["perturbation"] = screen["real"].obs["perturbation"].replace({"x": "b+a"})
        screen["real"].obs.iloc[:3, 0] = "a+b"
        ax = pl.distance_matrix(screen["real"], "perturbation", cluster=False)
        assert texts(ax.get_yticklabels()) == ["a+b", "y"]
        np.testing.assert_allclose(ax.get_images()[0].get_array(), expected)

    def test_table_of_pertpy(self, screen: dict[str, Any]) -> None:
        import pertpy as pt  # slow to import

        real = screen["real"]
        real.obsm["X_pca"] = real.X[:, :5]
        table: Any = pt.tl.Distance("edistance", obsm_key="X_pca").pairwise(
            real, groupby="cell_type", show_progressbar=False, n_jobs=1
        )
        ax = pl.distance_matrix(table)
        np.testing.assert_allclose(ax.get_images()[0].get_array(), table.to_numpy(float))
        assert texts(ax.get_yticklabels()) == ["A", "B"]

    def test_clustering_reorders_both_sides(self) -> None:
        place = np.array([0.0, 10.0, 1.0, 11.0])
        names = ["control", "b observed", "c", "d predicted"]
        table = pd.DataFrame(np.abs(place[:, None] - place), index=names, columns=names)
        ax = pl.distance_matrix(table.iloc[:, [2, 0, 1, 3]])
        order = texts(ax.get_yticklabels())
        assert texts(ax.get_xticklabels()) == order
        assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset(names[::2]), frozenset(names[1::2])}
        np.testing.assert_allclose(ax.get_images()[0].get_array(), table.loc[order, order])
        colors = {tick.get_text(): to_hex(tick.get_color()) for tick in ax.get_xticklabels()}
        assert colors["control"].upper() == COLORS["control"]
        assert colors["b observed"].upper() == COLORS["observed"]
        assert colors["d predicted"].upper() == COLORS["predicted"]

    def test_errors(self, screen: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be square"):
            pl.distance_matrix(pd.DataFrame([[0.0, 1.0]]))
        with pytest.raises(ValueError, match="`groupby` is needed"):
            pl.distance_matrix(screen["real"])
        with pytest.raises(ValueError, match="at least 2 populations"):
            pl.distance_matrix(screen["real"][:10], "perturbation")
        with pytest.raises(ValueError, match="NaN or infinite"):
            pl.distance_matrix(pd.DataFrame([[0, np.nan], [1, 0]]))
