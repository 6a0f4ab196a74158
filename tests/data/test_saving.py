from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from pertcast.baselines import NoEffect, PerturbationShift

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def model(make_screen: Callable[..., Any]) -> Any:
    adata = make_screen()
    PerturbationShift.setup_anndata(adata, cell_type_key="cell_type")
    model = PerturbationShift(adata)
    model.train()
    return model


def test_a_model_without_its_data_predicts_from_given_controls(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    again: Any = PerturbationShift.load(tmp_path / "saved")
    assert again.adata is None
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"model.pt"}
    controls = model.adata[(model.adata.obs["perturbation"] == "control").to_numpy()].copy()
    predicted = [each.predict(controls, "A", progressbar=False).X.toarray() for each in (model, again)]
    np.testing.assert_array_equal(*predicted)


def test_a_model_without_data_has_none_to_view(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="loaded without its training data, of which there is nothing to view"):
        PerturbationShift.load(tmp_path / "saved").view_anndata_setup()
    model.view_anndata_setup(hide_state_registries=True)
    assert "PerturbationShift.setup_anndata" in capsys.readouterr().out


def test_an_existing_folder_is_kept_unless_told(model: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    model.save(folder)
    before = (folder / "model.pt").read_bytes()
    with pytest.raises(ValueError, match=r"saved' exists.*overwrite=True"):
        model.save(folder)
    assert (folder / "model.pt").read_bytes() == before
    model.shifts_ = model.shifts_ + 1
    model.save(folder, overwrite=True)
    assert PerturbationShift.load(folder).shifts_ == pytest.approx(model.shifts_)


def test_arrays_take_no_more_room_in_a_file_than_in_memory(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "small")
    model.extra_ = np.random.default_rng(0).random(100_000)
    model.save(tmp_path / "large")
    small, large = ((tmp_path / name / "model.pt").stat().st_size for name in ("small", "large"))
    assert large - small == pytest.approx(model.extra_.nbytes, rel=0.01)
    np.testing.assert_array_equal(PerturbationShift.load(tmp_path / "large").extra_, model.extra_)
    model.save(tmp_path / "text", save_kwargs={"pickle_protocol": 2})  # an option of the user goes before
    assert (tmp_path / "text" / "model.pt").stat().st_size > 1.2 * large


def test_data_are_saved_on_request(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved", save_anndata=True)
    again: Any = PerturbationShift.load(tmp_path / "saved")
    assert again.adata.n_obs == model.adata.n_obs


def test_tables_that_cannot_be_written_are_told_before_anything_is_saved(model: Any, tmp_path: Path) -> None:
    model.adata.uns["vectors"] = pd.DataFrame([[0.0, 1.0]], index=["A"])
    with pytest.raises(ValueError, match=r"adata.uns\['vectors'\] are 0, 1, and.*columns.astype\(str\)"):
        model.save(tmp_path / "model", save_anndata=True)
    assert not (tmp_path / "model").exists()
    model.save(tmp_path / "model")
    model.adata.uns["vectors"].columns = model.adata.uns["vectors"].columns.astype(str)
    model.save(tmp_path / "model", overwrite=True, save_anndata=True)
    loaded: Any = PerturbationShift.load(tmp_path / "model")
    assert loaded.adata.uns["vectors"].shape == (1, 2)


def test_a_missing_model_is_named(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"no saved model in .*/save'.* no file model\.pt.*Did you mean 'saved'\?"):
        PerturbationShift.load(tmp_path / "save")
    with pytest.raises(ValueError, match="no file one_model"):
        PerturbationShift.load(tmp_path / "saved", prefix="one_")


def test_another_class_is_refused(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="different class"):
        NoEffect.load(tmp_path / "saved")
