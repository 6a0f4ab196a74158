"""What the baselines have in common: the verbs of a model, and a prediction in chunks of control cells."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi.model.base import BaseModelClass
from scvi.module.base import BaseModuleClass

from pertcast.data._messages import shorten
from pertcast.data._prediction import PredictMixin, refuse_options
from pertcast.data._request import Request
from pertcast.data._saving import SavingMixin
from pertcast.data._screen import screen_from_manager
from pertcast.data._setup import ScreenSetupMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Dosages
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen
    from pertcast.data._tasks import PredictionTask

__all__ = ["Baseline", "added"]

_BATCH_SIZE = 4096
_ADVICE = (
    "Leave it out. A perturbation that was not in the training data needs a vector in the table that "
    "`perturbation_embedding_key` names, and BilinearRidge, NearestNeighbours, LatentAdditive or a model."
)


def added(shift: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the forecast that adds a shift ``[G]`` to control cells.

    Examples
    --------
    >>> added(np.array([1.0, 0.0]))(np.array([[2.0, 3.0]])).tolist()
    [[3.0, 3.0]]
    """

    def forecast(cells: np.ndarray) -> np.ndarray:
        return cells + shift

    return forecast


class _NoParameters(BaseModuleClass):
    """A module without parameters: a baseline keeps what it learns in attributes of the model."""

    @property
    def device(self) -> torch.device:
        """The CPU: there is nothing on any other device."""
        return torch.device("cpu")


