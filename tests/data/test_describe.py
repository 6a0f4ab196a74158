from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pertcast.baselines import NoEffect
from pertcast.data import ConditionIndex
from pertcast.data._describe import describe_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def model(make_screen: Callable[..., Any]) -> Any:
    adata = make_screen()
    NoEffect.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    return NoEffect(adata)


def test_the_text_of_a_model_counts_what_was_registered(model: Any) -> None:
    obs = model.adata.obs
    text = " ".join(repr(model).split())
    assert text == str(model).replace("\n  ", " ").replace("\n", " ")
    assert "NoEffect" in text
    assert "Training status: Not Trained" in text
    found = re.search(
        r"Registered: ([\d,]+) cells x (\d+) genes; (\d+) control cells; (\d+) conditions of (\d+) perturbations in "
        r"(\d+) contexts and (\d+) batches",
        text,
    )
    assert found is not None, text
    merged = obs["perturbation"].astype(str).replace("B/x+A", "A+B/x")
    is_control = merged == "control"
    conditions = obs.assign(perturbation=merged)[~is_control][["perturbation", "cell_type", "donor"]].drop_duplicates()
    counts = [len(obs), model.adata.n_vars, is_control.sum(), len(conditions), 3, 3, 3]
    assert [int(number) for number in found.groups()] == counts
    model.train()
    assert "Training status: Trained" in repr(model)


def test_a_model_without_data_says_so(model: Any, tmp_path: Path) -> None:
    model.train()
    model.save(tmp_path / "saved")
    text = repr(NoEffect.load(tmp_path / "saved"))
    assert "No data attached; registered: 12 genes; 3 perturbations, 3 cell types and 3 batches" in text


def test_skipped_conditions_are_named_with_their_cells() -> None:
    codes = [0] * 4 + [1] * 5 + [2]
    with pytest.warns(UserWarning, match="skipped"):
        index = ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=3)
    first, second = describe_index(index, n_genes=1).splitlines()
    assert first.endswith("10 cells x 1 gene; 4 control cells; 1 condition of 1 perturbation in 1 context and 1 batch")
    assert second == "Skipped for too few cells: 1 condition: 'B (1)'"


def test_the_warning_of_skipped_conditions_names_the_line_of_the_user() -> None:
    with pytest.warns(UserWarning, match="are skipped") as caught:
        ConditionIndex.from_codes(np.r_[[0] * 4, [1] * 5, 2], ["control", "A", "B"], min_cells=3)
    assert caught[0].filename == __file__
