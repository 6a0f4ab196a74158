r"""Closed-form forecasts of the mean shift of a population: the anchor that PerturbDiff starts from.

Only means of populations are used, so an anchor is fitted in seconds, and each training population can be forecast
from the others, which is how every choice below is made::

    process      Gaussian process over conditions: shift = any perturbation + its own + by its vector + by combination,
                 each in all contexts, in similar ones, or linear in their state; noise of both means      ShiftProcess
    weights      or w = uniform, exp(-d / (a median d)), ridge on the state, over the same perturbation  source_weights
    response     and shift = sum_j w_j (treated_j - control_j); for counts a decrease scales with expression   response
    correction   + f(what the sources say about the gene), one f for all genes, boosted trees            GeneCorrection
    own gene     + what perturbations of genes do to the gene itself                                            OwnGene
    errors       how far off training populations are that are left out                                 forecast_errors
"""

from __future__ import annotations

from pertcast.anchor._anchor import ShiftAnchor
from pertcast.anchor._conditions import Conditions
from pertcast.anchor._correction import GeneCorrection
from pertcast.anchor._errors import ForecastError, forecast_errors
from pertcast.anchor._forecasts import Transfer
from pertcast.anchor._kernel import ConditionKernel
from pertcast.anchor._own_gene import OwnGene
from pertcast.anchor._populations import Populations
from pertcast.anchor._process import ShiftProcess
from pertcast.anchor._query import AnchorQuery
from pertcast.anchor._regimes import REGIMES, Regime
from pertcast.anchor._response import gene_features, response, share_of_expression
from pertcast.anchor._weights import WEIGHTINGS, Weighting, source_weights

__all__ = [
    "REGIMES",
    "WEIGHTINGS",
    "AnchorQuery",
    "ConditionKernel",
    "Conditions",
    "ForecastError",
    "GeneCorrection",
    "OwnGene",
    "Populations",
    "Regime",
    "ShiftAnchor",
    "ShiftProcess",
    "Transfer",
    "Weighting",
    "forecast_errors",
    "gene_features",
    "response",
    "share_of_expression",
    "source_weights",
]
