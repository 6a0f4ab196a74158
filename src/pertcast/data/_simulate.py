"""Simulated single-cell perturbation screens with a known truth."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pertcast._numbers import check_whole
from pertcast.data._simulate_cells import UNS_KEY, describe_populations, sample_cells
from pertcast.data._simulate_design import (
    ScreenDesign,
    check_amount,
    check_combinations,
    check_dosages,
)
from pertcast.data._simulate_parameters import Streams, choose_pairs, draw_truth
from pertcast.data._simulate_truth import Population

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from pertcast.data._simulate_truth import ScreenTruth

__all__ = ["simulate_screen"]


def simulate_screen(
    n_cells_per_condition: int = 50,
    *,
    n_genes: int = 1000,
    n_cell_types: int = 4,
    n_donors: int = 3,
    n_batches: int = 2,
    n_perturbations: int = 6,
    n_programmes: int = 8,
    combinations: bool | int | None = None,
    dosages: Sequence[float] | None = None,
    effect_size: float = 1.0,
    interaction: float = 0.5,
    latent_sd: float = 0.3,
    state_sd: float = 0.5,
    donor_sd: float = 0.15,
    batch_sd: float = 0.1,
    dispersion: float = 0.2,
    median_counts: float = 1000.0,
    seed: int = 0,
) -> AnnData:
    r"""Simulate a single-cell perturbation screen whose truth is known.

    The screen is a full cross: control and every perturbation, dosage, cell type and donor. Such a combination is a
    *population*; its cells are split evenly over the batches. Cells are rows in the order of the table of
    populations.

    Parameters
    ----------
    n_cells_per_condition
        Cells in each population, over all batches.
    n_genes
        G, at least 20.
    n_cell_types
        Number of cell types, at least 1.
    n_donors
        Number of donors, at least 1.
    n_batches
        Number of batches, at least 1. With one there is no batch effect.
    n_perturbations
        Number of single perturbations, at least 1.
    n_programmes
        Number of response programmes that the perturbations share, at least 1. Marker, receptor, state and private
        programmes come on top.
    combinations
        Pairs of perturbations to add to the singles: `True` for all pairs, `False` or 0 for none, otherwise how many.
        `None` means four, or all pairs where there are fewer.
    dosages
        Positive dosages, in arbitrary units, at which every perturbation and combination is given (both parts of a
        combination at the same one). `None` means one dosage, 1.0. Control has dosage 0.
    effect_size
        Scale of the log fold changes. At 1, a gene of a responding programme changes by 0.4 to 2.2 (natural log) at
        full strength. 0 means that no perturbation does anything.
    interaction
        Strength of synergy and buffering, in [0, 1]. 0 makes combinations additive.
    latent_sd
        Standard deviation of the response factor between populations. 0 means that a condition always responds alike.
    state_sd
        Standard deviation of the state of cells within a population.
    donor_sd
        Standard deviation of the log-rates between donors.
    batch_sd
        Standard deviation of the log capture rate of a gene between batches.
    dispersion
        Median of the negative binomial dispersion over genes. 0 means Poisson counts.
    median_counts
        Median library size: about the median number of counts of a control cell.
    seed
        The same arguments and seed give the same data. Each part of the model has its own stream of random numbers:
        the number of cells, for example, does not change the programmes.

    Returns
    -------
    Cells x genes, with

    * `X`: float32 CSR, counts normalised to 10,000 a cell, then `log1p`
    * `layers["counts"]`: int32 CSR
    * `obs`: categories `perturbation` (`control`, `pert_0`, `pert_0+pert_1`), `cell_type`, `donor`, `batch`; numbers
      `dosage`, `n_counts`
    * `var`: `programme`, the one in which the gene has its largest loading, and the `programme_role` of it: marker,
      receptor, state, response or private; `none` for genes in no programme
    * `uns["simulation"]`: the truth. `populations` is a table with the condition, the response factor `latent` and
      `n_cells`; `rates` holds its expected rates (populations x `genes`); `parameters` the arguments of the call; the
      other entries are the parameters of the model, named in the notes. All of it can be written to h5ad.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range, or the mean counts grow too large for int32.

    See Also
    --------
    simulate_population : draw new cells of any condition, measured or not, from the same model.

    Notes
    -----
    Cell :math:`i` of type :math:`c` from donor :math:`d` in batch :math:`h`, given the perturbations :math:`S` (none,
    one or two) at dosage :math:`u`, has in gene :math:`g` a count

    .. math::

        y_{ig} \sim \mathrm{NB}(\mathrm{mean} = L_i \rho_{ig},\; \mathrm{dispersion} = \varphi_g), \qquad
        \log L_i \sim N(\log \mathtt{median\_counts}, 0.35^2)

        \log \rho_{ig} = b_g + o_{dg} + \kappa_{hg} - \log Z_{cd} + \sum_k x_{ik} W_{kg}

    with sparse programme loadings :math:`W` (`loadings`), `baseline` :math:`b_g \sim N(0, 2.5^2)` cut at 2 standard
    deviations, `donor_offsets` :math:`o`, `batch_offsets` :math:`\kappa` and the `log_scale` :math:`\log Z_{cd}` that
    makes the expected rates of control cells sum to one. The negative binomial is drawn as Gamma-Poisson, its
    variance is :math:`\mu + \varphi_g \mu^2`; there is no other source of zeros. A cell's programme activity is

    .. math::

        x_{ik} = x^{basal}_{cdk} + s_{ik}
                 + \lambda \Big(1 + q_k \prod_{p \in S} a_{ip}\Big) \sum_{p \in S} a_{ip} E_{pk}

        a_{ip} = \frac{u^{n_p}}{u^{n_p} + \mathrm{EC50}_p^{n_p}} \cdot
                 \frac{1}{1 + \exp(-\gamma_p (z_i - \theta_p))}

    * :math:`x^{basal}`: one for the marker programme of the cell's own type, and for the receptor programme the level
      of the type, evenly spaced over (-1.25, 1.25) (both in `basal`), plus that of the donor (`donor_receptor`).
    * :math:`s_{ik}`: state of the cell, :math:`N(0, \mathtt{state\_sd}^2)` for the receptor and two state programmes,
      otherwise 0. Genes of a programme are therefore correlated.
    * :math:`z_i`: receptor activity of the cell, basal level plus state. It is visible in control
      cells and sets how strongly type, donor and cell respond (:math:`\theta`, :math:`\gamma`: `threshold`, `slope`
      of each perturbation), which makes an unseen cell type predictable.
    * :math:`u`: dosage; :math:`\mathrm{EC50}_p` and the exponent :math:`n_p`: `ec50` (log-normal around half the
      geometric mean of the dosages) and `hill`.
    * `effects` :math:`E_{pk}`: up to three response programmes and one private programme for each perturbation.
    * :math:`q_k`: `interaction` of the programme in combinations (the factor holds for two or more parts): synergy
      for a quarter of the response programmes, buffering for a quarter, none for the others.
    * :math:`\lambda`: response factor of the population, log-normal with mean 1 and standard deviation `latent_sd`.
      Nothing in the control cells tells it: the same condition has a distribution of responding populations, as in
      PerturbDiff [1]_.

    The expected rate of a population is :math:`E[y_{ig}] / E[L_i]`, the mean over its cells and batches. Expected
    rates of a perturbed population need not sum to one: the RNA content may change.

    References
    ----------
    .. [1] PerturbDiff, arXiv:2602.19685.

    Examples
    --------
    >>> from pertcast.data import simulate_screen
    >>> adata = simulate_screen(10, n_genes=100, n_cell_types=2, n_perturbations=2, combinations=True, seed=0)
    >>> adata.shape
    (240, 100)
    >>> list(adata.obs["perturbation"].cat.categories)
    ['control', 'pert_0', 'pert_0+pert_1', 'pert_1']
    >>> adata.uns["simulation"]["rates"].shape
    (24, 100)
    """
    design = ScreenDesign(
        n_cells_per_condition=check_whole("n_cells_per_condition", n_cells_per_condition),
        n_genes=check_whole("n_genes", n_genes, least=20),
        n_cell_types=check_whole("n_cell_types", n_cell_types),
        n_donors=check_whole("n_donors", n_donors),
        n_batches=check_whole("n_batches", n_batches),
        n_perturbations=check_whole("n_perturbations", n_perturbations),
        n_programmes=check_whole("n_programmes", n_programmes),
        n_combinations=check_combinations(combinations, n_perturbations),
        dosages=check_dosages(dosages),
        effect_size=check_amount("effect_size", effect_size),
        interaction=check_amount("interaction", interaction, maximum=1.0),
        latent_sd=check_amount("latent_sd", latent_sd),
        state_sd=check_amount("state_sd", state_sd),
        donor_sd=check_amount("donor_sd", donor_sd),
        batch_sd=check_amount("batch_sd", batch_sd),
        dispersion=check_amount("dispersion", dispersion),
        median_counts=check_amount("median_counts", median_counts, positive=True),
        seed=check_whole("seed", seed, least=0),
    )
    streams = Streams.from_seed(design.seed)
    truth = draw_truth(design, streams)
    populations = _cross(design, truth, streams)
    n_cells = design.n_cells_per_condition
    batches = [(np.arange(n_cells) + i) % design.n_batches for i in range(len(populations))]
    adata = sample_cells(truth, populations, batches, streams.cells, prefix="cell")
    adata.uns[UNS_KEY] = {
        **truth.to_uns(),
        "populations": describe_populations(truth, populations, [n_cells] * len(populations)),
        "rates": np.stack([truth.expected_rates(population) for population in populations]),
        "parameters": design.to_uns(),
    }
    return adata


def _cross(design: ScreenDesign, truth: ScreenTruth, streams: Streams) -> list[Population]:
    """Cross control and every perturbation and dosage with cell types and donors, and draw the response factors."""
    contexts = list(product(range(design.n_cell_types), range(design.n_donors)))
    singles: list[tuple[int, ...]] = [(p,) for p in range(design.n_perturbations)]
    pairs = choose_pairs(design.n_perturbations, design.n_combinations, streams.pairs)
    perturbed = list(product(singles + pairs, design.dosages, contexts))
    latent = truth.draw_latent(len(perturbed), np.random.default_rng(streams.latent)).tolist()
    controls = [Population((), 0.0, *context) for context in contexts]
    return controls + [Population(p, u, *context, x) for (p, u, context), x in zip(perturbed, latent, strict=True)]
