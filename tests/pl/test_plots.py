from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from sklearn.decomposition import PCA

from pertcast import pl as plots
from pertcast.pl._style import COLORS

if TYPE_CHECKING:
    from pathlib import Path

pl: Any = plots
N_GENES = 30


def shifts(cells: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    control = cells["control"].X.mean(0)
    return cells["real"].X.mean(0) - control, cells["predicted"].X.mean(0) - control


class TestMeanExpression:
    def test_points_and_numbers(self, cells: dict[str, Any]) -> None:
        ax = pl.mean_expression(**cells, title="A")
        x, y = shifts(cells)
        np.testing.assert_allclose(ax.collections[0].get_offsets(), np.stack([x, y], axis=1), atol=1e-12)
        r2 = 1 - ((y - x) ** 2).sum() / ((x - x.mean()) ** 2).sum()
        texts = [text.get_text() for text in ax.texts]
        top = np.argsort(-np.abs(x))[:10]
        labelled = 1 - ((y - x)[top] ** 2).sum() / ((x[top] - x[top].mean()) ** 2).sum()
        expected = f"$R^2$ = {r2:.2f}\nr = {np.corrcoef(x, y)[0, 1]:.2f}\n$R^2$ = {labelled:.2f} (labelled)"
        assert expected in texts
        assert r2 < np.corrcoef(x, y)[0, 1] ** 2 - 0.05  # the share of variance that a correlation would flatter
        assert ax.get_title() == "A"
        assert ax.get_xlim() == ax.get_ylim()

    def test_labels_are_the_largest_measured_shifts_and_do_not_overlap(self, cells: dict[str, Any]) -> None:
        ax = pl.mean_expression(**cells, n_labels=7)
        x, _ = shifts(cells)
        labels = {text.get_text().strip(): text for text in ax.texts if "gene" in text.get_text()}
        assert set(labels) == {f"gene{i}" for i in np.argsort(-np.abs(x))[:7]}
        ax.figure.draw_without_rendering()
        boxes = sorted((text.get_window_extent() for text in labels.values()), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 + 1 for below, above in zip(boxes, boxes[1:], strict=False))
        assert not [text for text in pl.mean_expression(**cells, n_labels=0).texts if "gene" in text.get_text()]

    def test_labels_stay_beside_the_axes(self, cells: dict[str, Any]) -> None:
        ax = pl.mean_expression(cells["real"], cells["control"], cells["control"], n_labels=15)  # all at height 0
        heights = sorted(text.get_position()[1] for text in ax.texts if "gene" in text.get_text())
        low, high = ax.get_ylim()
        assert low < heights[0]
        assert heights[-1] < high
        np.testing.assert_allclose(np.diff(heights), 0.05 * (high - low))

    @pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
    def test_expression_in_a_file_is_refused(self, cells: dict[str, Any], tmp_path: Path, form: Any) -> None:
        cells["real"].X = form(cells["real"].X)
        cells["real"].write_h5ad(tmp_path / "real.h5ad")
        cells["real"] = anndata.read_h5ad(tmp_path / "real.h5ad", backed="r")
        with pytest.raises(TypeError, match=r"`real` must be in memory.*`real = real.to_memory\(\)`"):
            pl.mean_expression(**cells)
        cells["real"].file.close()

    def test_means(self, cells: dict[str, Any]) -> None:
        ax = pl.mean_expression(**cells, statistic="mean", n_labels=3)
        x, y = cells["real"].X.mean(0), cells["predicted"].X.mean(0)
        np.testing.assert_allclose(ax.collections[0].get_offsets(), np.stack([x, y], axis=1), atol=1e-12)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("Measured mean", "Predicted mean")
        labels = {text.get_text().strip() for text in ax.texts if "gene" in text.get_text()}
        assert labels == {f"gene{i}" for i in np.argsort(-np.abs(shifts(cells)[0]))[:3]}  # still the shifts
        with pytest.raises(ValueError, match="`statistic` must be 'shift' or 'mean', but found 'median'"):
            pl.mean_expression(**cells, statistic="median")

    def test_no_effect_has_no_correlation(self, cells: dict[str, Any]) -> None:
        ax = pl.mean_expression(cells["real"], cells["control"], cells["control"], n_labels=0)
        assert "r = undefined" in ax.texts[0].get_text()
        ax = pl.mean_expression(cells["control"], cells["real"], cells["control"], n_labels=0)
        assert "undefined (one value for all genes)" in ax.texts[0].get_text()

    def test_layers_and_sparse(self, cells: dict[str, Any]) -> None:
        expected = pl.mean_expression(**cells).collections[0].get_offsets()
        for name, adata in cells.items():
            adata.layers["log"] = sp.csr_matrix(adata.X)
            if name != "predicted":
                adata.X = None
        ax = pl.mean_expression(**cells, real_layer="log")
        np.testing.assert_allclose(ax.collections[0].get_offsets(), expected, atol=1e-12)


class TestEmbedding:
    def test_components_are_those_of_the_real_cells(self, cells: dict[str, Any]) -> None:
        ax = pl.embedding(**cells)
        pca = PCA(2, random_state=0).fit(np.concatenate([cells["control"].X, cells["real"].X]))
        drawn = ax.collections[0].get_offsets()
        colors = np.array([to_hex(color, keep_alpha=False) for color in ax.collections[0].get_facecolors()])
        for kind, name in (("control", "control"), ("observed", "real"), ("predicted", "predicted")):
            found = drawn[colors == COLORS[kind].lower()]
            expected = pca.transform(cells[name].X)
            np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-9)
        assert ax.get_aspect() == 1
        assert f"{pca.explained_variance_ratio_[0]:.0%}" in ax.get_xlabel()

    def test_legend_is_outside_with_fixed_colours(self, cells: dict[str, Any]) -> None:
        ax = pl.embedding(**cells)
        legend = ax.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["control", "observed", "predicted"]
        ax.figure.draw_without_rendering()
        assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
        assert len(set(COLORS.values())) == 3

    def test_subsampling_is_seeded(self, cells: dict[str, Any]) -> None:
        one, again, other = (
            pl.embedding(**cells, max_cells=20, seed=seed).collections[0].get_offsets() for seed in (0, 0, 1)
        )
        assert len(one) == 60
        np.testing.assert_array_equal(one, again)
        assert not np.allclose(one, other)

    def test_sparse_equals_dense(self, cells: dict[str, Any]) -> None:
        expected = pl.embedding(**cells).collections[0].get_offsets()
        for adata in cells.values():
            adata.X = sp.csr_matrix(adata.X)
        np.testing.assert_allclose(pl.embedding(**cells).collections[0].get_offsets(), expected, atol=1e-9)

    def test_too_few_cells_or_genes(self, cells: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="at least 2 genes and 3 real cells, but found 1 genes"):
            pl.embedding(**{name: adata[:, :1] for name, adata in cells.items()})


@pytest.mark.parametrize("plot", [pl.mean_expression, pl.embedding])
class TestBoth:
    def test_draws_on_the_axes_of_the_user(self, plot: Any, cells: dict[str, Any]) -> None:
        _, axes = plt.subplots(1, 2)
        assert plot(**cells, ax=axes[1]) is axes[1]
        assert not axes[0].has_data()
        assert len(plt.get_fignums()) == 1

    def test_saves_and_never_shows(
        self, plot: Any, cells: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plt, "show", lambda: pytest.fail("show was called"))
        plot(**cells, save=tmp_path / "plot.png")
        with pytest.raises(pytest.fail.Exception):
            plot(**cells, show=True)
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    def test_errors(self, plot: Any, cells: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="`predicted` does not have the genes of `real` in the same order"):
            plot(**cells | {"predicted": cells["predicted"][:, ::-1]})
        with pytest.raises(KeyError, match="No layer 'log' in `predicted`"):
            plot(**cells, predicted_layer="log")
        with pytest.raises(ValueError, match="`control` holds 0 cells"):
            plot(**cells | {"control": cells["control"][:0]})
