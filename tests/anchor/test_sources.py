from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import AnchorQuery, Populations, ShiftAnchor, Weighting

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(2)
STATES = RNG.normal(size=(5, 2))


@pytest.fixture
def populations(build: Callable[..., Populations]) -> Populations:
    return build({name: RNG.normal(size=(5, 8)) + 1 for name in "AB"}, STATES)


def test_sources_are_the_same_perturbation_in_other_contexts(populations: Populations) -> None:
    anchor = ShiftAnchor(populations, nonnegative=False)
    for row in range(len(populations)):
        rows, trust = anchor._sources(anchor.query(row))
        assert {populations.perturbation[r] for r in rows} == {populations.perturbation[row]}
        assert sorted(populations.context[rows]) == sorted({f"c{c}" for c in range(5)} - {populations.context[row]})
        np.testing.assert_allclose(trust, populations.weight[rows])


@pytest.mark.parametrize("weighting", [Weighting("uniform"), Weighting("ridge", 1.0)])
def test_the_own_shift_of_a_population_is_never_used(populations: Populations, weighting: Weighting) -> None:
    shift = populations.shift.copy()
    shift[3] = 1e3
    other = replace(populations, shift=shift)
    forecasts = []
    for p in (populations, other):
        anchor = ShiftAnchor(p, nonnegative=False)
        query = anchor.query(3)
        forecasts.append(anchor._from_sources(query, *anchor._sources(query), weighting))
    np.testing.assert_array_equal(forecasts[0], forecasts[1])


def test_a_batch_opens_the_other_batches_of_the_context(populations: Populations) -> None:
    batch = np.where(np.arange(10) == 1, "second", "first").astype(object)
    context = populations.context.copy()
    context[1] = "c0"
    anchor = ShiftAnchor(replace(populations, batch=batch, context=context), nonnegative=False)
    assert anchor._sources(anchor.query(0))[0].tolist() == [2, 3, 4]
    assert anchor._sources(anchor.query(0, within_context=True))[0].tolist() == [1, 2, 3, 4]
    assert anchor._sources(anchor.query(1, within_context=True))[0].tolist() == [0, 2, 3, 4]


def dose_anchor(build: Callable[..., Populations]) -> ShiftAnchor:
    """Two contexts; at dosages 0.1, 1 and 10 all genes move by 1, 2 and 3."""
    shifts = {f"A@{name}": np.full((2, 4), value) for name, value in (("low", 1.0), ("mid", 2.0), ("high", 3.0))}
    return ShiftAnchor(
        build(shifts, np.zeros((2, 1)), dosage={"A@low": 0.1, "A@mid": 1.0, "A@high": 10.0}), nonnegative=False
    )


def dose_query(dosage: float) -> AnchorQuery:
    return AnchorQuery(("A",), dosage, np.full(4, 5.0), np.zeros(1), "new")


@pytest.mark.parametrize(("dosage", "expected"), [(0.1, 1.0), (1.0, 2.0), (10.0, 3.0), (1000.0, 3.0), (0.001, 1.0)])
def test_the_nearest_dosage_dominates(build: Callable[..., Populations], dosage: float, expected: float) -> None:
    anchor = dose_anchor(build)
    query = dose_query(dosage)
    rows, trust = anchor._sources(query)
    np.testing.assert_allclose(anchor._from_sources(query, rows, trust, Weighting("uniform")), expected, atol=0.25)


def test_trust_in_dosages_closed_form(build: Callable[..., Populations]) -> None:
    anchor = dose_anchor(build)
    rows, trust = anchor._sources(dose_query(2.0))
    away = np.abs(np.log((anchor.populations.dosage[rows] + 0.05) / 2.05))
    expected = np.exp(-0.5 * np.square(away - away.min())).clip(1e-6)
    np.testing.assert_allclose(trust, expected, rtol=1e-4)


def test_dosages_on_either_side_count_the_same(build: Callable[..., Populations]) -> None:
    between = np.sqrt(1.05 * 10.05) - 0.05
    rows, trust = dose_anchor(build)._sources(dose_query(between))
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(trust[2:4], trust[4:6])
    assert trust[:2].max() < trust[2:].min()


def test_one_dosage_everywhere_is_no_information(populations: Populations) -> None:
    anchor = ShiftAnchor(populations, nonnegative=False)
    query = anchor.query(0)
    np.testing.assert_array_equal(anchor._sources(query)[1], anchor._sources(query._replace(dosage=99.0))[1])


def test_an_anchor_survives_pickling(populations: Populations) -> None:
    anchor = ShiftAnchor(populations, nonnegative=True, vectors={"A": np.ones(2), "B": np.zeros(2)})
    copy = pickle.loads(pickle.dumps(anchor))
    for row in range(len(populations)):
        np.testing.assert_array_equal(copy.shift(copy.query(row)), anchor.shift(anchor.query(row)))
    assert repr(copy) == repr(anchor)
    assert repr(anchor).startswith("ShiftAnchor[n_populations=10, weighting=")
