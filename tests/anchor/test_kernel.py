"""Terms of the covariance of shifts, and forecasts of the process, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pertcast.anchor import AnchorQuery, ConditionKernel, Populations, ShiftAnchor, ShiftProcess, share_of_expression
from pertcast.anchor._forecasts import Forecasts

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]

STATES = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
VECTORS = {"A": np.array([1.0, 7.0]), "B": np.array([3.0, 5.0]), "C": np.array([2.0, 9.0]), "D": np.array([0.0, 0.0])}


@pytest.fixture
def populations(build: Build) -> Populations:
    """Three perturbations in three contexts."""
    rng = np.random.default_rng(0)
    control_mean = rng.uniform(0.5, 5, size=(3, 4))
    return build({name: rng.normal(size=(3, 4)) for name in "ABC"}, STATES, control_mean=control_mean)


def term(kernel: ConditionKernel, populations: Populations, of_perturbation: str, of_context: str) -> np.ndarray:
    conditions = populations.conditions
    place = kernel.perturbation_terms.index(of_perturbation) * len(kernel.context_terms)
    return kernel.terms(conditions, conditions)[place + kernel.context_terms.index(of_context)]


def test_linear_term_is_the_product_of_centred_states_in_units_of_their_mean_square(populations: Populations) -> None:
    centred = STATES - STATES.mean(0)
    expected = centred @ centred.T / np.square(centred).sum(1).mean()
    found = term(ConditionKernel(populations), populations, "any", "linear")
    np.testing.assert_allclose(found, np.tile(expected, (3, 3)))


def test_vector_term_is_the_product_of_vectors_centred_on_the_measured_ones(populations: Populations) -> None:
    table = np.stack([VECTORS[name] for name in "ABC"])
    centred = table - table.mean(0)
    centred /= np.sqrt(np.square(centred).sum(1).mean())
    found = term(ConditionKernel(populations, VECTORS), populations, "vector", "all")
    np.testing.assert_allclose(found, np.repeat(np.repeat(centred @ centred.T, 3, 0), 3, 1))


def test_vector_term_follows_the_dose_response_curve(build: Build) -> None:
    rng = np.random.default_rng(0)
    names = {"A@low": 0.1, "A@high": 10.0, "B@low": 0.1, "C@high": 10.0}
    populations = build({name: rng.normal(size=(3, 4)) for name in names}, STATES, dosage=names)
    kernel = ConditionKernel(populations, VECTORS)
    vectors = np.stack([kernel.vectors[name[0]] for name in names])
    curve = kernel.dosages.of_curves(populations.dosage, populations.dosage)
    assert curve.std() > 0.01
    expected = np.repeat(np.repeat(vectors @ vectors.T, 3, 0), 3, 1) * curve
    np.testing.assert_allclose(term(kernel, populations, "vector", "all"), expected)


def test_conditions_with_the_same_controls_share_the_noise_of_all_of_them(populations: Populations) -> None:
    n_control = np.array([10, 20, 40, 50, 20, 40, 10, 20, 80])
    counted = replace(populations, n_control=n_control).conditions
    found = ConditionKernel(populations).shared_controls(counted, counted)
    same = populations.context[:, None] == populations.context[None]
    # Where a part of the controls was counted for one condition, the noise of the other is that of more of them.
    np.testing.assert_allclose(found, same / np.maximum(n_control[:, None], n_control[None]))


@pytest.mark.parametrize("nonnegative", [False, True])
def test_forecast_of_the_process_is_what_conditions_show_and_what_their_controls_share(
    populations: Populations, nonnegative: bool
) -> None:
    few = replace(populations, n_control=np.full(9, 5), n_perturbed=np.full(9, 8))
    process = ShiftProcess(few)
    control = np.array([0.5, 1.0, 4.0, 9.0])
    query = AnchorQuery(("A",), 1.0, control, np.array([5.0, -9.0]), "c1", "batch", 5)
    rows, (signal, noise) = process.weights(query.conditions, np.arange(9))
    assert signal.min() < 0 < np.abs(noise @ few.shift[rows]).max()
    expected = signal @ few.shift[rows]
    if nonnegative:
        size = np.abs(signal) / np.abs(signal).sum()
        level = size @ few.control_mean[few.group[rows]]
        expected = share_of_expression(expected, control, level)
    expected = expected + noise @ few.shift[rows]
    found = Forecasts(few, process, nonnegative=nonnegative).by_process(query, np.arange(9))
    np.testing.assert_allclose(found, expected)


def test_no_more_is_lost_than_is_expressed(build: Build) -> None:
    fall = {name: np.full((3, 4), -5.0) for name in "AB"}
    populations = build(fall, STATES, n_cells=4)
    control = np.array([0.0, 0.1, 1.0, 7.0])
    query = AnchorQuery(("C",), 1.0, control, STATES[1], "c1", "batch", 4)
    anchor = ShiftAnchor(populations, nonnegative=True)
    unbounded = anchor.forecasts.by_process(query, np.arange(6))
    assert (unbounded < -control).any()  # noise of the controls is forecast in full
    np.testing.assert_allclose(anchor.shift(query), np.maximum(unbounded, -control))
