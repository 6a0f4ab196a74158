"""What all models of populations share: registration, training, prediction, saving."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi.model.base import BaseModelClass

from pertcast._numbers import check_whole
from pertcast._seeds import seeded
from pertcast.data import screen_from_manager, screen_metadata_from_registry
from pertcast.data._prediction import PredictMixin, refuse_options
from pertcast.data._saving import NO_DATA, SavingMixin
from pertcast.data._setup import ScreenSetupMixin
from pertcast.model._budget import resolve_seed
from pertcast.model._data_checks import check_controls, check_genes, check_sign
from pertcast.model._forecast_errors import ForecastErrorMixin
from pertcast.model._statistics import is_nonnegative, n_singles
from pertcast.model._task import PopulationDrawer
from pertcast.model._training import TrainingMixin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data import Screen, ScreenMetadata
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Dosages
    from pertcast.data._stand_ins import Unseen
    from pertcast.data._tasks import PredictionTask
    from pertcast.model._forecast import Forecaster
    from pertcast.module import PopulationConfig, PopulationModule

__all__ = ["PopulationModel"]


class PopulationModel(ScreenSetupMixin, TrainingMixin, ForecastErrorMixin, PredictMixin, SavingMixin, BaseModelClass):
    """Base of models that predict sets of cells from control cells and a condition, and of those that you write.

    Registration, hold-out, anchor, training with early stopping, the gate, prediction, saving and loading are
    inherited. The network, its loss and its sampling are those of a :class:`~pertcast.module.PopulationModule`.

    Parameters
    ----------
    adata
        Screen that was registered with ``setup_anndata`` or ``setup_mudata`` of this class.
    registry
        Registry of a saved model, in place of the screen.

    Notes
    -----
    A subclass must define

    * ``_module_cls``, the class of its module, a subclass of :class:`~pertcast.module.PopulationModule`;
    * ``__init__``, which takes every hyper-parameter as a keyword, makes a
      :class:`~pertcast.module.PopulationConfig`, calls ``_build``, and ends by setting ``init_params_``, from which a
      saved model is built again.

    It may define

    * ``_options(n_steps, guidance_scale)``: what it makes of these arguments of ``predict``;
    * ``_sampling(options)``: arguments of the ``sample`` of its module, from these options;
    * ``_identity_codes(query, population)``: codes of context and batch, if the module embeds their identities;
    * ``_budget(n_conditions, max_epochs, steps_per_epoch)``: the default length of training.

    Examples
    --------
    >>> import pertcast as pc
    >>> class Small(pc.model.PopulationModel):
    ...     _module_cls = pc.module.SetTransformerModule
    ...
    ...     def __init__(self, adata=None, registry=None, *, n_hidden=16, seed=None):
    ...         config = pc.module.SetTransformerConfig(n_hidden=n_hidden, n_layers=1, anchor="shift")
    ...         text = f"Small, {n_hidden} wide"
    ...         self._build(adata, registry, config, text, min_cells=5, nonnegative=None, seed=seed)
    ...         self.init_params_ = self._get_init_params(locals() | self._resolved_params())
    >>> adata = pc.data.simulate_screen(20, n_genes=60, n_perturbations=2, combinations=0, seed=0)
    >>> Small.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = Small(adata)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations="pert_0", progressbar=False).n_vars
    60
    """

    _module_cls: type[PopulationModule]

    @abstractmethod
    def __init__(self, adata: AnnData | MuData | None = None, registry: dict[str, Any] | None = None) -> None: ...

    def _build(
        self,
        adata: AnnData | MuData | None,
        registry: dict[str, Any] | None,
        config: PopulationConfig,
        description: str,
        *,
        min_cells: int,
        nonnegative: bool | None,
        seed: int | None,
    ) -> None:
        """Make the module; the body of ``__init__``.

        Parameters
        ----------
        adata, registry
            As given to the model.
        config
            Hyper-parameters.
        description
            Summary of the model, with ``{n_perturbations}`` where that number goes.
        min_cells
            Perturbed conditions with fewer cells are skipped with a warning.
        nonnegative
            Whether expression cannot be negative; read from the data by default.
        seed
            Seed of weights and training; ``scvi.settings.seed``, or 0, by default.
        """
        BaseModelClass.__init__(self, adata, registry)
        self._screen: Screen | None = None
        self.seed, self.min_cells = resolve_seed(seed), check_whole("min_cells", min_cells, least=0)
        self.config = config
        if adata is not None:
            check_genes(self.adata_manager)
            check_sign(self.adata_manager, nonnegative=nonnegative)
        if adata is not None and nonnegative is None:
            self._screen = screen_from_manager(self.adata_manager, min_cells=min_cells)
            nonnegative = is_nonnegative(self._screen.X)
        metadata = screen_metadata_from_registry(self.registry)
        vectors = metadata.vocabulary.vectors
        with seeded(self.seed):
            self.module = self._module_cls(
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
        self.dosages_, self.trained_conditions_ = {}, ()
        self.identity_names_: dict[str, tuple[str, ...]] = {}
        self.trained_names_: dict[str, tuple[str, ...]] = {}
        self._description = description
        n_perturbations = metadata.vocabulary.n_trained if self._screen is None else n_singles(self._screen)
        self._model_summary_string = description.format(n_perturbations=n_perturbations)

    def _resolved_params(self) -> dict[str, Any]:
        """Arguments whose defaults depend on data or settings, as a saved model must be given them."""
        return {"nonnegative": self.module.nonnegative, "seed": self.seed}

    @property
    def screen(self) -> Screen:
        """The registered training data, indexed.

        Raises
        ------
        AttributeError
            If the model was loaded without data: there is no such attribute then, and what looks at all attributes of a
            model, as saving does, passes it over.
        """
        if self._screen is None:
            if self.adata is None:
                raise AttributeError(NO_DATA.format(type(self).__name__))
            self._screen = screen_from_manager(self.adata_manager, min_cells=self.min_cells)
        return self._screen

    def predict(
        self,
        adata: AnnData | MuData | None = None,
        perturbations: str | Iterable[str] | None = None,
        *,
        n_cells: int | None = None,
        n_populations: int = 1,
        n_steps: int | None = None,
        guidance_scale: float | None = None,
        dosages: Dosages | None = None,
        contexts: str | Iterable[str] | None = None,
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
            Names, the parts of combinations in any order; all that were trained on by default. The result has these
            names, by default those of the training data.
        n_cells
            Cells for each context; one for each control cell by default.
        n_populations
            Independent draws of each population.
        n_steps
            Steps of the sampler, for models that have one; by default those that the model was made with.
        guidance_scale
            Strength of classifier-free guidance, for models that have it; needs training with ``condition_dropout``.
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
            Also write predictions into ``adata``: ``.obsm["<key>_<n>"]``, a matrix for each perturbation (the first
            draw), and ``.uns["<key>"]``.
        progressbar
            Whether to show a progress bar.
        unseen
            What to do about perturbations that were never measured. ``"error"``: predict those with a vector in the
            registered table from their vector, and refuse others. ``"mean"``: what all measured ones share
            stands in for one without a vector. ``"neighbours"``: the mean of the five measured ones with the most
            similar vectors stands in for one with a vector. What stood in is written to ``uns["pertcast"]["params"]``.

        Returns
        -------
        Predicted cells in the units of the training data, with ``var`` of the training genes, the registered columns,
        ``source_cell`` and ``population`` in ``obs``, and provenance in ``uns["pertcast"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, TypeError, ValueError
            If the columns, cells, names or numbers do not fit the model; the message says what to do.
        """
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
            options=self._options(n_steps, guidance_scale),
        )

    def _options(self, n_steps: int | None, guidance_scale: float | None) -> dict[str, Any]:
        """Options of the sampler for :meth:`_sampling`, which are also noted in the result; none by default."""
        refuse_options(type(self).__name__, n_steps=n_steps, guidance_scale=guidance_scale)
        return {}

    def _predict_tasks(
        self,
        query: ControlQuery,
        tasks: Sequence[PredictionTask],
        *,
        batch_size: int | None,
        options: Mapping[str, Any],
    ) -> Iterator[np.ndarray]:
        if self.module.nonnegative:
            check_controls(query)
        drawer = PopulationDrawer(
            self.module,
            self.forecaster_,
            query,
            identity_codes=partial(self._identity_codes, query),
            part_ids=self._part_ids(query.metadata),
            batch_size=batch_size,
            sampling=self._sampling(options),
        )
        return drawer.draw(tasks)

    def _sampling(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of ``sample`` of the module, from what :meth:`_options` returned."""
        return {}

    def _part_ids(self, metadata: ScreenMetadata) -> dict[str, int] | None:
        """Ids of the single perturbations that can be predicted; None for those of the vocabulary."""
        return None

    def _identity_codes(self, query: ControlQuery, population: ControlPopulation) -> tuple[int, int]:
        """Codes of the context and batch of a population, for models that embed their identities."""
        return 0, 0


def _n_contexts(metadata: Any) -> int:
    """Number of contexts that may occur: cell types times the categories of each covariate."""
    sizes = [len(categories) for categories in metadata.covariate_categories.values()]
    return len(metadata.cell_types) * int(np.prod(sizes)) if sizes else len(metadata.cell_types)
