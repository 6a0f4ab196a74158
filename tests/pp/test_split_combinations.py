"""Combinations of which training sees none, some or all of the parts."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pertcast.pp import check_split, split

if TYPE_CHECKING:
    from collections.abc import Callable

    Screen = Callable[..., Any]
    Parts = Callable[..., dict[str, set[str]]]

CHAIN = ["A", "B", "C", "A+B", "B+C"]


@pytest.mark.parametrize(
    ("n_seen", "test", "withheld"),
    [
        (2, {"A+B"}, []),
        (1, {"A", "A+B"}, ["A"]),  # B would cost training B+C as well
        (0, {"A", "B", "A+B", "B+C"}, ["A", "B"]),  # B+C would show B
    ],
)
def test_by_hand(screen: Screen, parts: Parts, n_seen: int, test: set[str], withheld: list[str]) -> None:
    adata = screen(CHAIN)
    split(adata, "combination", hold_out="B+A", n_seen=n_seen)
    assert parts(adata) == {"test": test, "train": set(CHAIN) - test}
    assert adata.uns["split"]["held_out"].tolist() == ["A+B"]
    assert list(adata.uns["split"].get("withheld", [])) == withheld
    check_split(adata, kind="combination")


def test_two_combinations_keep_the_part_they_share(screen: Screen, parts: Parts) -> None:
    """A+B is withheld A, so that B must stay, so that C is withheld."""
    adata = screen(CHAIN)
    split(adata, "combination", hold_out=["A+B", "B+C"], n_seen=1)
    assert parts(adata) == {"test": {"A", "A+B", "C", "B+C"}, "train": {"B"}}


def test_odd_circle_cannot_have_one_seen_part_each(screen: Screen) -> None:
    """One seen part in each of A+B, B+C, A+C would colour a triangle with two colours."""
    adata = screen(["A", "B", "C", "D", "A+B", "B+C", "A+C"])
    with pytest.raises(ValueError, match=r"hold out the combination '[AB]\+C' with n_seen=1.*Name fewer"):
        split(adata, "combination", hold_out=["A+B", "B+C", "A+C"], n_seen=1)


def test_combination_whose_parts_are_all_withheld_is_refused(screen: Screen) -> None:
    """Y is withheld, because B would cost training more, and Z was never alone: no part of Y+Z is seen."""
    adata = screen([*"BDEFY", "B+Y", "B+E", "B+F", "D+Z", "Y+Z"])
    with pytest.raises(ValueError, match=r"'Y\+Z' with n_seen=1.*'Y', 'Z' withheld"):
        split(adata, "combination", hold_out=["B+Y", "D+Z", "Y+Z"], n_seen=1)


def seen_alone(adata: Any, combination: str) -> tuple[int, int]:
    """Of a combination: parts that training has alone, and parts that training has nowhere."""
    trained = set(adata.obs["perturbation"][adata.obs["split"] == "train"].astype(str))
    known = {part for name in trained for part in name.split("+")}
    wanted = combination.split("+")
    return sum(part in trained for part in wanted), sum(part not in known for part in wanted)


@pytest.mark.parametrize("n_seen", [0, 1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_drawn_combinations_have_exactly_the_seen_parts(screen: Screen, n_seen: int, seed: int) -> None:
    """Of 12 perturbations, 10 were measured alone; pairs are two apart on a circle, or three."""
    singles = [f"P{i}" for i in range(12)]
    pairs = [f"{singles[i]}+{singles[(i + step) % 12]}" for i in range(12) for step in (2, 3)]
    adata = screen([*singles[:10], *pairs])
    split(adata, "combination", n_seen=n_seen, test_size=0.15, validation_size=0.1, seed=seed)
    check_split(adata, kind="combination")
    record = adata.uns["split"]
    for part, names in (("test", record["held_out"]), ("validation", record["validation"])):
        assert len(names)
        for name in names:
            assert seen_alone(adata, name) == (n_seen, 2 - n_seen)
            spelled = {name, "+".join(reversed(name.split("+")))}
            assert set(adata.obs["split"][adata.obs["perturbation"].isin(spelled)]) == {part}
    if n_seen < 2:
        held = {part for name in record["withheld"] for part in [name]}
        trained = set(adata.obs["perturbation"][adata.obs["split"] == "train"].astype(str))
        assert held.isdisjoint(part for name in trained for part in name.split("+"))


def test_triples_have_three_parts_to_see(screen: Screen, parts: Parts) -> None:
    conditions = ["A", "B", "C", "A+B+C", "A+B", "D"]
    adata = screen(conditions)
    split(adata, "combination", hold_out="A+B+C")
    assert parts(adata)["test"] == {"A+B+C"}
    split(adata, "combination", hold_out="C+B+A", n_seen=2)  # C costs least: A and B are also in A+B
    assert parts(adata) == {"test": {"A+B+C", "C"}, "train": {"A", "B", "A+B", "D"}}
    split(adata, "combination", hold_out="C+B+A", n_seen=3)
    assert parts(adata)["test"] == {"A+B+C"}


@pytest.mark.parametrize("seed", range(8))
def test_pairs_and_triples_together_keep_test_and_validation_apart(screen: Screen, seed: int) -> None:
    adata = screen([*"ABCDEF", "A+B", "C+D", "E+F", "A+C+E"])
    split(adata, "combination", n_seen=2, test_size=0.4, validation_size=0.4, seed=seed)
    record = adata.uns["split"]
    for part, names in (("test", record["held_out"]), ("validation", record["validation"])):
        assert set(adata.obs["split"][adata.obs["perturbation"].isin(names).to_numpy()]) == {part}
        assert all(seen_alone(adata, name) == (2, name.count("+") - 1) for name in names)


def test_other_combinations_of_withheld_parts_are_no_surprise(screen: Screen, parts: Parts) -> None:
    """C is in A+C only, which is held out because A is withheld: the docstring says so, so there is no warning."""
    adata = screen(["A", "B", "A+B", "A+C", "D"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        split(adata, "combination", hold_out="A+B", n_seen=0)
    assert parts(adata) == {"test": {"A", "B", "A+B", "A+C"}, "train": {"D"}}


def test_part_that_was_never_alone_counts_neither_as_seen_nor_as_unseen(screen: Screen, parts: Parts) -> None:
    """B is in training within B+C, so A+B has one seen part and none that is unseen."""
    conditions = ["A", "C", "A+B", "B+C"]
    adata = screen(conditions)
    with pytest.raises(ValueError, match=r"'A\+B', but not all of its parts were measured alone"):
        split(adata, "combination", hold_out="A+B", n_seen=2)
    for seed in range(8):  # withholding A would cost as much, but B was never alone
        split(adata, "combination", hold_out="A+B", n_seen=1, seed=seed)
        assert parts(adata) == {"test": {"A+B", "B+C"}, "train": {"A", "C"}}


@pytest.mark.parametrize(
    ("conditions", "n_seen", "match"),
    [
        (["A", "B", "A+B"], 0, "No combination can be held out for test with n_seen=0"),
        (["A", "B+C", "D+E"], 1, "0 have 1 part.s. that were measured alone"),
        (["A", "B"], None, "no combinations to hold out"),
        (["A", "B+C"], None, "There are 0 to choose from: none. Combinations are drawn"),
    ],
)
def test_nothing_to_hold_out(screen: Screen, conditions: list[str], n_seen: int | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        split(screen(conditions), "combination", n_seen=n_seen)


def test_folds_need_combinations_that_are_seen_as_a_whole(screen: Screen) -> None:
    pairs = ["+".join(pair) for pair in itertools.combinations("ABCD", 2)]
    adata = screen([*"ABCD", *pairs])
    with pytest.raises(ValueError, match="n_seen=1 withholds some"):
        split(adata, "combination", n_seen=1, n_folds=3)
    held = []
    for fold in range(3):
        split(adata, "combination", n_seen=2, n_folds=3, fold=fold)
        held += adata.uns["split"]["held_out"].tolist()
    assert sorted(held) == sorted(pairs)
