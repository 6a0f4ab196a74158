from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest

from pertcast.data import ConditionIndex, ConditionSplit, split_conditions
from pertcast.data._grammar import parse_perturbation
from pertcast.data._holdout import Remainder, unit_labels
from pertcast.data._split import Part, read_split_labels


def index_of(conditions: list[tuple[str, str, str]], n_cells: int = 3, seed: int | None = None) -> ConditionIndex:
    """Index with the same number of cells in each (perturbation, context, batch) and controls everywhere."""
    places = sorted({condition[1:] for condition in conditions})
    cells = [*(("control", *place) for place in places), *conditions] * n_cells
    tables = [sorted(set(column)) for column in zip(*cells, strict=True)]
    if seed is not None:
        rng = np.random.default_rng(seed)
        cells = [cells[i] for i in rng.permutation(len(cells))]
        tables = [[table[i] for i in rng.permutation(len(table))] for table in tables]
    codes = [[table.index(cell[i]) for cell in cells] for i, table in enumerate(tables)]
    return ConditionIndex.from_codes(
        codes[0], tables[0], context=codes[1], context_names=tables[1], batch=codes[2], batch_names=tables[2]
    )


def grid(perturbations: str, contexts: str, batches: str = "b") -> list[tuple[str, str, str]]:
    return list(itertools.product(perturbations.split(), contexts.split(), batches.split()))


def parts_of(index: ConditionIndex, conditions: np.ndarray) -> set[str]:
    names = [index.perturbation_names[code] for code in index.perturbation[conditions]]
    return {part for name in names for part in parse_perturbation(name)}


def assert_partition(index: ConditionIndex, split: ConditionSplit) -> None:
    together = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(together), index.perturbed)


@pytest.mark.parametrize(
    ("conditions", "kind", "attribute"),
    [
        (grid("A B", "x y z w", "b1 b2 b3"), "context", "context"),
        (grid("A B", "x y", "b1 b2 b3"), "batch", "batch"),
        (grid("A B C D A+B A+C A+D B+C C+D", "x"), "combination", "perturbation"),
    ],
)
def test_auto_holds_out_whole_units(conditions: list[tuple[str, str, str]], kind: str, attribute: str) -> None:
    index = index_of(conditions)
    split = split_conditions(index, validation_size=0.1)
    assert_partition(index, split)
    assert split.kind == kind
    assert len(split.held_out) == 1
    codes = getattr(index, attribute)
    assert set(codes[split.validation]).isdisjoint(codes[split.train])
    names = {index.names([condition])[0] for condition in split.validation}
    assert all(split.held_out[0] in name.split(" | ") for name in names)


def test_share_of_units() -> None:
    index = index_of(grid("A B", " ".join(f"c{i}" for i in range(20))))
    assert len(split_conditions(index, validation_size=0.3).held_out) == 6
    assert len(split_conditions(index, validation_size=0.99).held_out) == 19


def test_auto_holds_out_conditions_where_perturbations_cannot_be_missing() -> None:
    index = index_of(grid("A B C D", "x y"))
    split = split_conditions(index)
    assert split.kind == "condition"
    assert len(split.validation) == 1
    assert parts_of(index, split.train) == {"A", "B", "C", "D"}


def test_auto_holds_out_perturbations_if_they_are_embedded() -> None:
    index = index_of(grid("A B C D E F", "x"))
    assert split_conditions(index).kind == "none"
    split = split_conditions(index, embedded=True)
    assert split.kind == "perturbation"
    assert parts_of(index, split.train).isdisjoint(parts_of(index, split.validation))


