"""Dosages as networks read them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from pertcast._log_dosage import LogDosage


def test_logs_of_dosages_and_half_the_smallest_positive_one_are_standardised() -> None:
    dosages = np.array([0.0, 0.5, 2.0, 8.0])
    scale = LogDosage()
    scale.fit(dosages)
    expected = StandardScaler().fit_transform(np.log(dosages + 0.25)[:, None])[:, 0]
    assert scale(torch.from_numpy(dosages).float()).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("dosages", "offset"), [([3.0, 3.0], 1.5), ([0.0, 0.0], 1.0)])
def test_equal_dosages_are_only_centred(dosages: list[float], offset: float) -> None:
    scale = LogDosage()
    scale.fit(dosages)
    assert scale.offset.item() == offset
    assert scale(torch.tensor([dosages[0], 10.0])).tolist() == pytest.approx(
        [0.0, np.log((10 + offset) / (dosages[0] + offset))], abs=1e-6
    )
