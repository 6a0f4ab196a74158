"""Simple predictions that a model must beat, with the verbs of a model: setup_anndata, train and predict."""

from __future__ import annotations

from pertcast.baselines._additive_shift import AdditiveShift
from pertcast.baselines._base import Baseline
from pertcast.baselines._bilinear_ridge import BilinearRidge
from pertcast.baselines._context_mean import ContextMean
from pertcast.baselines._context_weighted import ContextWeightedShift
from pertcast.baselines._latent_additive import LatentAdditive
from pertcast.baselines._latent_shift import LatentShift
from pertcast.baselines._matching_mean import MatchingMean
from pertcast.baselines._nearest_neighbours import NearestNeighbours
from pertcast.baselines._no_effect import NoEffect
from pertcast.baselines._perturbation_shift import PerturbationShift
from pertcast.baselines._perturbed_mean import PerturbedMean

__all__ = [
    "AdditiveShift",
    "Baseline",
    "BilinearRidge",
    "ContextMean",
    "ContextWeightedShift",
    "LatentAdditive",
    "LatentShift",
    "MatchingMean",
    "NearestNeighbours",
    "NoEffect",
    "PerturbationShift",
    "PerturbedMean",
]
