"""Entropic optimal transport between populations of cells, as differentiable functions of tensors.

Cells x_i and y_j have weights a_i and b_j that sum to 1 and a cost C_ij, their distance or its square. A plan P says
how much of each cell goes where; its rows sum to a and its columns to b::

    entropic cost         OT(x, y) = min_P  sum_ij P_ij C_ij + epsilon KL(P | a b^T)        entropic_cost, sinkhorn_cost
    dual                  max_fg  sum_i a_i f_i + sum_j b_j g_j - epsilon (sum_ij P_ij - 1),
                          P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)
    Sinkhorn iteration    f_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon), then g from f in the same way
    plan                  the P of the minimum                                              entropic_plan
    divergence            OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2                            sinkhorn_divergence
    Monge gap             sum_i a_i C_ii - OT(x, y), for a map that sends x_i to y_i        monge_gap

The potentials f and g are found without gradient. At the optimum the dual does not change with them, so the gradient
of the cost is that of the dual with f and g held fixed: dOT / dC_ij = P_ij.
"""

from __future__ import annotations

from pertcast.transport._costs import Cost, pairwise_cost
from pertcast.transport._entropic import entropic_cost, entropic_plan, entropic_self_cost
from pertcast.transport._monge import monge_gap
from pertcast.transport._sinkhorn import sinkhorn_cost, sinkhorn_divergence

__all__ = [
    "Cost",
    "entropic_cost",
    "entropic_plan",
    "entropic_self_cost",
    "monge_gap",
    "pairwise_cost",
    "sinkhorn_cost",
    "sinkhorn_divergence",
]
