r"""Closed-form forecasts of the mean shift of a population: the anchor that PerturbDiff starts from.

The shift of the mean in a context that was not perturbed is estimated from the contexts that were. Only means of
populations are used, so an anchor is fitted in seconds, and each training population can be forecast from the others
(leave one context out), which is how every choice below is made::

    weights      w = uniform, exp(-d / (a median d)), or ridge regression on the state of the controls  source_weights
    response     shift = sum_j w_j (treated_j - control_j); for counts a decrease scales with expression   response
    correction   shift + f(what the sources say about the gene), one f for all genes, boosted trees     GeneCorrection
    combination  sum of the parts times a factor fitted on measured combinations                         ShiftAnchor
    unseen       ridge regression on the vectors of perturbations                                   EmbeddingRegression
"""

from __future__ import annotations

from pertcast.anchor._anchor import AnchorQuery, ShiftAnchor
from pertcast.anchor._correction import GeneCorrection
from pertcast.anchor._embedding import EmbeddingRegression
from pertcast.anchor._populations import Populations
from pertcast.anchor._response import gene_features, response
from pertcast.anchor._weights import WEIGHTINGS, Weighting, source_weights

__all__ = [
    "WEIGHTINGS",
    "AnchorQuery",
    "EmbeddingRegression",
    "GeneCorrection",
    "Populations",
    "ShiftAnchor",
    "Weighting",
    "gene_features",
    "response",
    "source_weights",
]
