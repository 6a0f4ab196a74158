"""Simple predictions that a model must beat, with the verbs of a model: setup_anndata, train and predict."""

from __future__ import annotations

from pertcast.baselines._context_weighted import ContextWeightedShift
from pertcast.baselines._no_effect import NoEffect
from pertcast.baselines._perturbation_shift import PerturbationShift

__all__ = ["ContextWeightedShift", "NoEffect", "PerturbationShift"]
