"""Comparing predicted with measured populations."""

from __future__ import annotations

from pertcast.tl._energy import energy_distance
from pertcast.tl._shift import mean_shift, shift_pearson

__all__ = ["energy_distance", "mean_shift", "shift_pearson"]
