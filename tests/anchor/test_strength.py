from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pertcast.anchor import Populations, ShiftProcess
from pertcast.anchor._strength import fit_strengths

if TYPE_CHECKING:
    from collections.abc import Callable

    type Build = Callable[..., Populations]

N_GENES = 50
CONTEXTS = np.random.default_rng(0).normal(size=(4, 2))
TRUE = {"A": 0.02, "B": 1.0, "C": 20.0, "D": 0.02, "E": 1.0}


def simulate(build: Build, strength: dict[str, float]) -> Populations:
    """Perturbations of different strength in four contexts, alike everywhere but for noise of variance 0.1."""
    rng = np.random.default_rng(1)
    shifts = {
        name: np.sqrt(size) * rng.normal(size=N_GENES) + np.sqrt(0.1) * rng.normal(size=(4, N_GENES))
        for name, size in strength.items()
    }
    return build(shifts, CONTEXTS, n_cells=10, cell_variance=1.0)


@pytest.fixture
def populations(build: Build) -> Populations:
    """Five perturbations."""
    return simulate(build, TRUE)


def fitted(populations: Populations) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Strengths, and the two parts of the covariance they were fitted with."""
    own = np.ones((len(populations), len(populations)))
    rest = 0.1 * np.eye(len(populations))
    second = populations.shift @ populations.shift.T / N_GENES
    return fit_strengths(populations.conditions, own, rest, second, N_GENES), own, rest


def test_strengths_are_those_of_the_simulation(populations: Populations) -> None:
    found, *_ = fitted(populations)
    for name, size in TRUE.items():  # 50 genes: a variance is known to a fifth; the prior pulls a little towards 1
        assert abs(np.log(found[name] / size)) < np.log(2)
    assert found["C"] > 5 * found["B"] > 20 * found["A"]


@pytest.mark.parametrize("with_combinations", [False, True])
def test_they_maximise_the_posterior(build: Build, populations: Populations, *, with_combinations: bool) -> None:
    if with_combinations:  # F was never alone: it explains most of its combinations, with the strength 1
        rng = np.random.default_rng(4)
        of_f = rng.normal(size=N_GENES)
        shifts = {name: np.stack(populations.shift[populations.rows_of[(name,)]]) for name in TRUE}
        together = {f"{name}+F": shifts[name] + of_f for name in ("A", "B", "D")}
        populations = build(shifts | together, CONTEXTS, n_cells=10, cell_variance=1.0)
    found, own, rest = fitted(populations)
    names = sorted(found)
    assert names == sorted(TRUE)
    member = np.array([[float(name in parts) for name in [*names, "F"]] for parts in populations.perturbation])

    def posterior(log_strength: np.ndarray) -> float:
        covariance = (member * np.append(np.exp(log_strength), 1.0)) @ member.T * own + rest
        likelihood = multivariate_normal(cov=covariance).logpdf(populations.shift.T).sum()
        return likelihood - 0.5 * np.square(log_strength).sum()

    best = np.log([found[name] for name in names])
    for step in 0.05 * np.eye(len(names)):
        assert posterior(best) > max(posterior(best + step), posterior(best - step))


def test_parts_of_combinations_alone_keep_the_common_strength(build: Build) -> None:
    rng = np.random.default_rng(2)
    shifts = {name: rng.normal(size=(4, N_GENES)) for name in ("A", "B", "A+C", "C+D")}
    process = ShiftProcess(build(shifts, CONTEXTS))
    assert set(process.kernel.strength) == {"A", "B"}


def test_one_perturbation_has_no_relative_strength(build: Build) -> None:
    process = ShiftProcess(build({"A": np.random.default_rng(3).normal(size=(4, N_GENES))}, CONTEXTS))
    assert process.kernel.strength == {}


def test_weak_perturbations_are_shrunk_and_strong_ones_are_not(populations: Populations) -> None:
    process = ShiftProcess(populations)
    kept = {}
    for row in (0, 8):  # A and C in the first context, forecast from the other contexts
        rows = np.array([other for other in range(len(populations)) if populations.context[other] != "c0"])
        query = process.conditions.take(np.array([row]))
        used, weights = process.weights(query, rows)
        forecast, measured = weights.sum(0) @ populations.shift[used], populations.shift[row]
        kept[populations.perturbation[row]] = float(forecast @ forecast / (measured @ measured))
    assert kept[("C",)] > 0.9
    assert kept[("A",)] < 0.3


def test_relative_strengths_do_not_depend_on_how_many_are_fitted_at_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    populations = simulate(build, TRUE | {name.lower(): size for name, size in TRUE.items()})
    n_fitted: list[int] = []

    def counted(conditions: Any, *args: Any) -> dict[str, float]:
        n_fitted.append(len(conditions.perturbation))
        return fit_strengths(conditions, *args)

    monkeypatch.setattr("pertcast.anchor._process.fit_strengths", counted)
    together = ShiftProcess(populations).kernel.strength
    monkeypatch.setattr("pertcast.anchor._process._MAX_FITTED", 20)
    apart = ShiftProcess(populations).kernel.strength
    assert n_fitted == [40, 20, 20]
    # The variance is fitted to fewer populations too, and the strengths are relative to it: one factor for all of them.
    # It moves them against the prior around 1, which says little where four contexts of 50 genes say much: by 6 % here.
    # The two weak perturbations of each half are below the noise, and only their order of magnitude is known.
    clear = [name for name in together if TRUE[name.upper()] >= 1]
    ratio = np.array([apart[name] / together[name] for name in clear])
    assert len(clear) == 6
    assert ratio.max() < 1.15 * ratio.min()
    for found in (together, apart):
        weak = max(size for name, size in found.items() if name not in clear)
        assert weak < 0.2 * min(found[name] for name in clear)
