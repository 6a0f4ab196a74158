from __future__ import annotations

import numpy as np
import pytest

from pertcast.data import PerturbationVocabulary
from pertcast.data._stand_ins import find_stand_ins

DIRECTIONS = {"A": [1, 0.1], "B": [0.9, 0.3], "C": [-1, 0], "D": [0, -1], "E": [0.2, 1], "F": [-0.5, -0.5]}


def vocabulary(*, vectors: bool = True) -> PerturbationVocabulary:
    table = {**DIRECTIONS, "new": [2, 0.4], "other": [0, 3.0]}
    return PerturbationVocabulary(DIRECTIONS, {k: np.array(v) for k, v in table.items()} if vectors else None)


def test_nothing_stands_in_by_default() -> None:
    assert find_stand_ins(["A+new", "C"], vocabulary(), "error") == {}
    with pytest.raises(ValueError, match="Unknown perturbation 'nowhere'"):
        find_stand_ins(["A+nowhere"], vocabulary(), "error")


def test_a_name_without_training_cells_is_not_known() -> None:
    assert find_stand_ins(["A"], vocabulary(), "error", measured={"B", "C"}) == {}
    with pytest.raises(ValueError, match="'A' has no cells in the training part"):
        find_stand_ins(["A", "B"], vocabulary(vectors=False), "error", measured={"B", "C"})
    assert find_stand_ins(["A+B"], vocabulary(vectors=False), "mean", measured={"C", "B"}) == {"A": ("B", "C")}


def test_the_mean_replaces_only_what_has_no_vector() -> None:
    assert find_stand_ins(["new+gone", "A"], vocabulary(), "mean") == {"gone": tuple("ABCDEF")}


def test_neighbours_are_the_most_similar_after_centring() -> None:
    found = find_stand_ins(["new+A", "other"], vocabulary(), "neighbours")
    assert set(found) == {"new", "other"}
    centre = np.mean(list(DIRECTIONS.values()), axis=0)
    for name, vector in (("new", [2, 0.4]), ("other", [0, 3.0])):
        towards = np.array(vector) - centre
        cosine = {
            k: (np.array(v) - centre) @ towards / np.linalg.norm(np.array(v) - centre) for k, v in DIRECTIONS.items()
        }
        assert list(found[name]) == sorted(cosine, key=cosine.__getitem__, reverse=True)[:5]


def test_bad_choices() -> None:
    with pytest.raises(ValueError, match="needs vectors"):
        find_stand_ins(["A"], vocabulary(vectors=False), "neighbours")
    with pytest.raises(ValueError, match="'zzz' has none in the table.*Set the model up with a vector for it, or use"):
        find_stand_ins(["zzz+A"], vocabulary(), "neighbours")
    with pytest.raises(ValueError, match="unseen='nearest' is unknown"):
        find_stand_ins(["A"], vocabulary(), "nearest")  # type: ignore[arg-type]