class Baseline(ScreenSetupMixin, PredictMixin, SavingMixin, BaseModelClass):
    """Base of the baselines, and of those that you write. Each predicted cell is made from one control cell.

    A subclass says what to learn and what to forecast; registration, checks, matched controls, prediction in parts,
    saving and loading are inherited.

    Values are left as they come, so they may be below 0 where the data are not.

    Parameters
    ----------
    adata
        Screen that was registered with ``setup_anndata`` or ``setup_mudata`` of this class.
    registry
        Registry of a saved model, in place of the screen.

    Notes
    -----
    A subclass must define

    * ``_fit(screen, conditions)``: learn from the conditions (ids of ``screen.index``) of a
      :class:`~pertcast.data.Screen`. ``screen.X`` is the expression ``[N, G]``, ``screen.index.rows(condition)`` are
      the rows of a condition and ``screen.controls.rows(condition)`` those of its controls. What is learned goes into
      attributes that end in ``_``: these are saved.
    * ``_forecast(query, population, request)``: return the function from control cells ``[n, G]`` to predicted cells
      ``[n, G]`` of one control population of a :class:`~pertcast.data.ControlQuery` under one
      :class:`~pertcast.data.Request`. ``query.mean(population.pool)`` is the mean of the controls.

    It may define

    * ``_check_requests(requests, metadata, unseen=...)``: call that of the base, which refuses unknown names, and raise
      a :class:`ValueError` for what cannot be predicted. It is called before any work is done.
    * ``__init__``, for further arguments: call that of the base, set attributes, and end with
      ``self.init_params_ = self._get_init_params(locals())``.
    * ``is_point`` and ``ignores_perturbation``.

    Examples
    --------
    The mean shift of all perturbed cells, whatever the perturbation:

    >>> import numpy as np
    >>> import pertcast as pc
    >>> class OverallShift(pc.baselines.Baseline):
    ...     ignores_perturbation = True
    ...
    ...     def _fit(self, screen, conditions):
    ...         rows, controls = screen.index.rows, screen.controls.rows
    ...         shifts = [screen.X[rows(c)].mean(0) - screen.X[controls(c)].mean(0) for c in conditions]
    ...         self.shift_ = np.asarray(np.mean(shifts, axis=0)).ravel()
    ...
    ...     def _forecast(self, query, population, request):
    ...         return lambda cells: cells + self.shift_
    >>> adata = pc.data.simulate_screen(10, n_genes=30, n_cell_types=2, n_perturbations=2, seed=0)
    >>> OverallShift.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = OverallShift(adata)
    >>> model.train()
    >>> model.predict(perturbations="pert_0", progressbar=False).shape
    (60, 30)
    """

    is_point: bool = False
    """Whether all predicted cells of a population are equal. Only metrics of the mean are meaningful then."""
    ignores_perturbation: bool = False
    """Whether the name of the perturbation makes no difference to the prediction."""

    def __init__(self, adata: AnnData | MuData | None = None, registry: dict[str, Any] | None = None) -> None:
        super().__init__(adata, registry)
        self.module = _NoParameters()
        self.dosages_, self.trained_conditions_ = {}, ()
        self._model_summary_string = f"{type(self).__name__} baseline"
        self.init_params_ = self._get_init_params(locals())

    def train(
        self, max_epochs: int | None = None, accelerator: str = "auto", devices: int | list[int] | str = "auto"
    ) -> None:
        """Learn from the training conditions, in one pass over the cells.

        Where a split column was registered, the conditions labelled ``train`` and ``validation`` are used: a baseline
        has nothing to choose on validation conditions. Those labelled ``test`` are never used.

        Parameters
        ----------
        max_epochs, accelerator, devices
            Not used, there so that models and baselines can be trained by the same call.

        Raises
        ------
        ValueError
            If the model holds no data, or no condition is left for training.
        """
        screen, conditions = self._training_data()
        self._fit(screen, conditions)
        self._finish(screen, conditions)

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
        """Predict the cells of perturbations from control cells.

        Parameters
        ----------
        adata
            Control cells, or a screen, whose control cells are then used; the training data by default. Cell types and
            batches may be new.
        perturbations
            Names, the parts of a combination in any order; all that were trained on by default.
        n_cells
            Predicted cells for each context, spread over its batches in proportion to their controls; one for each
            control cell by default.
        n_populations
            Number of draws of each population. Baselines draw nothing but the control cells of ``n_cells``.
        n_steps, guidance_scale
            Options of models with a sampler, which baselines are not: anything but None is an error.
        dosages
            One number, one for each perturbation, or a dict from perturbation to one or several numbers; by default
            those of the training data.
        contexts
            Names of contexts, or of cell types, to restrict the prediction to.
        seed
            Seed of the choice of control cells.
        batch_size
            Number of cells to process at once; 4096 by default. It makes no difference to the result beyond rounding.
        key_added
            Also write the predictions into ``adata``, which must then hold control cells only: ``obsm["<key>_<n>"]``,
            one matrix ``[cells, G]`` for the n-th perturbation (the first draw), and ``uns["<key>"]`` with
            ``perturbations``, ``params`` and the table ``effects``, whose column ``sd`` is the standard deviation
            between draws (NaN for one).
        progressbar
            Whether to show a progress bar.
        unseen
            Option of models, which let others stand in for perturbations that were never measured. Baselines refuse
            those that they cannot predict: anything but ``"error"`` is an error.

        Returns
        -------
        Predicted cells: expression in the units of the training data in ``X``, the genes of the training data, the
        registered columns, ``source_cell`` and ``population`` in ``obs``, and how they were made in
        ``uns["pertcast"]``, which has an entry ``is_point`` (True) where all predicted cells of a population are equal.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, TypeError, ValueError
            If the control cells or the request do not fit the model.
        """
        refuse_options(type(self).__name__, n_steps=n_steps, guidance_scale=guidance_scale)
        if unseen != "error":
            raise ValueError(
                f"{type(self).__name__} has no use for unseen={unseen!r}: baselines predict only what they can, and "
                "let nothing stand in. Leave it out, and the perturbations that were never measured."
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
            options={"is_point": True} if self.is_point else None,
        )

    def _training_data(self) -> tuple[Screen, np.ndarray]:
        """Return the registered screen and the ids of the conditions to learn from."""
        if self.adata is None:
            raise ValueError("There are no data to train on. Build the model from an AnnData.")
        screen = screen_from_manager(self.adata_manager)
        split = screen.split(validation_size=0)
        return screen, np.union1d(split.train, split.validation)

    def _finish(self, screen: Screen, conditions: np.ndarray) -> None:
        """Note what was learned from."""
        self._note_conditions(screen.index, conditions, conditions)
        self.is_trained_ = True

    @abstractmethod
    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        """Learn from some conditions of a screen; what is kept goes into attributes ending in ``_``.

        Parameters
        ----------
        screen
            The registered screen.
        conditions
            Ids of the conditions to learn from, sorted.
        """

    @abstractmethod
    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from control cells of a population to predicted cells, ``[n, G]`` both.

        Parameters
        ----------
        query
            Control cells that the user gave, and what is known of the training data.
        population
            Which of them are to be perturbed.
        request
            Perturbation and dosage.
        """

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        """Raise if a name is not known; a baseline that needs more of it raises in its own version."""
        metadata.vocabulary.encode([request.perturbation for request in requests], advice=_ADVICE)
        return {}

    def _predict_tasks(
        self,
        query: ControlQuery,
        tasks: Sequence[PredictionTask],
        *,
        batch_size: int | None,
        options: Mapping[str, Any],
    ) -> Iterator[np.ndarray]:
        step = batch_size or _BATCH_SIZE
        for task in tasks:
            forecast = self._forecast(query, task.population, Request(task.perturbation, task.dosage))
            values = np.empty((len(task.sources), len(query.metadata.var_names)), dtype=np.float32)
            for start in range(0, len(values), step):
                values[start : start + step] = forecast(query.gather(task.sources[start : start + step]))
            yield values

    def _unmeasured(self, what: str, missing: Sequence[str], request: Request) -> ValueError:
        """Return the error that something of some perturbations of a request is not known."""
        of = f" (of {request.perturbation!r})" if [*missing] != [request.perturbation] else ""
        return ValueError(
            f"{type(self).__name__} knows no {what} of {shorten(missing)}{of}: no training condition holds it."
            " What was trained on is listed in `model.dosages_`."
        )
