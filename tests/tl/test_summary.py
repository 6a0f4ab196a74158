from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import pertcast as pc

if TYPE_CHECKING:
    from pathlib import Path


def table(values: dict[str, list[float]], metric: str = "energy_distance") -> pd.DataFrame:
    """One row for each model and condition; roles follow from names."""
    roles = {"ceiling": "ceiling", "shift": "baseline", "control": "baseline"}
    rows = [
        {
            "task": "t",
            "condition": f"c{i}",
            "model": name,
            "role": roles.get(name, "model"),
            "metric": metric,
            "value": v,
        }
        for name, column in values.items()
        for i, v in enumerate(column)
    ]
    return pd.DataFrame(rows)


def summary(values: dict[str, list[float]], metric: str = "energy_distance", **options: Any) -> Any:
    return pc.tl.summarize(table(values, metric), **options).set_index("model")


def test_share_of_the_gap() -> None:
    found = summary({"control": [4, 6], "shift": [2, 4], "mine": [1, 3], "worse": [5, 7], "ceiling": [0, 2]})
    assert found["mean"].to_dict() == {"control": 5, "shift": 3, "mine": 2, "worse": 6, "ceiling": 1}
    assert found["normalised"].to_dict() == {"control": -1, "shift": 0, "mine": 0.5, "worse": -1.5, "ceiling": 1}


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("shift_pearson", {"shift": [0.4], "mine": [0.7], "ceiling": [1.0]}, 0.5),
        ("variance_ratio", {"shift": [0.25], "mine": [2.0], "ceiling": [1.0]}, 0.5),
        ("de_calibration", {"shift": [-2.0], "mine": [0.5], "ceiling": [0.0]}, 0.75),
    ],
)
def test_direction_of_metrics(metric: str, values: dict[str, list[float]], expected: float) -> None:
    assert summary(values, metric).loc["mine", "normalised"] == pytest.approx(expected)


def test_losses_are_means_of_distances() -> None:
    values = {"shift": [-1.0, 1.0, np.nan], "mine": [0.5, -0.1, 0.3]}
    assert summary(values, "de_calibration")["loss"].to_dict() == pytest.approx({"shift": 1.0, "mine": 0.3})
    assert summary({"mine": [2.0, 0.5]}, "variance_ratio").loc["mine", "loss"] == pytest.approx(np.log(2))
    assert summary({"mine": [0.2, 0.4]}, "shift_pearson").loc["mine", "loss"] == pytest.approx(-0.3)
    assert summary({"mine": [0.2, 0.4]}, "energy_distance").loc["mine", "loss"] == pytest.approx(0.3)
    assert np.isnan(summary({"mine": [0.2]}, "my_metric").loc["mine", "loss"])


def test_intervals_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 400)
    found = summary({"shift": list(values + 1), "mine": list(values), "ceiling": [0.0] * 400}, n_bootstrap=4000)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert found.loc["mine", "low"] == pytest.approx(values.mean() - half_width, abs=0.03)
    assert found.loc["mine", "high"] == pytest.approx(values.mean() + half_width, abs=0.03)
    assert found.loc["mine", "normalised_low"] < found.loc["mine", "normalised"] < found.loc["mine", "normalised_high"]
    assert found.loc["mine", "normalised"] == pytest.approx(1 / (1 + values.mean()))


def test_undefined_values_are_left_out_and_said() -> None:
    found = summary({"control": [np.nan, 4], "shift": [3, np.nan], "mine": [1, 2], "ceiling": [0, 0]})
    assert found["n_conditions"].to_dict() == {"control": 1, "shift": 1, "mine": 2, "ceiling": 2}
    assert np.isnan(found.loc["mine", "normalised"])
    assert found.loc["mine", "reason"] == "no baseline is defined on the same conditions"
    assert found.loc["control", "normalised"] == 0
    errors = summary({"shift": [2.0], "mine": [0.5], "ceiling": [0.1]}, "mean_absolute_error")
    assert "number of cells" in errors.loc["mine", "reason"]
    at_ceiling = summary({"shift": [0.0], "mine": [0.5], "ceiling": [0.1]})
    assert at_ceiling.loc["mine", "reason"] == "the best baseline cannot be told from the noise ceiling"
    assert "no noise ceiling" in summary({"shift": [1.0], "mine": [0.5]}).loc["mine", "reason"]


def test_there_is_a_text_for_every_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summary({"control": [4.0, 5], "shift": [3.0, 2], "mine": [1.0, 2], "ceiling": [0.0, 0.5]})
    assert found["reason"].tolist() == [""] * 4
    assert set(summary({"shift": [np.nan], "ceiling": [np.nan]})["reason"]) == {"not defined"}


def test_baselines_and_order_of_rows_do_not_matter() -> None:
    values = {"control": [4.0, 6, 5], "shift": [2.0, 4, 6], "mine": [1.0, 3, 2], "ceiling": [0.0, 1, 0.5]}
    rows = table(values)
    first = pc.tl.summarize(rows)
    second = pc.tl.summarize(rows.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(first, second)


def test_a_table_without_a_task_can_be_stored(tmp_path: Path) -> None:
    scores = table({"mine": [1.0, 2.0], "ceiling": [0.0, 0.5]}).assign(task="")
    scores.to_csv(tmp_path / "scores.csv", index=False)
    stored = pd.read_csv(tmp_path / "scores.csv")
    expected = pc.tl.summarize(scores)
    assert len(expected) == 2
    for each in (stored, stored.astype({"task": "category"})):
        pd.testing.assert_frame_equal(pc.tl.summarize(each), expected, check_dtype=False)


def test_bad_tables() -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \['role'\]"):
        pc.tl.summarize(table({"mine": [1.0]}).drop(columns="role"))
    with pytest.raises(ValueError, match="confidence"):
        pc.tl.summarize(table({"mine": [1.0]}), confidence=1.0)
