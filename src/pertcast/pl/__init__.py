"""Plots of screens, predictions and scores.

Functions take AnnData or data frames and the names of columns, draw on ``ax`` or on a new figure, and return the
Matplotlib axes. They never change the style of other plots. Colours are fixed: control is grey, observed blue and
predicted orange; in plots of scores baselines are grey, models orange, and the noise ceiling is blue.
"""

from __future__ import annotations

from pertcast.pl._denoising_trajectory import denoising_trajectory
from pertcast.pl._distance_matrix import distance_matrix
from pertcast.pl._dotplot import dotplot
from pertcast.pl._effect_heatmap import effect_heatmap
from pertcast.pl._embedding import embedding
from pertcast.pl._gene_distribution import gene_distribution
from pertcast.pl._mean_expression import mean_expression
from pertcast.pl._population_spread import population_spread
from pertcast.pl._score_table import score_table
from pertcast.pl._scores import scores
from pertcast.pl._training_history import training_history

__all__ = [
    "denoising_trajectory",
    "distance_matrix",
    "dotplot",
    "effect_heatmap",
    "embedding",
    "gene_distribution",
    "mean_expression",
    "population_spread",
    "score_table",
    "scores",
    "training_history",
]
