from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

from pertcast.baselines import AdditiveShift, ContextMean, MatchingMean, PerturbationShift, PerturbedMean

if TYPE_CHECKING:
    from pertcast.baselines._base import Baseline

SCREEN = {
    ("control", "T"): [0.0, 2.0],
    ("control", "NK"): [5.0, 5.0, 5.0, 5.0],
    ("A", "T"): [2.0, 4.0],
    ("B", "T"): [10.0],
    ("A", "NK"): [7.0, 6.0, 8.0, 7.0],
    ("A+C", "NK"): [1.0, 1.0],
    ("D", "NK"): [2.0, 3.0, 1.0],
}
"""Value of each cell of a perturbation in a cell type."""


def genes(value: float | np.ndarray) -> np.ndarray:
    """Expression of two genes, linear in a value, so that means of values are means of expression."""
    return np.stack([0.25 * np.asarray(value) + 0.1, 5 - 0.125 * np.asarray(value)], axis=-1)


def screen_of(values: dict[tuple[str, str], list[float]]) -> Any:
    rows = [(name, cell_type, value) for (name, cell_type), cells in values.items() for value in cells]
    obs = pd.DataFrame([row[:2] for row in rows], columns=["perturbation", "cell_type"])
    obs.index = [f"cell{i}" for i in range(len(rows))]
    return anndata.AnnData(
        genes(np.array([row[2] for row in rows])), obs=obs, var=pd.DataFrame(index=["gene1", "gene2"])
    )


@pytest.fixture
def predict(fit: Any) -> Any:
    """Predict a perturbation from controls with given values, with a baseline that was trained on the screen."""

    def mean_of(
        cls: type[Baseline], name: str, cell_type: str, controls: list[float] | None = None, **arguments: Any
    ) -> np.ndarray:
        model = fit(cls, screen_of(SCREEN), setup={"batch_key": None}, **arguments)
        cells = screen_of({("control", cell_type): controls or SCREEN["control", cell_type]})
        return model.predict(cells, [name], progressbar=False).X

    return mean_of


def test_perturbed_mean_weighs_conditions_equally(predict: Any) -> None:
    expected = np.mean([3, 10, 7, 1, 2])
    for name, cell_type in (("A", "T"), ("D", "NK"), ("B+D", "T")):
        cells = predict(PerturbedMean, name, cell_type)
        np.testing.assert_allclose(cells, np.broadcast_to(genes(expected), cells.shape), rtol=1e-6)


def test_context_mean_is_the_mean_over_perturbations_of_the_context(predict: Any) -> None:
    for name in ("A", "D"):
        np.testing.assert_allclose(predict(ContextMean, name, "T"), [genes(6.5)] * 2, rtol=1e-6)
        np.testing.assert_allclose(predict(ContextMean, name, "NK"), [genes(10 / 3)] * 4, rtol=1e-6)


def test_context_mean_of_a_new_context_adds_the_mean_shift(predict: Any, caplog: pytest.LogCaptureFixture) -> None:
    mean_shift = np.mean([3 - 1, 10 - 1, 7 - 5, 1 - 5, 2 - 5])
    with caplog.at_level(logging.WARNING, logger="pertcast"):
        cells = predict(ContextMean, "A", "B", controls=[1.0, 3.0, 5.0])
    np.testing.assert_allclose(cells, [genes(3 + mean_shift)] * 3, rtol=1e-6)
    assert caplog.text.count("No perturbed cells of the context 'B' were trained on") == 1


def test_matching_mean_averages_the_conditions_that_share_a_part(predict: Any) -> None:
    for name, cell_type, expected in (
        ("A+B", "T", np.mean([3, 10])),
        ("A+B", "NK", np.mean([7, 1])),
        ("C+D", "NK", np.mean([1, 2])),
        ("C+D", "T", np.mean([1, 2])),
        ("A+C", "NK", np.mean([7, 1])),
        ("A", "T", np.mean([3, 7])),
        ("B", "NK", 10),
    ):
        cells = predict(MatchingMean, name, cell_type)
        np.testing.assert_allclose(cells, np.broadcast_to(genes(expected), cells.shape), rtol=1e-6)
    elsewhere = predict(MatchingMean, "A+B", "B", controls=[1.0])
    np.testing.assert_allclose(elsewhere, [genes(np.mean([3, 10, 7, 1]))], rtol=1e-6)