def test_auto_holds_out_nothing_where_nothing_can_be_spared(caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(grid("A B", "x"))
    with caplog.at_level(logging.INFO, logger="pertcast"):
        split = split_conditions(index)
    np.testing.assert_array_equal(split.train, index.perturbed)
    assert split.validation.size == split.test.size == 0
    assert "nothing is held out for validation" in caplog.text


@pytest.mark.parametrize("seed", range(8))
def test_no_part_disappears_from_training(seed: int) -> None:
    """B is in one context only, C in another, so only the third can be held out."""
    index = index_of([("A", "x", "b"), ("B", "x", "b"), ("A", "y", "b"), ("C", "y", "b"), ("A", "z", "b")])
    split = split_conditions(index, kind="context", validation_size=0.9, seed=seed)
    assert split.held_out == ("z",)


@pytest.mark.parametrize("seed", range(8))
def test_units_are_not_held_out_together_if_they_share_a_part_alone(seed: int) -> None:
    """Either of x and y can be held out, but not both: B would be gone."""
    index = index_of([("A", "x", "b"), ("B", "x", "b"), ("A", "y", "b"), ("B", "y", "b"), ("A", "z", "b")])
    split = split_conditions(index, kind="context", validation_size=0.9, seed=seed)
    assert len(split.held_out) == 2
    assert "z" in split.held_out
    assert parts_of(index, split.train) == {"A", "B"}


def test_part_of_a_combination_counts_as_seen() -> None:
    index = index_of([("A+B", "x", "b"), ("A", "y", "b"), ("B", "y", "b")])
    split = split_conditions(index, kind="combination")
    assert split.held_out == ("A+B",)
    split = split_conditions(index, kind="perturbation", validation_size=0.4)
    assert parts_of(index, split.train) == {"A", "B"}


def test_units_of_conditions_name_the_dosage_where_it_varies() -> None:
    cells: dict[str, Any] = {"context": [0, 0, 1, 1], "context_names": ["x", "y"]}
    for dosage, expected in ((None, ["A | x", "A | y"]), ([0, 0.5, 0, 2], ["A | 0.5 | x", "A | 2 | y"])):
        index = ConditionIndex.from_codes([0, 1, 0, 1], ["control", "A"], dosage=dosage, **cells)
        assert sorted(unit_labels(index, index.perturbed, "condition")) == expected


def test_remainder_counts_a_condition_once() -> None:
    """A+B belongs to both A and B; once it is gone with A, B loses its own condition only."""
    left = Remainder({0: ["x"], 1: ["x"], 2: ["x"], 3: ["x"]})
    a, b, c = [0, 2], [1, 2], [3]
    left.take(a)
    assert left.can_spare(b)
    left.take(b)
    assert not left.can_spare(c)
    assert not left.can_spare(a), "nothing is left of it"


@pytest.mark.parametrize("kind", ["context", "batch", "combination", "condition"])
def test_seed_and_names_decide_and_not_the_order_of_cells_or_codes(kind: str) -> None:
    conditions = grid("A B C A+B A+C B+C", "x y z w v", "b1 b2 b3 b4")
    choices = set()
    for seed in range(6):
        held = []
        for order in (None, 1, 2):
            index = index_of(conditions, seed=order)
            split = split_conditions(index, kind=kind, seed=seed)  # type: ignore[arg-type]
            assert_partition(index, split)
            held.append(frozenset(index.names(split.validation)))
        assert len(set(held)) == 1
        choices.add(held[0])
    assert len(choices) > 1


def test_kind_that_cannot_be_held_out_is_an_error() -> None:
    index = index_of(grid("A B", "x"))
    with pytest.raises(ValueError, match="Nothing can be held out for validation with kind='context'"):
        split_conditions(index, kind="context")
    with pytest.raises(ValueError, match="`kind` must be one of"):
        split_conditions(index, kind="cell")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"share in \[0, 1\), but found 1"):
        split_conditions(index, validation_size=1.0)


def test_size_zero_and_kind_none_hold_out_nothing() -> None:
    index = index_of(grid("A B", "x y z"))
    assert split_conditions(index, validation_size=0).validation.size == 0
    assert split_conditions(index, kind="none").validation.size == 0


def test_labels_are_read_in_any_case() -> None:
    codes = read_split_labels(["Train", "VAL", "valid", "Validation", "test "])
    assert codes.tolist() == [Part.TRAIN, Part.VALIDATION, Part.VALIDATION, Part.VALIDATION, Part.TEST]


@pytest.mark.parametrize("label", ["ood", "nan", "", "holdout"])
def test_unknown_label_is_an_error(label: str) -> None:
    with pytest.raises(ValueError, match=f"holds the label.s. '{label}', but each cell must be 'train'"):
        read_split_labels(["train", label])


def parts_by_context(index: ConditionIndex, part_of: dict[str, int]) -> np.ndarray:
    parts = np.empty(index.n_cells.sum(), dtype=np.int8)
    for condition in range(len(index)):
        parts[index.rows(condition)] = part_of[index.context_names[index.context[condition]]]
    return parts


