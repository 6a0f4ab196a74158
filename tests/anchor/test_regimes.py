"""Which training populations can be judged, against the definition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor._regimes import REGIMES, left_out, measured_elsewhere, without_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.anchor import Populations
    from pertcast.anchor._regimes import Regime


@pytest.mark.parametrize("regime", REGIMES)
def test_measured_elsewhere_are_those_with_sources(build: Callable[..., Populations], regime: Regime) -> None:
    rng = np.random.default_rng(0)
    shifts = {name: np.where(rng.random((6, 1)) < 0.5, np.ones((6, 2)), np.nan) for name in "ABCDEFGH"}
    shifts |= {"A+B": np.ones((6, 2)), "I": np.r_[np.ones((1, 2)), np.full((5, 2), np.nan)]}
    populations = build(shifts, np.zeros((6, 1)))
    context = np.array([name[1] for name in populations.context]).astype(int)
    populations = replace(
        populations,
        context=np.array([f"c{number // 2}" for number in context], dtype=object),
        batch=np.array([f"b{number % 3}" for number in context], dtype=object),
    )
    expected = []
    for row, name in enumerate(populations.perturbation):
        known = np.flatnonzero(~left_out(populations, row, regime)).tolist()
        rest = [other for other in known if populations.perturbation[other] == name]
        if regime == "batch":
            rest = [other for other in rest if populations.context[other] == populations.context[row]]
        expected += [row] if rest else []
    assert 0 < len(expected) < len(populations)
    assert measured_elsewhere(populations, regime).tolist() == expected


def test_populations_without_a_name(build: Callable[..., Populations]) -> None:
    populations = build({name: np.ones((1, 2)) for name in ("A", "B", "A+B", "A+B+C", "A+C")}, np.zeros((1, 1)))
    assert without_name(populations, ("A",)).tolist() == [1]
    assert without_name(populations, ("A", "B")).tolist() == [0, 1, 4]