def test_matching_mean_refuses_what_nothing_matches(predict: Any, fit: Any) -> None:
    with pytest.raises(ValueError, match="MatchingMean knows no mean of 'C': no training condition holds it"):
        predict(MatchingMean, "C", "NK")
    with pytest.raises(ValueError, match="Unknown perturbation 'Z'"):
        predict(MatchingMean, "A+Z", "NK")
    adata = screen_of(SCREEN)
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(["B", "D"]), "test", "train")
    model = fit(MatchingMean, adata, setup={"batch_key": None, "split_key": "split"})
    with pytest.raises(ValueError, match=r"knows no mean of 'B', 'D' \(of 'B\+D'\)"):
        model.predict(perturbations=["B+D"], progressbar=False)


def test_matching_mean_keeps_dosages_apart(make_screen: Any, fit: Any, controls_of: Any) -> None:
    adata = make_screen(dosages=(1.0, 0.5))
    model = fit(MatchingMean, adata, setup={"dosage_key": "dose"})
    controls = controls_of(adata, "T")
    for name in ("A", "A+B"):
        chosen = adata.obs["perturbation"].isin(name.split("+")) & (adata.obs["dose"] == 0.5)
        chosen &= (adata.obs["cell_type"] == "T") | (name == "A")
        found = model.predict(controls, [name], dosages=0.5, progressbar=False).X
        expected = adata[chosen].X.mean(axis=0)  # all conditions have the same number of cells
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5)
    for asked, nearest in ((2, 1.0), (0.6, 0.5)):
        found, expected = (
            model.predict(controls, ["A+B"], dosages=each, progressbar=False).X for each in (asked, nearest)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cls", [PerturbedMean, ContextMean, MatchingMean])
@pytest.mark.parametrize("controls", [None, [1.0, 3.0, 8.0]])
def test_residuals_keep_the_mean_and_the_differences_between_cells(
    predict: Any, cls: type[Baseline], controls: list[float] | None
) -> None:
    cell_type, name = ("T", "A") if controls is None else ("B", "A+B")
    point = predict(cls, name, cell_type, controls)
    kept = predict(cls, name, cell_type, controls, residuals=True)
    cells = genes(np.array(controls or SCREEN["control", cell_type]))
    np.testing.assert_allclose(kept.mean(axis=0), point[0], rtol=1e-5)
    np.testing.assert_allclose(kept - kept[0], cells - cells[0], atol=1e-5)


def test_additive_shift_adds_singles_of_the_same_context(predict: Any) -> None:
    cells = {cell_type: np.array(SCREEN["control", cell_type]) for cell_type in ("T", "NK")}
    # A shifts by 2 in T and by 2 in NK, B by 9 in T alone, D by -3 in NK alone.
    for name, cell_type, shift in (("A+B", "T", 11), ("A+D", "T", -1), ("A+D", "NK", -1), ("B+D", "NK", 6)):
        np.testing.assert_allclose(predict(AdditiveShift, name, cell_type), genes(cells[cell_type] + shift), atol=1e-5)
    with pytest.raises(ValueError, match=r"AdditiveShift knows no shift of 'C' \(of 'A\+C'\)"):
        predict(AdditiveShift, "A+C", "NK")


def test_additive_shift_prefers_its_context_and_ignores_measured_combinations(
    make_screen: Any, true_shift: Any, fit: Any, controls_of: Any, shift_in: Any
) -> None:
    adata = make_screen()
    combined = adata[adata.obs["perturbation"] == "B"].copy()
    combined.obs["perturbation"] = "A+B"
    combined.obs_names = [f"both-{name}" for name in combined.obs_names]
    adata = anndata.concat([adata, combined])
    model = fit(AdditiveShift, adata)
    for cell_type in ("T", "NK"):
        controls = controls_of(adata, cell_type)
        single = {name: 0.75 * true_shift(name, cell_type, "d1") for name in ("A", "B")}
        single["B"] = 0.75 * true_shift("B", cell_type, "d1")
        for name, expected in (("A", single["A"]), ("A+B", single["A"] + single["B"])):
            found = shift_in(model.predict(controls, [name], progressbar=False), controls)
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_additive_shift_in_a_new_context_is_the_perturbation_shift(
    make_screen: Any, fit: Any, controls_of: Any
) -> None:
    adata = make_screen()
    controls, training = controls_of(adata, "NK"), adata[adata.obs["cell_type"] != "NK"]
    first, second = (
        fit(cls, training).predict(controls, ["A", "A+B"], progressbar=False).X
        for cls in (AdditiveShift, PerturbationShift)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)
