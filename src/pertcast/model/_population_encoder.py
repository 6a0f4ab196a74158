"""The population encoder as users call it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi.model.base import BaseModelClass

from pertcast._numbers import check_whole
from pertcast._seeds import seeded
from pertcast.data import (
    PopulationDataModule,
    ShiftTable,
    gather_rows,
    screen_from_manager,
    screen_metadata_from_registry,
)
from pertcast.data._saving import NO_DATA, SavingMixin
from pertcast.data._setup import ScreenSetupMixin
from pertcast.model._budget import default_budget, limit_budget, resolve_seed
from pertcast.model._data_checks import check_genes, check_sign
from pertcast.model._embedding import CellMixin, embedding_table
from pertcast.model._encode import encode_cells
from pertcast.model._generate import GenerateMixin
from pertcast.model._population_data import paired_with_itself, typical_distance, with_controls
from pertcast.model._runner import run_training, trained_or_as_before
from pertcast.model._statistics import fit_components, fit_space, is_nonnegative
from pertcast.model._train_checks import check_training
from pertcast.module import PopulationEncoderConfig, PopulationEncoderModule, replace_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data import ConditionSplit, Screen
    from pertcast.representation import PrincipalComponents

__all__ = ["PopulationEncoder"]

logger = logging.getLogger(__name__)


class PopulationEncoder(ScreenSetupMixin, CellMixin, GenerateMixin, SavingMixin, BaseModelClass):
    r"""Embeds whole populations, and generates the cells of a population from its embedding.

    The method of Generative Distribution Embeddings (arXiv 2505.18150): an encoder sees a sample of cells only through
    a mean over them, and a generator turns noise and the code of the sample into cells of the same population. Both
    are trained together. Distances between embeddings approximate 2-Wasserstein distances in the units of the data,
    and the straight line between two embeddings goes through populations between the two.

    Populations are the conditions of the screen: perturbation, dosage, cell type and batch. The controls are among
    them. The model does not forecast responses: it has no ``predict``.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    representation
        Space of cells and distances: ``"genes"`` (default), or ``"pca"``, in which generated cells have no residual.
    n_latent
        Axes of ``"pca"``.
    n_embedding
        Length of the embedding of a population.
    n_noise
        Principal axes along which cells are seen by the encoder and drawn by the generator.
    n_hidden
        Width of encoder and generator.
    n_layers
        Number of their layers.
    isometry_weight
        Weight of the stress, which makes distances of embeddings those of generated cells; 0 for none.
    set_size
        Cells of a sample.
    n_sets
        Populations of a training batch.
    learning_rate
        Peak learning rate.
    weight_decay
        Weight decay.
    ema_decay
        Decay of the averaged weights.
    min_cells
        Conditions with fewer cells are not trained on.
    nonnegative
        Whether expression cannot be negative; read from the data by default.
    seed
        Seed of weights and training; ``scvi.settings.seed``, or 0, by default.

    Raises
    ------
    TypeError
        If a value is of the wrong type.
    ValueError
        If a value is out of its range, no condition has enough cells, or a context has no controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=60, n_perturbations=2, combinations=0, seed=0)
    >>> pc.PopulationEncoder.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.PopulationEncoder(adata, n_embedding=8)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> embedding = model.get_population_embedding(groupby=["cell_type", "perturbation"])
    >>> embedding.shape
    (12, 8)
    >>> model.interpolate(embedding.iloc[0], embedding.iloc[1], steps=3, n_cells=10).n_obs
    30
    """

    module: PopulationEncoderModule
    split_: ConditionSplit

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        representation: Literal["genes", "pca"] = "genes",
        n_latent: int = 50,
        n_embedding: int = 32,
        n_noise: int = 64,
        n_hidden: int = 128,
        n_layers: int = 2,
        isometry_weight: float = 0.1,
        set_size: int = 64,
        n_sets: int = 8,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        ema_decay: float = 0.98,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        self.config = replace_values(PopulationEncoderConfig(), locals())
        BaseModelClass.__init__(self, adata, registry)
        self._screen: Screen | None = None
        self.min_cells, self.seed = check_whole("min_cells", min_cells, least=0), resolve_seed(seed)
        if adata is not None:
            check_genes(self.adata_manager)
            check_sign(self.adata_manager, nonnegative=nonnegative)
            self._screen = screen_from_manager(self.adata_manager, min_cells=min_cells)
            nonnegative = is_nonnegative(self._screen.X) if nonnegative is None else nonnegative
        n_genes = len(screen_metadata_from_registry(self.registry).var_names)
        with seeded(self.seed):
            self.module = PopulationEncoderModule(self.config, n_genes, nonnegative=bool(nonnegative))
        self._description = (
            f"PopulationEncoder with representation: {representation}, n_embedding: {n_embedding}, n_hidden: {n_hidden}"
        )
        self._model_summary_string = self._description
        self.init_params_ = self._get_init_params(
            locals() | {"nonnegative": self.module.nonnegative, "seed": self.seed}
        )

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        validation_size: float = 0.1,
        steps_per_epoch: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int = 8,
        checkpoint_dir: str | Path | None = None,
        ckpt_path: str | Path | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train encoder and generator.

        Perturbed conditions are held out for validation as the split column says, or else whole units: contexts, or
        batches where there are fewer than three contexts, or else combinations, perturbations, or perturbations in one
        context (see ``model.split_``). The averaged weights with the lowest validation loss are kept.

        Parameters
        ----------
        max_epochs
            Number of epochs; by default chosen from the number of conditions and logged.
        accelerator, devices
            As in :class:`scvi.train.Trainer`.
        validation_size
            Share of these units to hold out, at least one; 0 for none.
        steps_per_epoch
            Batches of an epoch; by default chosen with ``max_epochs``.
        early_stopping
            Whether to stop when the validation loss no longer falls.
        early_stopping_patience
            Epochs without a lower validation loss before training stops.
        checkpoint_dir
            Folder for ``last.ckpt``, written after every epoch.
        ckpt_path
            Checkpoint to resume from.
        plan_kwargs
            Further arguments of the training plan: ``warmup``, ``compile`` (use :func:`torch.compile`) and
            ``compile_kwargs``.
        **trainer_kwargs
            Further arguments of :class:`scvi.train.Trainer`, such as ``enable_progress_bar`` or ``precision``, by
            default ``"bf16-mixed"`` where the device has units for it, and ``"32-true"`` elsewhere.

        Raises
        ------
        TypeError
            If there is no such argument.
        ValueError
            If the model was loaded without data, or fewer than two populations are left to train on.
        """
        check_training(self, plan_kwargs, trainer_kwargs)
        if self._screen is None:
            if self.adata is None:
                raise ValueError(NO_DATA.format(type(self).__name__))
            self._screen = screen_from_manager(self.adata_manager, min_cells=self.min_cells)
        screen, config = self._screen, self.config
        split = screen.split(validation_size=validation_size, seed=self.seed)
        paired = paired_with_itself(screen)
        populations = with_controls(split, paired, min_cells=self.min_cells)
        if len(populations.train) < 2:
            raise ValueError("There is 1 population to train on; at least 2 are needed. Check the split column.")
        given = {"max_epochs": max_epochs, "steps_per_epoch": steps_per_epoch}
        budget = default_budget(len(populations.train), **given, n_steps=600, per_condition=4, shortest_epoch=50)
        budget = limit_budget(budget, trainer_kwargs.get("max_steps"), max_epochs=max_epochs)
        if not self.is_trained_:
            table = ShiftTable.from_index(screen.X, screen.index, screen.controls, split.train)
            n_components = config.n_noise if config.representation == "genes" else max(config.n_noise, config.n_latent)
            components = fit_components(screen, split.train, n_components, seed=self.seed)
            self._initialise(screen, paired, table, components, populations.train)
        with trained_or_as_before(self):
            self.module.train()  # Lightning keeps the mode it finds
            data = PopulationDataModule(
                paired,
                populations,
                n_sets=config.n_sets,
                set_size=config.set_size,
                n_controls=config.set_size,
                steps_per_epoch=budget.steps_per_epoch,
                seed=self.seed,
            )
            logger.info(
                "Training for at most %d epochs of %d steps on %d populations.", *budget, len(populations.train)
            )
            run_training(
                self,
                data,
                budget,
                accelerator=accelerator,
                devices=devices,
                early_stopping=early_stopping,
                early_stopping_patience=early_stopping_patience,
                checkpoint_dir=checkpoint_dir,
                ckpt_path=ckpt_path,
                plan_kwargs=plan_kwargs,
                **trainer_kwargs,
            )
        self.split_ = split
        self._model_summary_string = (
            f"{self._description}, trained on {len(populations.train)} populations for {self.trainer.global_step} "
            f"steps of at most {budget.n_steps}"
        )

    def get_population_embedding(
        self, adata: AnnData | MuData | None = None, groupby: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Embed populations.

        All cells of a population are used; their order does not matter, nor does a copy of all of them. The error
        falls with the number of cells as that of a mean.

        Parameters
        ----------
        adata
            Cells, perturbed or not; the training data by default.
        groupby
            Columns of ``obs`` whose combinations are the populations; by default perturbation, cell type and batch.
            ``A+B`` and ``B+A`` are one perturbation.

        Returns
        -------
        One row for each population, indexed by the columns, and E columns. The Euclidean distance of two rows
        approximates the 2-Wasserstein distance of the populations in the units of the data.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError
            If ``obs`` lacks a column.
        """
        self._check_if_trained(warn=False)
        names, rows = self._populations(adata, groupby)
        features = encode_cells(
            self._cells(adata),
            screen_metadata_from_registry(self.registry),
            self.module.eval().cell_features,
            device=self.module.device,
            batch_size=4096,
        )
        means = np.stack([features[chosen].mean(axis=0, dtype=np.float64) for chosen in rows])
        vectors = self.module.embed(torch.from_numpy(means).float().to(self.module.device))
        return embedding_table(vectors.cpu().numpy(), names)

    @torch.no_grad()
    def _initialise(
        self,
        screen: Screen,
        paired: Screen,
        table: ShiftTable,
        components: PrincipalComponents,
        populations: np.ndarray,
    ) -> None:
        """Fit space, inputs and units before the first step."""
        module = self.module
        module.scale.fill_(fit_space(module, screen, table, components, seed=self.seed))
        space, inputs = module.representation, module.input
        rows = paired.index.groups.select(populations).all_rows()
        chosen = np.sort(np.random.default_rng(self.seed).permutation(rows)[:2000])
        cells = space.encode(torch.from_numpy(gather_rows(paired.X, chosen)))
        centred = cells - inputs.mean
        residual = centred - centred @ inputs.axes @ inputs.axes.T
        module.initialise(residual.square().mean(0).sqrt(), typical_distance(paired, populations))