def test_labels_decide() -> None:
    index = index_of(grid("A B", "x y z"), seed=0)
    parts = parts_by_context(index, {"x": Part.TRAIN, "y": Part.VALIDATION, "z": Part.TEST})
    split = split_conditions(index, parts=parts)
    assert_partition(index, split)
    assert split.kind == "labels"
    for ids, context in ((split.train, "x"), (split.validation, "y"), (split.test, "z")):
        assert {index.context_names[code] for code in index.context[ids]} == {context}
        assert len(ids) == 2


def test_without_validation_labels_it_is_held_out_of_training() -> None:
    index = index_of(grid("A B", "x y z w"))
    parts = parts_by_context(index, {"x": Part.TRAIN, "y": Part.TRAIN, "z": Part.TRAIN, "w": Part.TEST})
    split = split_conditions(index, parts=parts)
    assert_partition(index, split)
    assert split.kind == "context"
    assert {index.context_names[code] for code in index.context[split.test]} == {"w"}
    assert split.held_out[0] in {"x", "y", "z"}


def test_what_is_trained_on_after_all_is_no_longer_named() -> None:
    index = index_of(grid("A B", "x y z w v"))
    split = split_conditions(index, validation_size=0.4)
    first, second = split.held_out
    of_first = split.validation[[index.context_names[code] == first for code in index.context[split.validation]]]
    fewer = split.train_on(of_first, index)
    assert_partition(index, fewer)
    assert (fewer.kind, fewer.held_out) == ("context", (second,))
    none = split.train_on(split.validation, index)
    np.testing.assert_array_equal(none.train, index.perturbed)
    assert (none.kind, none.held_out) == ("none", ())
    assert split.train_on(split.validation[:0], index) is split


def test_units_are_trained_on_as_a_whole() -> None:
    """One condition of a held-out context in training would tell about the others."""
    index = index_of(grid("A B", "x y z w v"))
    split = split_conditions(index, validation_size=0.4)
    fewer = split.train_on(split.validation[:1], index)
    assert_partition(index, fewer)
    assert set(index.context[fewer.validation]).isdisjoint(index.context[fewer.train])
    assert len(fewer.held_out) == 1


def test_what_labels_hold_out_is_not_trained_on() -> None:
    index = index_of(grid("A B", "x y"), seed=0)
    split = split_conditions(index, parts=parts_by_context(index, {"x": Part.TRAIN, "y": Part.VALIDATION}))
    with pytest.raises(ValueError, match="Labels say what is held out"):
        split.train_on(split.validation, index)


def test_leak_is_an_error_that_names_the_condition() -> None:
    index = index_of(grid("A B", "x y"), seed=0)
    parts = parts_by_context(index, {"x": Part.TRAIN, "y": Part.TEST})
    leak = int(np.flatnonzero((index.perturbation == 2) & (index.context == index.context_names.index("y")))[0])
    parts[index.rows(leak)[-1]] = Part.TRAIN
    with pytest.raises(ValueError, match=r"1 perturbed condition\(s\).*leaks.*'B \| y'"):
        split_conditions(index, parts=parts)


def test_control_cells_may_carry_any_label() -> None:
    index = index_of(grid("A B", "x y"), seed=0)
    parts = parts_by_context(index, {"x": Part.TRAIN, "y": Part.TEST})
    for condition in np.flatnonzero(index.is_control):
        parts[index.rows(condition)] = [Part.TRAIN, Part.VALIDATION, Part.TEST]
    split = split_conditions(index, parts=parts, kind="none")
    assert len(split.train) == len(split.test) == 2


def test_nothing_to_train_on_is_an_error() -> None:
    index = index_of(grid("A B", "x"))
    with pytest.raises(ValueError, match="No perturbed condition is left for training"):
        split_conditions(index, parts=np.full(index.n_cells.sum(), Part.TEST))


def test_skipped_conditions_are_in_no_part() -> None:
    codes = [0] * 5 + [1] * 5 + [2]
    with pytest.warns(UserWarning, match="skipped"):
        index = ConditionIndex.from_codes(codes, ["control", "A", "B"], min_cells=2)
    split = split_conditions(index)
    assert_partition(index, split)
    assert len(split.train) == 1


def test_repr_counts() -> None:
    split = split_conditions(index_of(grid("A B", "x y z")))
    assert repr(split) == "ConditionSplit[train=4, validation=2, test=0, kind='context']"
