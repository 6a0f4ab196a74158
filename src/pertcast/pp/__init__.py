"""Preparing a screen: splits for honest evaluation."""

from __future__ import annotations

from pertcast.pp._check import check_split
from pertcast.pp._split import split

__all__ = ["check_split", "split"]
