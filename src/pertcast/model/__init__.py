"""The models that users call."""

from __future__ import annotations

from pertcast.model._perturbdiff import PerturbDiff

__all__ = ["PerturbDiff"]
