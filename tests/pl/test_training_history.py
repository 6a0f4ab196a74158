from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pertcast import pl as plots

pl: Any = plots


@pytest.fixture
def history() -> dict[str, pd.DataFrame]:
    curves = {"train_loss": [3.0, 2.0, 1.0, 0.5], "validation_loss": [3.0, 1.5, 1.25, 2.0], "mse_train": [9.0] * 4}
    return {name: pd.DataFrame({name: values}) for name, values in curves.items()}


def test_draws_both_curves_and_marks_the_lowest(history: dict[str, pd.DataFrame]) -> None:
    ax = pl.training_history(SimpleNamespace(history=history))
    training, validation = ax.get_lines()
    np.testing.assert_array_equal(training.get_ydata(), [3.0, 2.0, 1.0, 0.5])
    np.testing.assert_array_equal(validation.get_xdata(), [0, 1, 2, 3])
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[2, 1.25]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation", "lowest: 1.25"]


def test_other_metrics_and_missing_validation(history: dict[str, pd.DataFrame]) -> None:
    ax = pl.training_history(history, "mse")
    assert [line.get_label() for line in ax.get_lines()] == ["training"]
    assert ax.get_ylabel() == "mse"
    assert not ax.collections


def test_epochs_without_validation_are_left_out(history: dict[str, pd.DataFrame]) -> None:
    history["validation_loss"].iloc[2] = np.nan
    ax = pl.training_history(history)
    np.testing.assert_array_equal(ax.get_lines()[1].get_xdata(), [0, 1, 3])
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[1, 1.5]])


def test_errors(history: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match="'kl' was not logged. There are 'loss' and 'mse'"):
        pl.training_history(history, "kl")
    with pytest.raises(ValueError, match="train the model first"):
        pl.training_history(SimpleNamespace(history=None))
    with pytest.raises(ValueError, match="training logged nothing. Train without `logger=False`"):
        pl.training_history(SimpleNamespace(history={}))
