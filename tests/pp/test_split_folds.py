from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pertcast.pp import check_split, split
from pertcast.pp._choose import assign_folds

if TYPE_CHECKING:
    from collections.abc import Callable

    Screen = Callable[..., Any]
    Parts = Callable[..., dict[str, set[str]]]

KEYS: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor", "dosage_key": "dose"}
UNITS = {
    "context": set("vwxyz"),
    "donor": {"d1", "d2", "d3", "d4"},
    "perturbation": set("ABCD"),
    "combination": {"A+B", "B+C", "C+D"},
    "dosage": {f"{name} | {dose}" for name in ("A", "B", "C", "D", "A+B", "B+C", "C+D") for dose in (1, 10, 30)},
    "condition": {
        f"{name} | {dose} | {context}"
        for name in ("A", "B", "C", "D", "A+B", "B+C", "C+D")
        for dose in (1, 10, 30)
        for context in "vwxyz"
    },
}


@pytest.fixture
def full(screen: Screen) -> Any:
    """All of 7 perturbations x 5 cell types x 4 donors x 3 dosages."""
    rows = itertools.product("A B C D A+B B+C C+D".split(), "vwxyz", "d1 d2 d3 d4".split(), "1 10 30".split())
    return screen([" ".join(row) for row in rows], n_cells=1)


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("n_folds", [2, 3])
def test_folds_are_disjoint_and_cover_all_units(full: Any, kind: Any, n_folds: int) -> None:
    held: list[list[str]] = []
    tested = np.zeros(full.n_obs, dtype=int)
    for fold in range(n_folds):
        split(full, kind, n_folds=n_folds, fold=fold, seed=4, **KEYS)
        check_split(full, kind=kind, **KEYS)
        held.append(full.uns["split"]["held_out"].tolist())
        tested += (full.obs["split"] == "test").to_numpy()
    together = [name for names in held for name in names]
    assert len(together) == len(set(together))
    assert set(together) == UNITS[kind]
    sizes = [len(names) for names in held]
    whole = 7 if kind == "dosage" else 1  # a dosage is dealt with all perturbations
    assert max(sizes) - min(sizes) <= whole
    perturbed = (full.obs["perturbation"] != "control").to_numpy()
    assert (tested[~perturbed] == 0).all()
    if kind in ("context", "donor", "condition", "dosage"):
        assert (tested[perturbed] == 1).all()


def test_seeds_deal_other_folds(full: Any) -> None:
    choices = set()
    for seed in range(5):
        split(full, "condition", n_folds=5, fold=1, seed=seed, **KEYS)
        choices.add(tuple(full.uns["split"]["held_out"]))
    assert len(choices) == 5


@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_condition_folds_leave_contexts_and_perturbations_in_training(
    screen: Screen, parts: Parts, n_folds: int, seed: int
) -> None:
    """2 perturbations x 12 contexts: dealt blindly into 2 folds, a context is lost with probability 1 - 2^-12."""
    adata = screen([f"{name} c{i}" for name in "AB" for i in range(12)], n_cells=1)
    for fold in range(n_folds):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            split(adata, "condition", cell_type_key="cell_type", n_folds=n_folds, fold=fold, seed=seed)
        assert len(parts(adata, "cell_type")["train"]) == 12
        assert parts(adata)["train"] == {"A", "B"}


def test_shared_things_are_spread() -> None:
    """Four units with the token "a" and four with "b", in four folds: one of each in every fold."""
    units = {f"u{i}": [i] for i in range(8)}
    tokens = {i: ("a" if i < 4 else "b",) for i in range(8)}
    for seed in range(10):
        fold_of = assign_folds(units, tokens, 4, np.random.default_rng(seed))
        assert sorted(fold_of[f"u{i}"] for i in range(4)) == [0, 1, 2, 3]
        assert sorted(fold_of[f"u{i}"] for i in range(4, 8)) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(10))
def test_each_perturbation_is_spread_over_the_folds(screen: Screen, parts: Parts, seed: int) -> None:
    """Of 12 conditions of A, 6 belong in each of two folds; blind dealing does so in a quarter of the cases."""
    adata = screen([f"{name} c{i}" for name in "AB" for i in range(12)], n_cells=1)
    split(adata, "condition", cell_type_key="cell_type", n_folds=2, seed=seed)
    held = parts(adata, ["perturbation", "cell_type"])["test"]
    assert sum(name.startswith("A") for name in held) == 6


def test_validation_is_drawn_from_the_other_folds(full: Any, parts: Parts) -> None:
    split(full, "context", n_folds=5, fold=3, validation_size=0.25, **KEYS)
    found = parts(full, "cell_type")
    assert {name: len(contexts) for name, contexts in found.items()} == {"train": 3, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_folds": 6}, ValueError, "`n_folds=6` needs as many units of kind='context', but there are 5"),
        ({"n_folds": 1}, ValueError, "`n_folds` must be at least 2, but found 1"),
        ({"n_folds": 3, "fold": 3}, ValueError, "counts from 0 to n_folds - 1 = 2, but found 3"),
        ({"fold": 1}, ValueError, "`fold=1` needs `n_folds`"),
        ({"n_folds": 3, "hold_out": "x"}, ValueError, "Leave out one of them"),
        ({"n_folds": 2.0}, TypeError, "`n_folds` must be an integer, but found 2.0"),
    ],
)
def test_wrong_folds(full: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        split(full, "context", **options, **KEYS)
