"""Which genes a predicted cell expresses."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["move_population", "nearest_rates", "switch_genes"]

_LEAST_SHARE = 1e-3


def move_population(rate: Tensor, level: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""Share of expressing cells and their level after the mean of a gene moved by a shift.

    The mean is rate times level. As for Poisson counts, :math:`-\log(1 - d)` of the rate d is proportional to the mean:
    rare genes change their rate, common ones their level. The new rate times the new level is the new mean, of which at
    least a thousandth of the old one is left.

    Parameters
    ----------
    rate
        Share of cells that express each gene, in (0, 1), [C, G].
    level
        Mean among those, positive, [C, G].
    shift
        Shift of the mean, [C, G].

    Returns
    -------
    Rate in (0, 1) and level, both [C, G].

    Examples
    --------
    >>> rate, level = move_population(torch.tensor([[0.5]]), torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    >>> rate, rate * level
    (tensor([[0.7500]]), tensor([[2.]]))
    """
    mean = (rate * level).clamp_min(torch.finfo(level.dtype).tiny ** 0.5)
    moved = torch.maximum(mean + shift, _LEAST_SHARE * mean)
    after = -torch.expm1(torch.log1p(-rate) * moved / mean)
    after = after.clamp(1e-6, 1 - 1e-6)
    return after, moved / after


def nearest_rates(probability: Tensor, rates: Tensor, *, n_genes: int = 300) -> Tensor:
    """Detection rates of the nearest training condition, by the genes that are most probably expressed.

    Parameters
    ----------
    probability
        Predicted probability that a gene is expressed, [C, G].
    rates
        Share of cells that express each gene in P training conditions, [P, G].
    n_genes
        Number of genes with the highest probabilities that are compared; all where there are fewer.

    Returns
    -------
    [C, G].

    Examples
    --------
    >>> rates = torch.tensor([[1.0, 0.0, 0.5], [0.5, 0.5, 0.5]])
    >>> nearest_rates(torch.tensor([[0.6, 0.4, 0.1]]), rates, n_genes=2)
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    top = probability.topk(min(n_genes, probability.shape[1]), dim=1).indices
    nearest = [
        (rates[:, genes] - wanted[genes]).square().sum(1).argmin()
        for wanted, genes in zip(probability, top, strict=True)
    ]
    return rates[torch.stack(nearest)]


def switch_genes(expressed: Tensor, before: Tensor, after: Tensor, uniform: Tensor) -> Tensor:
    """Switch genes of control cells on and off so that the share of expressing cells becomes another.

    Where the share falls, some of the expressing cells fall silent; where it rises, some of the silent ones express the
    gene; no more cells change than must. Cells are switched independently, genes that are not switched keep their
    joint pattern.

    Parameters
    ----------
    expressed
        Which genes the control cells express, bool [B, M, G].
    before
        Share of control cells that express each gene, [B, 1, G].
    after
        Wanted share, [B, 1, G].
    uniform
        Uniform random numbers, [B, M, G].

    Returns
    -------
    bool [B, M, G].

    Examples
    --------
    >>> expressed = torch.tensor([[[True], [False]]])
    >>> half, quarter, numbers = torch.tensor([[[0.5]]]), torch.tensor([[[0.25]]]), torch.tensor([[[0.6], [0.6]]])
    >>> switch_genes(expressed, half, quarter, numbers).tolist()
    [[[False], [False]]]
    """
    kept = (after / before.clamp_min(1e-6)).clamp_max(1)
    raised = ((after - before) / (1 - before).clamp_min(1e-6)).clamp_min(0)
    return uniform < torch.where(expressed, kept, raised)
