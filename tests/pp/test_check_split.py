"""Leaks that are put into sound splits are found."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pertcast.pp import check_split, split

if TYPE_CHECKING:
    from collections.abc import Callable

    Screen = Callable[..., Any]

KEYS: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor", "dosage_key": "dose"}
KINDS = ["context", "donor", "perturbation", "combination", "condition", "dosage"]


@pytest.fixture
def full(screen: Screen) -> Any:
    rows = itertools.product("A B C D A+B C+D".split(), "x y z".split(), "d1 d2 d3".split(), "1 10 30".split())
    return screen([" ".join(row) for row in rows])


def relabel(adata: Any, part: str, **where: object) -> None:
    """Give the cells with these values of obs another label."""
    chosen = np.logical_and.reduce([(adata.obs[column] == value).to_numpy() for column, value in where.items()])
    assert chosen.any()
    adata.obs["split"] = np.where(chosen, part, adata.obs["split"].astype(str))


@pytest.mark.parametrize("kind", KINDS)
def test_own_splits_pass(full: Any, kind: Any) -> None:
    split(full, kind, validation_size=0.2, **KEYS)
    check_split(full, kind=kind, **KEYS)
    check_split(full, **KEYS)


@pytest.mark.parametrize("kind", KINDS)
def test_single_cell_leaks(full: Any, kind: Any) -> None:
    """One cell of a held-out condition in training, whatever the kind."""
    split(full, kind, **KEYS)
    leak = full.obs_names[full.obs["split"] == "test"][0]
    full.obs["split"] = full.obs["split"].astype(str)
    full.obs.loc[leak, "split"] = "train"
    for asked in (kind, None):
        with pytest.raises(ValueError, match=r"1 perturbed condition\(s\) have cells in more than one part"):
            check_split(full, kind=asked, **KEYS)


@pytest.mark.parametrize(
    ("kind", "hold_out", "leak", "match"),
    [
        ("context", "x", {"cell_type": "x", "donor": "d2", "perturbation": "A"}, "1 units of kind='context'.*: 'x'"),
        ("donor", "d1", {"cell_type": "x", "donor": "d1", "perturbation": "A"}, "1 units of kind='donor'.*: 'd1'"),
        ("perturbation", "A", {"perturbation": "A+B"}, "1 held-out perturbation.*not unseen.*: 'A'"),
        ("perturbation", "A", {"perturbation": "A", "cell_type": "x"}, "not unseen.*: 'A', 'A[+]B'"),
        ("combination", "A+B", {"perturbation": "A+B", "donor": "d3"}, "kind='combination'.*: 'A[+]B'"),
        ("condition", ("A", "x", 10), {"perturbation": "A", "cell_type": "x", "donor": "d1"}, "'A . 10 . x'"),
        ("dosage", 10, {"perturbation": "A", "cell_type": "z"}, "1 units of kind='dosage'.*: 'A . 10'"),
    ],
)
def test_whole_conditions_leak(full: Any, kind: Any, hold_out: Any, leak: dict[str, str], match: str) -> None:
    """Whole conditions go to training, so that only the kind can tell."""
    split(full, kind, hold_out=hold_out, **KEYS)
    relabel(full, "train", **leak)
    check_split(full, **KEYS)
    with pytest.raises(ValueError, match=match):
        check_split(full, kind=kind, **KEYS)


def test_validation_must_not_see_what_is_tested(screen: Screen) -> None:
    adata = screen(["A", "B", "A+B", "C"])
    adata.obs["split"] = adata.obs["perturbation"].map({"A": "test", "B": "val", "A+B": "Test", "C": "train"})
    adata.obs["split"] = adata.obs["split"].fillna("train")
    check_split(adata, kind="perturbation")
    relabel(adata, "validation", perturbation="A+B")
    with pytest.raises(ValueError, match="not unseen.*: 'A'"):
        check_split(adata, kind="perturbation")


def test_withheld_single_must_be_in_no_combination_of_training(screen: Screen) -> None:
    adata = screen(["A", "B", "A+B", "C"])
    split(adata, "combination", hold_out="A+B", n_seen=1)
    assert adata.uns["split"]["withheld"].tolist() in (["A"], ["B"])
    check_split(adata, kind="combination")
    relabel(adata, "train", perturbation="A+B")
    with pytest.raises(ValueError, match="not unseen.*: '[AB]'"):
        check_split(adata, kind="combination")


def test_controls_may_carry_any_label(full: Any) -> None:
    split(full, "context", hold_out="x", **KEYS)
    relabel(full, "test", perturbation="control", donor="d1")
    check_split(full, kind="context", **KEYS)


def test_view_can_be_checked(full: Any) -> None:
    split(full, "context", hold_out="x", **KEYS)
    check_split(full[full.obs["donor"] == "d1"], kind="context", **KEYS)


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ("train", ValueError, "'split' leaves no perturbed cells for validation or test"),
        ("test", ValueError, "'split' leaves no perturbed cells for training"),
        ("ood", ValueError, "label.s. 'ood', but each cell must be 'train'"),
        (None, ValueError, "'split' has no label"),
    ],
)
def test_unusable_labels(full: Any, labels: Any, error: type[Exception], match: str) -> None:
    full.obs["split"] = labels
    with pytest.raises(error, match=match):
        check_split(full, **KEYS)


def test_wrong_arguments(full: Any) -> None:
    full.obs["parts"] = "train"
    with pytest.raises(KeyError, match="`split_key` names the column 'part'.*Did you mean 'parts'"):
        check_split(full, "part")
    with pytest.raises(ValueError, match="kind='donor' needs `batch_key`"):
        check_split(full, "parts", "donor")
    with pytest.raises(ValueError, match="`kind` must be one of.*Did you mean 'context'"):
        check_split(full, "parts", "contexts")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="but found DataFrame"):
        check_split(full.obs)
