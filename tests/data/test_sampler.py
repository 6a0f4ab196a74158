from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from pertcast.data import (
    ConditionIndex,
    MatchedControls,
    PopulationSampler,
    SequentialPopulations,
    SetRequest,
    match_controls,
)

SIZES = {"control": 40, "A": 30, "B": 8, "C": 3}


@pytest.fixture
def index() -> ConditionIndex:
    codes = np.repeat(np.arange(4), list(SIZES.values()))
    return ConditionIndex.from_codes(np.random.default_rng(0).permutation(codes), list(SIZES))


@pytest.fixture
def controls(index: ConditionIndex) -> MatchedControls:
    return match_controls(index)


def make(index: ConditionIndex, controls: MatchedControls, **arguments: Any) -> PopulationSampler:
    defaults: dict[str, Any] = {"n_sets": 2, "set_size": 8, "n_controls": 10, "steps_per_epoch": 15}
    return PopulationSampler(index.groups, controls, index.perturbed, **(defaults | arguments))


def flat(requests: list[SetRequest]) -> np.ndarray:
    return np.concatenate([np.concatenate([part.reshape(-1) for part in request]) for request in requests])


def test_rows_belong_to_their_condition_and_its_controls(index: ConditionIndex, controls: MatchedControls) -> None:
    for request in make(index, controls):
        assert request.target.shape == (2, 8)
        assert request.control.shape == (2, 10)
        for condition, target, control in zip(*request, strict=True):
            assert set(target[target >= 0]) <= set(index.rows(condition))
            assert set(control) <= set(controls.rows(condition))


def test_no_cell_twice_and_small_populations_give_all_their_cells(
    index: ConditionIndex, controls: MatchedControls
) -> None:
    for request in make(index, controls):
        for condition, target, mask in zip(request.condition, request.target, request.target_mask, strict=True):
            drawn = target[mask]
            assert len(np.unique(drawn)) == len(drawn) == min(8, len(index.rows(condition)))
            if len(index.rows(condition)) <= 8:
                np.testing.assert_array_equal(np.sort(drawn), index.rows(condition))
            assert (target[~mask] == -1).all()
        assert request.control_mask.all()
        assert all(len(set(row)) == 10 for row in request.control)


def test_conditions_come_in_passes(index: ConditionIndex, controls: MatchedControls) -> None:
    drawn = np.concatenate([request.condition for request in make(index, controls, steps_per_epoch=16)])
    for start in range(0, len(drawn) - 2, 3):
        assert set(drawn[start : start + 3]) == set(index.perturbed)
    counts = np.bincount(drawn)[index.perturbed]
    assert counts.max() - counts.min() <= 1


def test_every_cell_is_drawn_equally_often(index: ConditionIndex, controls: MatchedControls) -> None:
    """8 of 30 cells a set: counts are binomial, and their chi-square has 30 - 1 degrees of freedom times 1 - 8/30."""
    sampler = PopulationSampler(
        index.groups, controls, index.perturbed[:1], n_sets=4, set_size=8, n_controls=10, steps_per_epoch=500
    )
    counts = np.bincount(np.concatenate([request.target.reshape(-1) for request in sampler]))
    counts = counts[index.rows(index.perturbed[0])]
    n_sets = 2000
    expected = n_sets * 8 / 30
    statistic = ((counts - expected) ** 2 / (expected * (1 - 8 / 30))).sum() * 29 / 30
    assert 10 < statistic < 56  # 0.0005 and 0.998 quantiles of chi-square with 29 degrees of freedom


def test_epoch_and_seed_decide_the_stream(index: ConditionIndex, controls: MatchedControls) -> None:
    sampler = make(index, controls)
    first = flat(list(sampler))
    np.testing.assert_array_equal(flat(list(sampler)), first)
    np.testing.assert_array_equal(flat(list(make(index, controls))), first)
    sampler.set_epoch(1)
    assert not np.array_equal(flat(list(sampler)), first)
    sampler.set_epoch(0)
    np.testing.assert_array_equal(flat(list(sampler)), first)
    assert not np.array_equal(flat(list(make(index, controls, seed=1))), first)


