from __future__ import annotations

import logging

import numpy as np
import pytest

from pertcast.data import ConditionIndex, MatchLevel, match_controls


def index_of(cells: list[tuple[str, str, str, int]]) -> ConditionIndex:
    """Index of (perturbation, context, batch, number of cells) rows, in random order of cells."""
    expanded = [row[:3] for row in cells for _ in range(row[3])]
    expanded = [expanded[i] for i in np.random.default_rng(0).permutation(len(expanded))]
    columns = list(zip(*expanded, strict=True))
    tables = [sorted(set(column)) for column in columns]
    codes = [[table.index(value) for value in column] for table, column in zip(tables, columns, strict=True)]
    return ConditionIndex.from_codes(
        codes[0], tables[0], context=codes[1], context_names=tables[1], batch=codes[2], batch_names=tables[2]
    )


def rows_of_controls(index: ConditionIndex, context: str | None = None, batch: str | None = None) -> np.ndarray:
    """Control rows by a scan over the conditions."""
    frame = index.to_frame()
    keep = frame["is_control"]
    keep &= True if context is None else frame["context"] == context
    keep &= True if batch is None else frame["batch"] == batch
    return np.sort(index.groups.select(np.flatnonzero(keep)).all_rows())


@pytest.fixture
def index() -> ConditionIndex:
    """Context x: enough controls in b1, few in b2; context y: few, all in b1; context z: none."""
    return index_of(
        [
            ("control", "x", "b1", 9),
            ("control", "x", "b2", 2),
            ("control", "y", "b1", 3),
            ("A", "x", "b1", 4),
            ("A", "x", "b2", 4),
            ("A", "x", "b3", 4),
            ("A", "y", "b1", 4),
            ("A", "z", "b1", 4),
        ]
    )


def condition(index: ConditionIndex, context: str, batch: str) -> int:
    frame = index.to_frame()
    return int(np.flatnonzero(~frame["is_control"] & (frame["context"] == context) & (frame["batch"] == batch))[0])


@pytest.mark.parametrize(
    ("context", "batch", "level", "from_context", "from_batch"),
    [
        ("x", "b1", MatchLevel.CONTEXT_BATCH, "x", "b1"),  # enough in its own batch
        ("x", "b2", MatchLevel.CONTEXT, "x", None),  # 2 < 5, so all 11 of the context
        ("x", "b3", MatchLevel.CONTEXT, "x", None),  # none in its batch
        ("y", "b1", MatchLevel.CONTEXT_BATCH, "y", "b1"),  # few, but there are no others
        ("z", "b1", MatchLevel.BATCH, None, "b1"),  # none in its context
    ],
)
def test_levels(
    index: ConditionIndex, context: str, batch: str, level: MatchLevel, from_context: str | None, from_batch: str | None
) -> None:
    matched = match_controls(index, min_controls=5)
    found = condition(index, context, batch)
    assert matched.level[found] == level
    np.testing.assert_array_equal(np.sort(matched.rows(found)), rows_of_controls(index, from_context, from_batch))


def test_min_controls_of_one_takes_the_own_batch(index: ConditionIndex) -> None:
    matched = match_controls(index, min_controls=1)
    assert matched.level[condition(index, "x", "b2")] == MatchLevel.CONTEXT_BATCH
    assert len(matched.rows(condition(index, "x", "b2"))) == 2


def test_groups_are_shared_and_rows_are_not_copied() -> None:
    perturbed = [(f"P{i}", context, "b1", 2) for i in range(50) for context in "xy"]
    index = index_of([("control", "x", "b1", 10), ("control", "y", "b1", 10), *perturbed])
    matched = match_controls(index)
    assert len(matched.groups) == 2
    assert np.shares_memory(matched.groups.order, index.order)
    assert len(matched.groups.order) == 20


def test_unusable_controls_are_left_out(index: ConditionIndex) -> None:
    usable = np.ones(index.n_cells.sum(), dtype=bool)
    usable[rows_of_controls(index, "x", "b1")] = False
    matched = match_controls(index, usable=usable)
    found = condition(index, "x", "b1")
    np.testing.assert_array_equal(np.sort(matched.rows(found)), rows_of_controls(index, "x", "b2"))
    every = np.concatenate([matched.rows(c) for c in index.perturbed])
    assert usable[every].all()


def test_only_the_conditions_asked_for_are_matched(index: ConditionIndex) -> None:
    wanted = condition(index, "x", "b1")
    matched = match_controls(index, conditions=[wanted])
    assert matched.group[wanted] == 0
    assert (np.delete(matched.group, wanted) == -1).all()
    with pytest.raises(KeyError, match="No controls were matched"):
        matched.rows(condition(index, "y", "b1"))


def test_controls_can_be_matched_to_themselves(index: ConditionIndex) -> None:
    matched = match_controls(index, conditions=np.flatnonzero(index.is_control), min_controls=1)
    for control in np.flatnonzero(index.is_control):
        np.testing.assert_array_equal(matched.rows(control), index.rows(control))


def test_context_without_controls_is_an_error_that_names_it() -> None:
    index = index_of([("control", "x", "b1", 9), ("A", "x", "b1", 4), ("A", "lonely", "b2", 4)])
    with pytest.raises(ValueError, match=r"context\(s\) 'lonely'.*batch\(es\) 'b2'.*Add control cells"):
        match_controls(index)


def test_one_batch_of_all_cells_is_no_match() -> None:
    index = index_of([("control", "x", "b", 9), ("A", "x", "b", 4), ("A", "lonely", "b", 4)])
    with pytest.raises(ValueError, match=r"context\(s\) 'lonely': there are none in the context\. Add"):
        match_controls(index)


@pytest.mark.parametrize(("min_controls", "level"), [(4, 0), (5, 0), (6, 1)])
def test_min_controls_is_enough(min_controls: int, level: int) -> None:
    index = index_of([("control", "x", "b1", 5), ("control", "x", "b2", 5), ("A", "x", "b1", 4)])
    matched = match_controls(index, min_controls=min_controls)
    assert matched.level[condition(index, "x", "b1")] == level


def test_no_controls_at_all() -> None:
    with pytest.raises(ValueError, match=r"context\(s\) 'x'"):
        match_controls(index_of([("A", "x", "b1", 4)]))


def test_one_line_says_which_levels_were_used(index: ConditionIndex, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pertcast"):
        match_controls(index)
        match_controls(index, log=False)
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert (
        "5 conditions: 2 from the same context and batch, 2 from the same context in any batch, 1 from" in caplog.text
    )
    assert "'A | z | b1'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="pertcast"):
        match_controls(index, conditions=[condition(index, "x", "b1")])
    assert caplog.records[0].levelno == logging.INFO


def test_repr_counts(index: ConditionIndex) -> None:
    assert repr(match_controls(index)) == "MatchedControls[n_groups=4, context_batch=2, context=2, batch=1]"
