from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from pertcast.data import ConditionIndex, RowGroups
from pertcast.data._codes import combine_codes, cross_codes
from pertcast.data._factors import ScreenFactors
from pertcast.data._groups import concatenate_ranges
from pertcast.data._labels import encode_labels

LABELS = ["A", "B+A", "control", "A+B", "B"]


@pytest.fixture
def cells() -> pd.DataFrame:
    """Random cells with three factors and a dosage."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "perturbation": rng.choice(LABELS, 500),
            "context": rng.choice(["y", "x"], 500),
            "batch": rng.choice(["b1", "b0", "b2"], 500),
            "dosage": rng.choice([0.5, 2.0], 500),
        }
    )


def index_of(cells: pd.DataFrame, min_cells: int = 1) -> ConditionIndex:
    factors = ScreenFactors.from_columns(
        cells["perturbation"],
        "control",
        contexts={"context": cells["context"]},
        batch=cells["batch"],
        dosage=cells["dosage"],
    )
    return ConditionIndex.from_factors(factors, min_cells=min_cells)


def test_conditions_are_the_groups_of_pandas(cells: pd.DataFrame) -> None:
    index = index_of(cells)
    canonical = cells.assign(
        perturbation=cells["perturbation"].replace("B+A", "A+B"),
        dosage=cells["dosage"].where(cells["perturbation"] != "control", 0.0),
    )
    expected = canonical.groupby(["perturbation", "dosage", "context", "batch"]).indices
    frame = index.to_frame()
    found = {
        tuple(row): index.rows(condition)
        for condition, row in enumerate(frame[["perturbation", "dosage", "context", "batch"]].itertuples(index=False))
    }
    assert found.keys() == expected.keys()
    for key, rows in found.items():
        np.testing.assert_array_equal(rows, expected[key])


def test_every_row_occurs_once_and_rows_are_views(cells: pd.DataFrame) -> None:
    index = index_of(cells)
    np.testing.assert_array_equal(np.sort(index.groups.all_rows()), np.arange(len(cells)))
    assert index.order.dtype == np.int32
    assert index.rows(3).base is index.order
    assert index.n_cells.sum() == len(cells)


def test_controls_come_first_and_share_one_dosage(cells: pd.DataFrame) -> None:
    index = index_of(cells)
    n_controls = np.count_nonzero(index.is_control)
    assert n_controls == 6  # 2 contexts x 3 batches
    assert index.is_control[:n_controls].all()
    assert (index.dosage[:n_controls] == 0).all()
    assert set(index.dosage[n_controls:]) == {0.5, 2.0}


def test_order_of_cells_does_not_change_the_conditions(cells: pd.DataFrame) -> None:
    shuffled = cells.sample(frac=1, random_state=0)
    one, other = index_of(cells), index_of(shuffled.reset_index(drop=True))
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame())
    for condition in range(len(one)):
        np.testing.assert_array_equal(np.sort(shuffled.index[other.rows(condition)]), one.rows(condition))


def test_without_dosage_perturbed_cells_have_one() -> None:
    index = ConditionIndex.from_codes([0, 1, 2], ["control", "A", "B"])
    assert index.dosage.tolist() == [0, 1, 1]
    assert index.dosage.dtype == np.float32


def test_min_cells_skips_with_a_warning_that_names_them() -> None:
    codes = [0, 0, 1, 1, 1, 2]
    with pytest.warns(UserWarning, match=r"1 of 2 perturbed conditions have fewer than min_cells=2.*'B \(1\)'"):
        index = ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=2)
    assert [index.perturbation_names[code] for code in index.perturbation[index.perturbed]] == ["A"]
    assert repr(index) == "ConditionIndex[n_cells=6, n_conditions=1, n_contexts=1, n_controls=2, skipped=1]"
    with pytest.raises(ValueError, match=r"No perturbed condition has min_cells=4 cells; the largest has 3.*Lower"):
        ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=4)
    tested = np.array(codes) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=2, tested=tested)
    assert index.skipped.sum() == 1
    with pytest.raises(ValueError, match=r"No perturbed condition has min_cells=4 cells; the largest has 3"):
        ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=4, tested=tested)


def test_small_controls_are_not_skipped() -> None:
    index = ConditionIndex.from_codes([0, 1, 1], ["control", "A"], min_cells=2)
    assert not index.skipped.any()


def test_controls_alone_have_no_perturbed_condition() -> None:
    index = ConditionIndex.from_codes([0, 0], ["control"], min_cells=5)
    assert index.perturbed.size == 0
    assert len(index) == 1


def test_no_cells() -> None:
    index = ConditionIndex.from_codes(np.zeros(0, dtype=int), ["control"])
    assert len(index) == 0
    assert index.order.size == 0


def test_names_leave_out_what_does_not_vary(cells: pd.DataFrame) -> None:
    index = index_of(cells)
    last = index.names([len(index) - 1])[0]
    assert last == "B | 2 | y | b2"
    assert ConditionIndex.from_codes([0, 1], ["control", "A"]).names() == ["control", "A"]


def test_close_dosages_have_names_of_their_own() -> None:
    dosages = [1, 0.1, 10, 0.0001, 1234567, 1234568, 1234569, 0.12345678, 0.12345679, 1e-9, 3e10]
    codes = [1] * len(dosages)
    names = ConditionIndex.from_codes([0, *codes], ["control", "A"], dosage=[0, *dosages]).names()[1:]
    expected = {
        "1",
        "0.1",
        "10",
        "0.0001",
        "1234567",
        "1234568",
        "1234569",
        "0.12345678",
        "0.12345679",
        "1e-09",
        "3e+10",
    }
    assert set(names) == {f"A | {text}" for text in expected}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"perturbation": [0, 2]}, "perturbation codes run from 0 to 2, but there are 2 names"),
        ({"perturbation": [0, -1]}, "run from -1 .* negative code stands for a missing label"),
        ({"context": [0, 1]}, "context codes run from 0 to 1, but there are 1 names"),
        ({"batch": [0]}, "1 batch codes for 2 cells"),
        ({"dosage": [1.0]}, "1 dosages for 2 cells"),
        ({"dosage": [1.0, np.nan]}, "1 perturbed cells have no finite dosage"),
    ],
)
def test_bad_codes_are_errors(arguments: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionIndex.from_codes(**({"perturbation": [0, 1], "labels": ["control", "A"]} | arguments))  # type: ignore[arg-type]


def test_missing_dosage_of_controls_is_ignored() -> None:
    index = ConditionIndex.from_codes([0, 1], ["control", "A"], dosage=[np.nan, 3.0])
    assert index.dosage.tolist() == [0, 3]


def test_combined_codes_sort_like_their_factors_and_survive_overflow() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 5, 200) for _ in range(4)]
    expected = np.lexsort(columns[::-1])
    small = combine_codes([(codes, 5) for codes in columns])
    huge = combine_codes([(codes, 2**40) for codes in columns])
    np.testing.assert_array_equal(np.argsort(small, kind="stable"), expected)
    np.testing.assert_array_equal(np.argsort(huge, kind="stable"), expected)
    assert len(np.unique(huge)) == len(np.unique(np.stack(columns), axis=1).T)


def test_cross_codes_keep_only_combinations_with_cells() -> None:
    codes, names, table = cross_codes(
        {"type": (np.array([1, 0, 1]), ["B", "T"]), "sex": (np.array([0, 1, 0]), ["f", "m"])}, 3
    )
    assert names == ("B | m", "T | f")
    assert codes.tolist() == [1, 0, 1]
    assert table.to_dict("list") == {"type": ["B", "T"], "sex": ["m", "f"]}


@pytest.mark.parametrize("label", ["T | a", "T |", "| T", "|", " | "])
def test_cross_codes_refuse_labels_that_make_joined_names_ambiguous(label: str) -> None:
    codes = np.zeros(1, dtype=np.int32)
    assert cross_codes({"type": (codes, [label])}, 1)[1] == (label,)
    with pytest.raises(ValueError, match=r"Column 'type' holds the label .* several columns .*str\.replace"):
        cross_codes({"sex": (codes, ["f"]), "type": (codes, [label])}, 1)


def test_encode_labels_keeps_category_order_and_drops_unused() -> None:
    column = pd.Series(pd.Categorical(["z", "a", None], categories=["z", "unused", "a"]))
    codes, names = encode_labels(column)
    assert codes.tolist() == [0, 1, -1]
    assert names == ["z", "a"]
    assert encode_labels(pd.Series([1, 2, 1]), known=["2"])[1] == ["2", "1"]


def test_row_groups_match_slices() -> None:
    groups = RowGroups(np.array([5, 3, 8, 1]), start=np.array([0, 1, 1]), stop=np.array([2, 4, 1]))
    assert [groups.rows(i).tolist() for i in range(3)] == [[5, 3], [3, 8, 1], []]
    assert groups.sizes.tolist() == [2, 3, 0]
    assert groups.all_rows().tolist() == [5, 3, 3, 8, 1]
    assert groups.select([1, 0]).all_rows().tolist() == [3, 8, 1, 5, 3]


def test_concatenated_ranges_match_a_loop() -> None:
    rng = np.random.default_rng(0)
    start, length = rng.integers(0, 100, 50), rng.integers(0, 4, 50)
    expected = np.concatenate([np.arange(s, s + n) for s, n in zip(start, length, strict=True)])
    np.testing.assert_array_equal(concatenate_ranges(start, length), expected)
    assert concatenate_ranges(np.zeros(0, int), np.zeros(0, int)).size == 0


def test_index_needs_only_light_libraries() -> None:
    code = (
        "import sys\n"
        "from pertcast.data import ConditionIndex, PerturbationVocabulary, match_controls, split_conditions\n"
        "sys.exit(' '.join({'torch', 'lightning', 'scvi', 'scanpy', 'anndata'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == ""
