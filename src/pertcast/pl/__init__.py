"""Plots of predictions; they return Matplotlib axes and never call ``show``."""

from __future__ import annotations

from pertcast.pl._embedding import embedding
from pertcast.pl._mean_expression import mean_expression
from pertcast.pl._scores import scores

__all__ = ["embedding", "mean_expression", "scores"]