def test_global_random_state_is_left_alone(index: ConditionIndex, controls: MatchedControls) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    list(make(index, controls))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_ranks_take_as_many_steps_and_draw_their_own_streams(index: ConditionIndex, controls: MatchedControls) -> None:
    streams = [list(make(index, controls, num_replicas=3, rank=rank)) for rank in range(3)]
    assert [len(stream) for stream in streams] == [15, 15, 15]
    assert len({flat(stream).tobytes() for stream in streams}) == 3
    np.testing.assert_array_equal(flat(streams[0]), flat(list(make(index, controls))))
    large = int(index.perturbed[0])
    sets = [
        {frozenset(row) for request in stream for row in request.target[request.condition == large]}
        for stream in streams
    ]
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]


def test_rank_is_asked_for_when_an_epoch_starts(
    index: ConditionIndex, controls: MatchedControls, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = make(index, controls)
    expected = flat(list(make(index, controls, num_replicas=4, rank=2)))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    np.testing.assert_array_equal(flat(list(sampler)), expected)
    assert (sampler.num_replicas, sampler.rank) == (4, 2)


def test_lightning_leaves_the_sampler_alone(index: ConditionIndex, controls: MatchedControls) -> None:
    """Lightning wraps samplers that are not DistributedSampler; the validation sampler is meant to be wrapped."""
    assert isinstance(make(index, controls), DistributedSampler)
    sequential = SequentialPopulations(index.groups, controls, index.perturbed, n_sets=2, set_size=8, n_controls=10)
    assert not isinstance(sequential, DistributedSampler)


@pytest.mark.parametrize("name", ["n_sets", "set_size", "n_controls", "steps_per_epoch"])
def test_sizes_must_be_positive(index: ConditionIndex, controls: MatchedControls, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, but found 0"):
        make(index, controls, **{name: 0})


def test_bad_arguments(index: ConditionIndex, controls: MatchedControls) -> None:
    with pytest.raises(ValueError, match="Give both"):
        make(index, controls, rank=1)
    with pytest.raises(ValueError, match="no conditions"):
        PopulationSampler(index.groups, controls, [], n_sets=1, set_size=1, n_controls=1, steps_per_epoch=1)


def test_sequential_gives_each_condition_once_and_the_same_each_time(
    index: ConditionIndex, controls: MatchedControls
) -> None:
    arguments: dict[str, Any] = {"set_size": 8, "n_controls": 10, "seed": 3}
    pairs = SequentialPopulations(index.groups, controls, index.perturbed, n_sets=2, **arguments)
    assert len(pairs) == len(list(pairs)) == 2
    np.testing.assert_array_equal(np.concatenate([request.condition for request in pairs]), index.perturbed)
    np.testing.assert_array_equal(flat(list(pairs)), flat(list(pairs)))
    singles = SequentialPopulations(index.groups, controls, index.perturbed[::-1], n_sets=1, **arguments)
    by_condition = {int(request.condition[0]): request for request in singles}
    for request in pairs:
        for condition, target, control in zip(*request, strict=True):
            np.testing.assert_array_equal(by_condition[condition].target[0], target)
            np.testing.assert_array_equal(by_condition[condition].control[0], control)
    other = SequentialPopulations(index.groups, controls, index.perturbed, n_sets=2, **(arguments | {"seed": 4}))
    assert not np.array_equal(flat(list(other)), flat(list(pairs)))


def test_sequential_draws_differ_between_conditions(index: ConditionIndex, controls: MatchedControls) -> None:
    """All conditions share one group of controls, so equal draws would mean equal generators."""
    sampler = SequentialPopulations(index.groups, controls, index.perturbed, n_sets=3, set_size=8, n_controls=10)
    (request,) = sampler
    assert len({frozenset(row) for row in request.control}) == 3


class Echo(Dataset[SetRequest]):
    def __getitem__(self, request: SetRequest) -> SetRequest:
        return request


@pytest.mark.parametrize("num_workers", [0, 2])
def test_requests_reach_the_dataset_through_a_loader(
    index: ConditionIndex, controls: MatchedControls, num_workers: int
) -> None:
    sampler = make(index, controls, steps_per_epoch=4)
    loader = DataLoader(Echo(), sampler=sampler, batch_size=None, num_workers=num_workers)
    for found, expected in zip(loader, sampler, strict=True):
        np.testing.assert_array_equal(np.asarray(found.target), expected.target)
