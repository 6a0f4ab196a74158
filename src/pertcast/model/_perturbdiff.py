"""PerturbDiff as users call it."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scvi import settings
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from pertcast.data import PopulationDataModule, ShiftTable, screen_from_manager, screen_metadata_from_registry
from pertcast.data._prediction import PredictMixin
from pertcast.data._request import trained_dosages
from pertcast.data._setup import ScreenSetupMixin
from pertcast.model._budget import default_budget
from pertcast.model._callbacks import KeepBest, ResumeCheckpoint
from pertcast.model._dataset import anchored_dataset
from pertcast.model._embedding import EmbeddingMixin
from pertcast.model._forecast import Forecaster, fit_forecaster
from pertcast.model._gate import choose_gate
from pertcast.model._load import LoadMixin
from pertcast.model._plan import PopulationTrainingPlan
from pertcast.model._statistics import fit_components, is_nonnegative, set_statistics
from pertcast.model._task import draw_task, identity_code
from pertcast.module import PerturbDiffModule, resolve_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data import Screen
    from pertcast.data._query import ControlQuery
    from pertcast.data._request import Dosages
    from pertcast.data._stand_ins import Unseen
    from pertcast.data._tasks import PredictionTask

__all__ = ["PerturbDiff"]

logger = logging.getLogger(__name__)


class PerturbDiff(ScreenSetupMixin, PredictMixin, EmbeddingMixin, LoadMixin, BaseModelClass):
    r"""Diffusion over cell populations: forecasts the cells of a population under a perturbation.

    PerturbDiff (arXiv 2602.19685) denoises all cells of a set together and is trained to match the population, not
    each cell. Here each predicted cell starts from a control cell that an anchor, a forecast of the mean shift from
    the other contexts, has moved; the network adds what the anchor lacks, as far as held-out conditions confirm it.
    Contexts are described by their control cells alone, so unseen ones are the normal case.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    preset
        ``"default"``, or ``"reference"`` for the published network, loss, guidance and number of steps, without an
        anchor. The other arguments replace single values of the preset; the values of ``"default"`` are given.
    representation
        Space of the diffusion: ``"genes"`` (default) or ``"pca"``, which is for very many genes.
    n_latent
        Axes of ``"pca"`` (50), the directions of shifts included.
    anchor
        ``"shift"`` (default) or ``"none"``.
    zeros
        ``"hurdle"`` (default) gives predictions of non-negative data the zeros that sparse expression has, see
        :class:`pertcast.representation.Hurdle`; ``"relu"`` only cuts values below 0.
    n_input
        Principal components through which the network sees a cell (64), or ``"learned"`` for a learned first layer on
        all features.
    n_hidden, n_layers, n_heads, n_tokens
        Width (128), blocks (3), attention heads (4) and tokens that stand for the controls (8).
    schedule
        Noise schedule: ``"cosine"`` (default), ``"linear"`` or ``"discrete_linear"``.
    noise_share
        Share of training sets that are pure noise (0.5); the times of the others are uniform.
    data_scale
        Scale that expression is divided by; the typical standard deviation by default.
    self_conditioning
        Share of training sets that see a first prediction (0).
    condition_dropout
        Share of training sets without condition (0); guidance needs some.
    mse_weight
        Weight of the squared error beside the energy distance (0).
    unbiased
        Whether the energy distance is a U-statistic (True).
    embed_context, embed_batch
        Whether to embed identities (False); unseen contexts or batches are then errors.
    sampler, n_steps, guidance_scale
        Defaults of :meth:`predict`: ``"ddim"``, 1 and 0.
    set_size, n_controls, n_sets
        Cells of a set (64), control cells that describe it (128) and sets of a training batch (4).
    learning_rate, weight_decay, ema_decay
        Peak learning rate (1e-3), weight decay (0.01) and decay of the averaged weights (0.98).
    min_cells
        Perturbed conditions with fewer cells are skipped with a warning.
    nonnegative
        Whether expression cannot be negative; read from the data by default.
    seed
        Seed of weights and training; ``scvi.settings.seed``, or 0, by default.

    Raises
    ------
    ValueError
        If a value is out of its range, no condition has enough cells, or a context has no controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=60, n_perturbations=2, combinations=0, seed=0)
    >>> pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.PerturbDiff(adata)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: Literal["default", "reference"] = "default",
        representation: Literal["genes", "pca"] | None = None,
        n_latent: int | None = None,
        anchor: Literal["shift", "none"] | None = None,
        zeros: Literal["hurdle", "relu"] | None = None,
        n_input: int | Literal["learned"] | None = None,
        n_hidden: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        n_tokens: int | None = None,
        schedule: Literal["cosine", "linear", "discrete_linear"] | None = None,
        noise_share: float | None = None,
        data_scale: float | None = None,
        self_conditioning: float | None = None,
        condition_dropout: float | None = None,
        mse_weight: float | None = None,
        unbiased: bool | None = None,
        embed_context: bool | None = None,
        embed_batch: bool | None = None,
        sampler: Literal["ddim", "ancestral", "dpmpp_2m"] | None = None,
        n_steps: int | None = None,
        guidance_scale: float | None = None,
        set_size: int | None = None,
        n_controls: int | None = None,
        n_sets: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        ema_decay: float | None = None,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        config = resolve_config(preset, locals())
        super().__init__(adata, registry)
        seed = _default_seed() if seed is None else seed
        self._screen: Screen | None = None
        if adata is not None and nonnegative is None:
            self._screen = screen_from_manager(self.adata_manager, min_cells=min_cells)
            nonnegative = is_nonnegative(self._screen.X)
        self.min_cells, self.seed, self.config = min_cells, seed, config
        metadata = screen_metadata_from_registry(self.registry)
        vectors = metadata.vocabulary.vectors
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = PerturbDiffModule(
                config,
                len(metadata.var_names),
                nonnegative=bool(nonnegative),
                n_trained=metadata.vocabulary.n_trained,
                vectors=None if vectors is None else torch.from_numpy(np.asarray(vectors, dtype=np.float32)),
                n_covariates=len(metadata.continuous_covariates),
                n_contexts=_n_contexts(metadata),
                n_batches=len(metadata.batches),
            )
        self.forecaster_: Forecaster | None = None
        self.dosages_: dict[str, tuple[float, ...]] = {}
        self.context_names_: tuple[str, ...] = ()
        self._description = self._model_summary_string = (
            f"PerturbDiff ({preset}) with n_perturbations: {metadata.vocabulary.n_trained}, "
            f"representation: {config.representation}, anchor: {config.anchor}, n_hidden: {config.n_hidden}, "
            f"n_layers: {config.n_layers}, n_steps: {config.n_steps}"
        )
        self.init_params_ = self._get_init_params(locals())

    @property
    def screen(self) -> Screen:
        """The registered training data, indexed.

        Raises
        ------
        ValueError
            If the model was loaded without data.
        """
        if self._screen is None:
            if self.adata is None:
                raise ValueError("This PerturbDiff was loaded without its training data. Give them to `load`.")
            self._screen = screen_from_manager(self.adata_manager, min_cells=self.min_cells)
        return self._screen

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        validation_size: float = 0.2,
        steps_per_epoch: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int = 8,
        checkpoint_dir: str | Path | None = None,
        ckpt_path: str | Path | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Conditions are held out for validation as the split column says, or else whole contexts where there are at
        least three, then batches, then perturbations (see ``model.split_``). The averaged weights with the lowest
        validation loss are kept, and the held-out conditions decide how much of the network is added to the anchor.

        Parameters
        ----------
        max_epochs
            Number of epochs; by default chosen from the number of conditions and logged.
        accelerator, devices
            As in :class:`scvi.train.Trainer`.
        validation_size
            Share of contexts (or batches, or perturbations) to hold out; 0 for none.
        steps_per_epoch
            Batches of an epoch; by default chosen with ``max_epochs``.
        early_stopping
            Whether to stop when the validation loss no longer falls.
        early_stopping_patience
            Epochs without a lower validation loss before training stops.
        checkpoint_dir
            Folder for ``last.ckpt``, written after every epoch.
        ckpt_path
            Checkpoint to resume from: a run that was killed and resumed ends with the weights of one that was not.
        plan_kwargs
            Further arguments of the training plan: ``warmup``.
        **trainer_kwargs
            Further arguments of :class:`scvi.train.Trainer`, such as ``precision`` or ``enable_progress_bar``.

        Raises
        ------
        ValueError
            If the model was loaded without data.
        """
        screen, config = self.screen, self.config
        split = screen.split(validation_size=validation_size, seed=self.seed)
        n_components = config.n_latent if config.n_input == "learned" else max(config.n_input, config.n_latent)
        components = fit_components(screen, split.train, n_components, seed=self.seed)
        table = ShiftTable.from_index(screen.X, screen.index, screen.controls, split.train)
        fit = partial(fit_forecaster, screen, components, nonnegative=self.module.nonnegative, seed=self.seed)
        forecaster = fit(table) if self.module.anchored else None
        if not self.is_trained_:
            set_statistics(self.module, screen, table, components)
        self.module.train()  # Lightning keeps the mode it finds
        self.module.gate.set(1.0)

        budget = default_budget(len(split.train), max_epochs=max_epochs, steps_per_epoch=steps_per_epoch)
        data = PopulationDataModule(
            screen,
            split,
            n_sets=config.n_sets,
            set_size=config.set_size,
            n_controls=config.n_controls,
            steps_per_epoch=budget.steps_per_epoch,
            seed=self.seed,
        )
        data.dataset = anchored_dataset(  # type: ignore[assignment]
            data.dataset, screen, forecaster, table, split.validation
        )
        validates = len(split.validation) > 0
        logger.info(
            "Training for at most %d epochs of %d steps on %d conditions%s.",
            *budget,
            len(split.train),
            f", validating on {len(split.validation)}" if validates else "",
        )
        callbacks = [*trainer_kwargs.pop("callbacks", [])]
        callbacks += [KeepBest()] if validates else []
        callbacks += [ResumeCheckpoint(Path(checkpoint_dir) / "last.ckpt")] if checkpoint_dir is not None else []
        plan = PopulationTrainingPlan(
            self.module,
            n_steps=budget.n_steps,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            seed=self.seed,
            **dict(plan_kwargs or {}),
        )
        defaults = {
            "early_stopping": early_stopping and validates,
            "early_stopping_monitor": "validation_loss",
            "early_stopping_patience": early_stopping_patience,
            "check_val_every_n_epoch": 1 if validates else None,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": min(10, budget.steps_per_epoch),
        }
        TrainRunner(
            self,
            training_plan=plan,
            data_splitter=data,
            max_epochs=budget.max_epochs,
            accelerator=accelerator,
            devices=devices,
            callbacks=callbacks,
            ckpt_path=None if ckpt_path is None else str(ckpt_path),
            **defaults | trainer_kwargs,
        )()
        self.split_ = split
        if self.module.anchored:
            if validates:
                choose_gate(self.module, data.validation_batches(), seed=self.seed)
                seen = np.union1d(split.train, split.validation)
                forecaster = fit(ShiftTable.from_index(screen.X, screen.index, screen.controls, seen))
            self.forecaster_ = forecaster
        self.dosages_ = trained_dosages(screen.index, np.union1d(split.train, split.validation))
        self.context_names_ = screen.index.context_names
        self._model_summary_string = (
            f"{self._description}, trained on {len(split.train)} conditions for {self.trainer.global_step} steps "
            f"of at most {budget.n_steps}, gate: {float(self.module.gate.value):g}"
        )

    def predict(
        self,
        adata: AnnData | MuData | None = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        n_cells: int | None = None,
        n_populations: int = 1,
        n_steps: int | None = None,
        guidance_scale: float | None = None,
        dosages: Dosages | None = None,
        contexts: str | Sequence[str] | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        key_added: str | None = None,
        progressbar: bool = True,
        unseen: Unseen = "error",
    ) -> AnnData:
        """Predict the cells of every control context under every perturbation asked for.

        Parameters
        ----------
        adata
            Control cells, or a screen, whose controls are then used; the training data by default. Contexts may be
            new. Genes are matched by name.
        perturbations
            Names, the parts of combinations in any order; all perturbations of the training data by default.
        n_cells
            Cells for each context; one for each control cell by default.
        n_populations
            Independent draws of each population.
        n_steps
            Diffusion steps, 1 by default.
        guidance_scale
            Strength of classifier-free guidance; needs training with ``condition_dropout``.
        dosages
            One number, one for each perturbation, or a mapping from perturbation to one or several; by default the
            dosages of the training data.
        contexts
            Contexts, or cell types, to predict; all by default.
        seed
            Seed of all draws.
        batch_size
            Cells to draw at once; it does not change the result.
        key_added
            Also write predictions into ``adata``: ``.obsm["<key>_<n>"]``, a matrix for each perturbation, and
            ``.uns["<key>"]``.
        progressbar
            Whether to show a progress bar.
        unseen
            What to do about perturbations that were never measured. ``"error"``: predict those with a vector in the
            registered table from their vector, and refuse others. ``"mean"``: the mean of all measured ones stands in
            for one without a vector. ``"neighbours"``: the mean of the five measured ones with the most similar
            vectors stands in for one with a vector. What stood in is written to ``uns["pertcast"]["params"]``.

        Returns
        -------
        Predicted cells in the units of the training data, with ``var`` of the training genes, the registered columns,
        ``source_cell`` and ``population`` in ``obs``, and provenance in ``uns["pertcast"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the cells, names or numbers do not fit the model; the message says what to do.
        """
        n_steps = self.config.n_steps if n_steps is None else n_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        if n_steps < 1:
            raise ValueError(f"`n_steps` must be at least 1, but found {n_steps}.")
        if scale != 0 and self.config.condition_dropout == 0:
            raise ValueError(
                f"guidance_scale={scale} needs a model that was trained without its condition at times. Train with "
                "`PerturbDiff(adata, condition_dropout=0.1)`, or leave `guidance_scale` at 0."
            )
        return self._predict(
            adata,
            perturbations,
            n_cells=n_cells,
            n_populations=n_populations,
            dosages=dosages,
            contexts=contexts,
            seed=seed,
            batch_size=batch_size,
            key_added=key_added,
            progressbar=progressbar,
            unseen=unseen,
            options={"steps": n_steps, "guidance_scale": float(scale)},
        )

    def _predict_task(
        self, query: ControlQuery, task: PredictionTask, *, batch_size: int | None, options: Mapping[str, Any]
    ) -> np.ndarray:
        config, population = self.config, task.population
        size = batch_size or 1024
        return draw_task(
            self.module,
            self.forecaster_,
            query,
            task,
            context_code=identity_code(
                self.context_names_, population.context_name, "context", embedded=config.embed_context
            ),
            batch_code=identity_code(query.metadata.batches, population.batch, "batch", embedded=config.embed_batch),
            n_sets=max(1, size // config.set_size),
            n_steps=options["steps"],
            guidance_scale=options["guidance_scale"],
        )


def _default_seed() -> int:
    return int(settings.seed) if settings.seed is not None else 0


def _n_contexts(metadata: Any) -> int:
    """Number of contexts that may occur: cell types times the categories of each covariate."""
    sizes = [len(categories) for categories in metadata.covariate_categories.values()]
    return len(metadata.cell_types) * int(np.prod(sizes)) if sizes else len(metadata.cell_types)
