"""Errors of forecasts that a trained model reports of its own conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import pertcast as pc

if TYPE_CHECKING:
    from pathlib import Path

STEPS: dict[str, Any] = {"max_epochs": 1, "steps_per_epoch": 2, "enable_progress_bar": False}
SETUP = {"cell_type_key": "cell_type", "batch_key": "donor"}


def trained(screen: Any, **options: Any) -> pc.PerturbDiff:
    pc.PerturbDiff.setup_anndata(screen, **SETUP)
    model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, n_heads=2, seed=0, **options)
    model.train(**STEPS)
    return model


def test_every_condition_is_left_out_with_its_context(screen: Any, tmp_path: Path) -> None:
    model = trained(screen)
    errors = model.get_forecast_errors()
    index = model.screen.index
    here = errors[errors["left_out"] == "context"]
    assert len(here) == len(index.perturbed)
    assert set(here["perturbation"]) == {name for name in index.perturbation_names if name != "control"}
    assert "batch" not in set(errors["left_out"])  # of two donors
    first = errors.iloc[0]
    cells = screen.obs[[*SETUP.values()]].eq([first["context"], first["batch"]]).all(axis=1)
    for column, name in (("n_cells", first["perturbation"]), ("n_controls", "control")):
        assert first[column] == (cells & (screen.obs["perturbation"] == name)).sum()
    assert errors["dosage"].isna().all()

    model.save(str(tmp_path / "model"))
    again = pc.PerturbDiff.load(str(tmp_path / "model"))
    pd.testing.assert_frame_equal(again.get_forecast_errors(), errors)


def test_what_is_left_out_is_forecast_like_what_is_held_out(screen: Any) -> None:
    """The squared shift of a condition is that of its cells, without the noise that their number tells."""
    model = trained(screen)
    errors = model.get_forecast_errors().query("left_out == 'context'")
    measured = []
    for row in errors.itertuples():
        here = (screen.obs["cell_type"] == row.context) & (screen.obs["donor"] == row.batch)
        cells, controls = (
            screen[(here & (screen.obs["perturbation"] == name)).to_numpy()].X.toarray().astype(float)
            for name in (row.perturbation, "control")
        )
        noise = cells.var(axis=0, ddof=1).sum() / len(cells)
        measured.append(np.square(cells.mean(axis=0) - controls.mean(axis=0)).sum() - noise)
    np.testing.assert_allclose(errors["squared_shift"].sum(), np.sum(measured), rtol=0.05)
    assert np.corrcoef(errors["squared_shift"], measured)[0, 1] > 0.95


def test_without_an_anchor_there_are_none(screen: Any) -> None:
    with pytest.raises(ValueError, match=r"This PerturbDiff has no anchor.*pc.tl.benchmark"):
        trained(screen, anchor="none").get_forecast_errors()
    pc.PerturbDiff.setup_anndata(screen, **SETUP)
    with pytest.raises(RuntimeError, match=r"Call `model.train\(\)` first"):
        pc.PerturbDiff(screen).get_forecast_errors()


def test_dosages_are_told() -> None:
    options = {"n_genes": 30, "n_donors": 1, "n_batches": 1, "combinations": 0, "seed": 0}
    screen = pc.data.simulate_screen(10, n_cell_types=3, n_perturbations=2, dosages=[0.1, 10.0], **options)
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", dosage_key="dosage")
    model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, n_heads=2, seed=0)
    model.train(**STEPS)
    errors = model.get_forecast_errors().query("left_out == 'context'")
    rows = errors[["perturbation", "dosage", "context"]].value_counts()
    assert rows.to_dict() == {(f"pert_{p}", d, f"type_{t}"): 1 for p in range(2) for d in (0.1, 10.0) for t in range(3)}
    assert set(errors["batch"]) == {"all"}
