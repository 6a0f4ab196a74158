"""What the prediction of every model has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.utils import track

from pertcast import __version__
from pertcast._numbers import check_whole
from pertcast.data._grammar import parse_perturbation
from pertcast.data._key_added import check_key_added, write_predictions
from pertcast.data._predicted import PredictedCells, predicted_adata
from pertcast.data._query import ControlQuery
from pertcast.data._request import request_labels, resolve_requests, trained_dosages
from pertcast.data._screen import screen_metadata_from_registry
from pertcast.data._stand_ins import find_stand_ins
from pertcast.data._tasks import make_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._index import ConditionIndex
    from pertcast.data._request import Dosages, Request
    from pertcast.data._screen import ScreenMetadata
    from pertcast.data._stand_ins import Unseen
    from pertcast.data._tasks import PredictionTask

__all__ = ["PredictMixin", "refuse_options"]


def refuse_options(model: str, **options: Any) -> None:
    """Raise if options are given that a model does not have, though ``predict`` of others does.

    Parameters
    ----------
    model
        Name of the class.
    **options
        Options of its ``predict``; None for those that are not given.

    Raises
    ------
    ValueError
        Naming them.
    """
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{model} has no use for {' and '.join(given)}: its method has no such thing. Leave it out.")


class PredictMixin:
    """Gives a model the shared part of ``predict``; mix it in before :class:`~scvi.model.base.BaseModelClass`.

    A model implements :meth:`_predict_tasks`, calls :meth:`_note_conditions` when it is trained, and :meth:`_predict`
    from its own ``predict``. It may refuse requests early in :meth:`_check_requests`.
    """

    dosages_: dict[str, tuple[float, ...]]
    """Dosages at which each perturbation was measured in training."""
    trained_conditions_: tuple[str, ...]
    """Names of the conditions of all trainings, those for validation included, sorted."""

    if TYPE_CHECKING:
        adata: AnnData | MuData | None
        registry: dict[str, Any]

        def _check_if_trained(self, warn: bool = ..., message: str = ...) -> None: ...

    @abstractmethod
    def _predict_tasks(
        self,
        query: ControlQuery,
        tasks: Sequence[PredictionTask],
        *,
        batch_size: int | None,
        options: Mapping[str, Any],
    ) -> Iterator[np.ndarray]:
        """Predict the cells of all tasks, in their order.

        Parameters
        ----------
        query
            Control cells: ``query.gather(rows)`` reads them.
        tasks
            What to predict. All randomness of a task must come from ``task.seed``, and its result must not depend on
            the others.
        batch_size
            Number of cells, or sets of cells, to process at once. It must not change the result.
        options
            Options of the model, as given to :meth:`_predict`.

        Yields
        ------
        float32 ``[len(task.sources), G]`` for each task.
        """

    def _note_conditions(self, index: ConditionIndex, learned: np.ndarray, seen: np.ndarray) -> None:
        """Note what the model was trained on.

        Parameters
        ----------
        index
            Index of the screen.
        learned
            Conditions that it can predict without forecasting their perturbation.
        seen
            Conditions that it was trained or chosen on.
        """
        self.dosages_ = trained_dosages(index, learned)
        self.trained_conditions_ = tuple(sorted({*self.trained_conditions_, *index.names(seen)}))

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        """Raise if something cannot be predicted, before any work is done.

        Parameters
        ----------
        requests
            Perturbations and dosages.
        metadata
            What the model knows of its training data.
        unseen
            What to do about perturbations that were never measured.

        Returns
        -------
        The measured perturbations that stand in for others; see :func:`~pertcast.data._stand_ins.find_stand_ins`.

        Raises
        ------
        ValueError
            If a perturbation is unknown and nothing stands in for it.
        """
        names = [request.perturbation for request in requests]
        return find_stand_ins(names, metadata.vocabulary, unseen, measured=self._measured(metadata))

    def _measured(self, metadata: ScreenMetadata) -> set[str]:
        """Single perturbations with training cells, alone or in combinations."""
        return {part for name in self.dosages_ for part in parse_perturbation(name, metadata.control)}

    def _predict(
        self,
        adata: AnnData | MuData | None,
        perturbations: str | Iterable[str] | None,
        *,
        n_cells: int | None,
        n_populations: int,
        dosages: Dosages | None,
        contexts: str | Iterable[str] | None,
        seed: int,
        batch_size: int | None,
        key_added: str | None,
        progressbar: bool,
        unseen: Unseen = "error",
        options: Mapping[str, Any] | None = None,
    ) -> AnnData:
        """Predict; the arguments are those of the public ``predict`` of a model.

        Parameters
        ----------
        adata
            Control cells, or a screen; the training data by default.
        perturbations
            Names; all that were trained on by default.
        n_cells
            Predicted cells for each context; one for each control cell by default.
        n_populations
            Number of independent draws.
        dosages
            See :func:`~pertcast.data._request.resolve_requests`.
        contexts
            See :meth:`ControlQuery.from_adata`.
        seed
            Seed of all draws.
        batch_size
            Handed to :meth:`_predict_tasks`.
        key_added
            Also write the predictions into ``adata``; see :func:`~pertcast.data._key_added.write_predictions`.
        progressbar
            Whether to show a progress bar.
        unseen
            What to do about perturbations that were never measured.
        options
            Options of the model. They are handed to :meth:`_predict_tasks`, and those that are not ``None`` are written
            to ``uns["pertcast"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained, or predicts NaN or infinite values.
        ValueError
            If the request makes no sense; see the functions above.
        """
        name = type(self).__name__
        self._check_if_trained(
            warn=False, message=f"This {name} is not trained, so it cannot predict. Call `model.train()` first."
        )
        check_whole("n_populations", n_populations)
        check_whole("seed", seed, least=0)
        for argument, value in (("n_cells", n_cells), ("batch_size", batch_size)):
            if value is not None:
                check_whole(argument, value)
        cells = self.adata if adata is None else adata
        if cells is None:
            raise ValueError(
                f"This {name} was loaded without its training data, so there are no control cells to predict from. "
                "Give them: `model.predict(controls)`."
            )
        options = dict(options or {})
        metadata = screen_metadata_from_registry(self.registry)
        names, places = _as_list(perturbations), _as_list(contexts)
        requests = resolve_requests(names, dosages, metadata, self.dosages_)
        labels = request_labels(requests, names, metadata)
        stand_ins = self._check_requests(requests, metadata, unseen=unseen)
        query = ControlQuery.from_adata(cells, metadata, contexts=places)
        if key_added is not None:
            check_key_added(key_added, query, len(requests), n_cells=n_cells)

        tasks = make_tasks(
            query, requests, n_cells=n_cells, n_populations=n_populations, seed=seed, stand_ins=stand_ins
        )
        total = sum(len(task.sources) for task in tasks)
        predicted = PredictedCells(total, len(metadata.var_names), is_sparse=query.is_sparse)
        drawn = self._predict_tasks(query, tasks, batch_size=batch_size, options=options)
        bar = track(tasks, description="Predicting", disable=not progressbar, style="tqdm")
        for task in bar:
            if progressbar:
                bar.set_description(f"Predicting {task.perturbation}", refresh=False)
            values = next(drawn)
            if not np.isfinite(values).all():
                raise RuntimeError(
                    f"{name} predicted NaN or infinite values for {task.perturbation!r} in {task.population.obs}. "
                    "Training may have diverged: look at `model.history`, and train with a lower learning rate."
                )
            predicted.add(values)

        params = {
            "perturbations": np.array([labels[request.perturbation] for request in requests]),
            "n_populations": int(n_populations),
            "n_cells": n_cells,
            "contexts": None if places is None else np.array([places] if isinstance(places, str) else places),
            "batch_size": batch_size,
            "unseen": unseen if stand_ins else None,
            "unseen_perturbations": np.array(list(stand_ins)) if stand_ins else None,
            "stand_ins": np.array([" | ".join(names) for names in stand_ins.values()]) if stand_ins else None,
        }
        if metadata.has_dosage:
            params["dosages"] = np.array([request.dosage for request in requests])
        provenance = {"model": name, "version": __version__, "seed": int(seed), **_without_none(options)}
        provenance["params"] = _without_none(params)
        trained_var = None if self.adata is None else query.keys.holder(self.adata, "layer").var
        result = predicted_adata(query, tasks, predicted.matrix(), provenance, labels, trained_var=trained_var)
        if key_added is not None:
            write_predictions(key_added, query, requests, tasks, result, labels)
        return result


def _as_list(names: str | Iterable[str] | None) -> str | list[str] | None:
    """Names of any collection as a list: an iterator can be read once."""
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else names


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that are not ``None``, which files cannot store."""
    return {name: value for name, value in values.items() if value is not None}
