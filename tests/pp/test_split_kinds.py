"""What each kind of split holds out, on screens small enough to do by hand."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pertcast.pp import split

if TYPE_CHECKING:
    from collections.abc import Callable

    Screen = Callable[..., Any]
    Parts = Callable[..., dict[str, set[str]]]


def grid(*factors: str) -> list[str]:
    return [" ".join(row) for row in itertools.product(*(factor.split() for factor in factors))]


def test_context_is_held_out_and_controls_stay(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A B A+B", "x y z", "d1 d2"))
    split(adata, "context", cell_type_key="cell_type", hold_out="y")
    assert parts(adata, "cell_type") == {"train": {"x", "z"}, "test": {"y"}}
    controls = adata.obs[adata.obs["perturbation"] == "control"]
    assert set(controls["split"]) == {"train"}
    assert set(controls["cell_type"]) == {"x", "y", "z"}


def test_context_is_cell_type_and_covariates_together(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A", "x y", "f m"))
    split(
        adata, "context", cell_type_key="cell_type", categorical_covariate_keys=["donor"], hold_out=["x | m", "y | f"]
    )
    assert parts(adata, ["cell_type", "donor"]) == {"train": {"x f", "y m"}, "test": {"x m", "y f"}}


def test_contexts_whose_joined_names_are_equal_are_refused(screen: Screen) -> None:
    adata = screen(grid("A", "x y", "f m"))
    adata.obs["cell_type"] = adata.obs["cell_type"].replace({"y": "x | a"})
    split(adata, "context", cell_type_key="cell_type", hold_out="x | a")
    adata.obs["donor"] = adata.obs["donor"].replace({"m": "a | f"})
    with pytest.raises(ValueError, match=r"holds the label 'x \| a', but .* are joined by ' \| '"):
        split(adata, "context", cell_type_key="cell_type", categorical_covariate_keys=["donor"], hold_out="x | a | f")


def test_donor_is_held_out(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A B", "x y", "1 2 3"))
    adata.obs["donor"] = adata.obs["donor"].astype(int)
    split(adata, "donor", batch_key="donor", hold_out=2, validation_size=0.5)
    found = parts(adata, "donor")
    assert found["test"] == {"2"}
    assert found["train"] | found["validation"] == {"1", "3"}
    assert len(found["validation"]) == 1


def test_perturbation_is_held_out_with_its_combinations(screen: Screen, parts: Parts) -> None:
    adata = screen([*grid("A B C D", "x y", "d1", "1 10"), "B+A", "A+C y", "B+C"])
    split(adata, "perturbation", hold_out="A", cell_type_key="cell_type", dosage_key="dose")
    assert parts(adata) == {"test": {"A", "B+A", "A+C"}, "train": {"B", "C", "D", "B+C"}}


def test_test_takes_precedence_over_validation(screen: Screen, parts: Parts) -> None:
    """A+B holds a test and a validation perturbation."""
    adata = screen(["A", "B", "A+B", "C", "B+C"])
    for seed in range(20):
        split(adata, "perturbation", hold_out="A", validation_size=0.3, seed=seed)
        found = parts(adata)
        expected = {"B": {"B", "B+C"}, "C": {"C", "B+C"}}[adata.uns["split"]["validation"][0]]
        assert found["validation"] == expected
        assert found["test"] == {"A", "A+B"}


def test_combination_is_held_out_in_any_spelling_and_singles_stay(screen: Screen, parts: Parts) -> None:
    adata = screen([*grid("A B C", "x y"), "A+B x", "B+A y", "A+C x", "A+C y"])
    split(adata, "combination", hold_out="B + A", cell_type_key="cell_type")
    assert parts(adata) == {"test": {"A+B", "B+A"}, "train": {"A", "B", "C", "A+C"}}
    assert adata.uns["split"]["held_out"].tolist() == ["A+B"]


@pytest.mark.parametrize("seed", range(10))
def test_combinations_are_drawn_from_those_whose_parts_were_measured_alone(
    screen: Screen, parts: Parts, seed: int
) -> None:
    adata = screen(["A", "B", "A+B", "A+C", "C+D"])
    split(adata, "combination", seed=seed, test_size=0.9)
    assert parts(adata) == {"test": {"A+B"}, "train": {"A", "B", "A+C", "C+D"}}


def test_condition_is_held_out_over_all_batches(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A/1 B+A/1", "x y", "d1 d2"))
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor"}
    split(adata, "condition", hold_out=[("A/1", "x"), ("A/1+B", "y")], **keys)
    assert parts(adata, ["perturbation", "cell_type"]) == {"test": {"A/1 x", "B+A/1 y"}, "train": {"A/1 y", "B+A/1 x"}}
    split(adata, "condition", hold_out=("A/1", "x"), **keys)
    assert parts(adata, ["perturbation", "cell_type"])["test"] == {"A/1 x"}


def test_condition_may_name_a_dosage(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A B", "x y", "d1", "0.1 10"))
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "dosage_key": "dose"}
    by = ["perturbation", "cell_type", "dose"]
    dosages: list[Any] = [0.1, np.float64(0.1), np.float32(0.1)]
    for dosage in dosages:
        split(adata, "condition", hold_out=[("A", "x", dosage)], **keys)
        assert parts(adata, by)["test"] == {"A x 0.1"}
        assert adata.uns["split"]["held_out"].tolist() == ["A | 0.1 | x"]
        split(adata, "dosage", hold_out=dosage, **keys)
        assert adata.uns["split"]["held_out"].tolist() == ["A | 0.1", "B | 0.1"]
    split(adata, "condition", hold_out=[("A", "x")], **keys)
    assert parts(adata, by)["test"] == {"A x 0.1", "A x 10.0"}


def test_close_dosages_are_units_of_their_own(screen: Screen, parts: Parts) -> None:
    adata = screen(grid("A", "x y", "d1", "1234567 1234568 1234569"))
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "dosage_key": "dose"}
    split(adata, "dosage", hold_out=1234568.0, **keys)
    assert adata.uns["split"]["held_out"].tolist() == ["A | 1234568"]
    assert parts(adata, "dose")["test"] == {"1234568.0"}
    split(adata, "condition", hold_out=("A", "x", 1234568.0), **keys)
    assert parts(adata, ["cell_type", "dose"])["test"] == {"x 1234568.0"}
    with pytest.raises(ValueError, match="There are 1234567, 1234568, 1234569"):
        split(adata, "dosage", hold_out=1, **keys)


@pytest.mark.parametrize("seed", range(10))
def test_drawn_conditions_leave_each_perturbation_and_context_in_training(
    screen: Screen, parts: Parts, seed: int
) -> None:
    """C is in one context only, and z has one condition only: neither can be spared."""
    adata = screen([*grid("A B", "x y"), "C x", "A z"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(adata, "condition", cell_type_key="cell_type", test_size=0.9, seed=seed)
    found = parts(adata, ["perturbation", "cell_type"])
    assert {"C x", "A z"} <= found["train"]
    assert parts(adata)["train"] == {"A", "B", "C"}
    assert parts(adata, "cell_type")["train"] == {"x", "y", "z"}
    assert len(found["test"]) >= 2


def test_highest_dosages_of_each_perturbation_are_held_out(screen: Screen, parts: Parts) -> None:
    """C has a single dosage, so it stays; after the test part B has only one left, so it is not validated on."""
    adata = screen([*grid("A", "x y", "d1", "1 10 100"), *grid("B", "x", "d1", "5 50"), "C x d1 100"])
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "dosage_key": "dose"}
    split(adata, "dosage", validation_size=0.4, **keys)
    assert parts(adata, ["perturbation", "dose"]) == {
        "test": {"A 100.0", "B 50.0"},
        "validation": {"A 10.0"},
        "train": {"A 1.0", "B 5.0", "C 100.0"},
    }
    split(adata, "dosage", hold_out=[10, 5.0], **keys)
    assert parts(adata, ["perturbation", "dose"])["test"] == {"A 10.0", "B 5.0"}


@pytest.mark.parametrize("seed", range(10))
def test_context_that_holds_a_perturbation_alone_is_not_drawn(screen: Screen, parts: Parts, seed: int) -> None:
    adata = screen(["A x", "B x", "B y", "C z", "B z"])
    split(adata, "context", cell_type_key="cell_type", test_size=0.9, seed=seed)
    assert parts(adata, "cell_type") == {"train": {"x", "z"}, "test": {"y"}}


@pytest.mark.parametrize("seed", range(10))
def test_drawn_perturbations_and_combinations_leave_each_context_a_condition(
    screen: Screen, parts: Parts, seed: int
) -> None:
    adata = screen(["A x", "B x", "C x", "D y", "A+B x", "A+C z"])
    for kind in ("perturbation", "combination"):
        split(adata, kind, cell_type_key="cell_type", test_size=0.9, seed=seed)
        assert parts(adata, "cell_type")["train"] == {"x", "y", "z"}


def test_where_nothing_can_be_spared_something_is_drawn_with_a_warning(screen: Screen, parts: Parts) -> None:
    adata = screen(["A x", "B y"])
    with pytest.warns(UserWarning, match=r"no perturbed cells of the perturbation\(s\) '[AB]'.*kind='context'"):
        split(adata, "context", cell_type_key="cell_type")
    assert {len(found) for found in parts(adata, "cell_type").values()} == {1}


def test_warning_points_at_the_caller_and_names_contexts(screen: Screen) -> None:
    adata = screen(["A x", "B y", "B x"])
    with pytest.warns(UserWarning, match=r"of the context\(s\) 'y'") as caught:
        split(adata, "condition", cell_type_key="cell_type", hold_out=("B", "y"))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("kind", "n_units"), [("context", 10), ("donor", 5), ("perturbation", 20), ("condition", 200)])
@pytest.mark.parametrize("size", [0.05, 0.3, 0.6])
def test_share_of_units_is_held_out(screen: Screen, kind: Any, n_units: int, size: float) -> None:
    perturbations = " ".join(f"P{i}" for i in range(20))
    adata = screen(grid(perturbations, "a b c d e f g h i j", "1 2 3 4 5"), n_cells=1)
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor"}
    split(adata, kind, test_size=size, validation_size=0.25, **keys)
    n_test = max(1, round(size * n_units))
    assert len(adata.uns["split"]["held_out"]) == n_test
    assert len(adata.uns["split"]["validation"]) == max(1, round(0.25 * (n_units - n_test)))


@pytest.mark.parametrize("kind", ["context", "donor", "perturbation", "combination", "condition", "dosage"])
def test_names_and_seed_decide_and_not_the_order_of_cells_or_categories(screen: Screen, kind: Any) -> None:
    adata = screen(grid("A B C D A+B B+C A+D C+D", "x y z w", "d1 d2 d3", "1 10 30"), n_cells=1)
    keys: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor", "dosage_key": "dose"}
    options: dict[str, Any] = {"test_size": 0.3, "validation_size": 0.3}
    rng = np.random.default_rng(0)
    choices = set()
    for seed in range(6):
        split(adata, kind, seed=seed, **keys, **options)
        other = adata[rng.permutation(adata.n_obs)].copy()
        del other.obs["split"]
        for column in ("perturbation", "cell_type", "donor"):
            labels = other.obs[column].astype("category")
            other.obs[column] = labels.cat.reorder_categories(list(rng.permutation(labels.cat.categories)))
        split(other, kind, seed=seed, **keys, **options)
        assert (other.obs["split"].astype(str) == adata.obs["split"].astype(str)[other.obs_names]).all()
        assert other.uns["split"]["held_out"].tolist() == adata.uns["split"]["held_out"].tolist()
        choices.add(tuple(adata.uns["split"]["held_out"]))
    assert len(choices) == 1 if kind == "dosage" else len(choices) > 1


def test_validation_size_does_not_change_what_is_tested(screen: Screen) -> None:
    adata = screen(grid("A B", " ".join("abcdefghij")))
    split(adata, "context", cell_type_key="cell_type", seed=3)
    before = adata.uns["split"]["held_out"].tolist()
    split(adata, "context", cell_type_key="cell_type", seed=3, validation_size=0.4)
    assert adata.uns["split"]["held_out"].tolist() == before
    assert len(adata.uns["split"]["validation"]) == 3
