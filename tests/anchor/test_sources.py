from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import AnchorQuery, Populations, ShiftAnchor, Weighting, share_of_expression

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(2)
STATES = RNG.normal(size=(5, 2))


@pytest.fixture
def populations(build: Callable[..., Populations]) -> Populations:
    return build({name: RNG.normal(size=(5, 8)) + 1 for name in "AB"}, STATES)


def test_sources_are_populations_of_the_same_perturbation(populations: Populations) -> None:
    anchor = ShiftAnchor(populations, nonnegative=False)
    for row in range(len(populations)):
        query = anchor.populations.query(row)
        others = np.flatnonzero(populations.context != query.context)
        sources = anchor.forecasts.sources(query, others)
        assert {populations.perturbation[r] for r in sources} == {query.perturbation}
        assert sorted(populations.context[sources]) == sorted({f"c{c}" for c in range(5)} - {query.context})
        np.testing.assert_allclose(anchor.forecasts._trust(query, sources), populations.weight[sources])


def dose_anchor(build: Callable[..., Populations]) -> ShiftAnchor:
    """Two contexts; at dosages 0.1, 1 and 10 all genes move by 1, 2 and 3."""
    shifts = {f"A@{name}": np.full((2, 4), value) for name, value in (("low", 1.0), ("mid", 2.0), ("high", 3.0))}
    return ShiftAnchor(
        build(shifts, np.zeros((2, 1)), dosage={"A@low": 0.1, "A@mid": 1.0, "A@high": 10.0}), nonnegative=False
    )


def dose_query(dosage: float) -> AnchorQuery:
    return AnchorQuery(("A",), dosage, np.full(4, 5.0), np.zeros(1), "new")


@pytest.mark.parametrize(("dosage", "expected"), [(0.1, 1.0), (1.0, 2.0), (10.0, 3.0), (1000.0, 3.0)])
def test_the_nearest_dosage_dominates(build: Callable[..., Populations], dosage: float, expected: float) -> None:
    anchor, query = dose_anchor(build), dose_query(dosage)
    np.testing.assert_allclose(
        anchor.forecasts.by_weighting(query, np.arange(6), Weighting("uniform")), expected, atol=0.25
    )
    np.testing.assert_allclose(anchor.shift(query), expected, atol=0.6)


def test_far_below_the_lowest_dosage_less_is_expected_than_at_it(build: Callable[..., Populations]) -> None:
    anchor, query = dose_anchor(build), dose_query(0.001)
    np.testing.assert_allclose(anchor.forecasts.by_weighting(query, np.arange(6), Weighting("uniform")), 1.0, atol=0.25)
    at_lowest = anchor.shift(dose_query(0.1))
    assert (np.abs(anchor.shift(query)) < 0.5 * at_lowest).all()


def test_trust_in_dosages_closed_form(build: Callable[..., Populations]) -> None:
    anchor = dose_anchor(build)
    away = np.abs(np.log((anchor.populations.dosage + 0.05) / 2.05))
    expected = np.exp(-0.5 * np.square(away - away.min())).clip(1e-6)
    np.testing.assert_allclose(anchor.forecasts._trust(dose_query(2.0), np.arange(6)), expected, rtol=1e-4)


def test_dosages_on_either_side_count_the_same(build: Callable[..., Populations]) -> None:
    trust = dose_anchor(build).forecasts._trust(dose_query(np.sqrt(1.05 * 10.05) - 0.05), np.arange(6))
    np.testing.assert_allclose(trust[2:4], trust[4:6])
    assert trust[:2].max() < trust[2:].min()


def test_one_dosage_everywhere_is_no_information(populations: Populations) -> None:
    anchor = ShiftAnchor(populations, nonnegative=False)
    query = anchor.populations.query(0)
    np.testing.assert_array_equal(anchor.shift(query), anchor.shift(query._replace(dosage=99.0)))


def test_decreases_are_shares_of_what_is_expressed() -> None:
    shift = np.array([-1.0, -1.0, 0.5, -4.0])
    found = share_of_expression(shift, np.array([6.0, 0.0, 6.0, 6.0]), np.full(4, 2 - 1e-3))
    reach = 2 + 4 * 2**2 / (2**2 + 0.1**2)  # what exceeds the level of the sources is not quite trusted
    np.testing.assert_allclose(found, [-reach / 2, 0.0, 0.5, -reach])
    less = share_of_expression(shift, np.full(4, 1.5), np.full(4, 2 - 1e-3))
    np.testing.assert_allclose(less, [-0.75, -0.75, 0.5, -1.5])


def test_a_marker_of_the_target_does_not_vanish_because_its_noise_fell() -> None:
    """Sources express 0.02 of a gene, and by chance all of it is gone; the target expresses 3."""
    found = share_of_expression(np.array([-0.02]), np.array([3.0]), np.array([0.02]))
    assert -0.2 < found[0] < -0.02
