"""The measured side of an evaluation: populations, controls and the references of shifts."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from pertcast._numbers import check_whole
from pertcast.data._controls import DEFAULT_MIN_CONTROLS
from pertcast.data._messages import did_you_mean, shorten
from pertcast.tl._labelled import LabelledCells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from pertcast.tl._labelled import Condition, ScreenColumns

__all__ = ["Truth"]

logger = logging.getLogger(__name__)


class Truth:
    """Measured populations and the controls that all predictions share.

    Parameters
    ----------
    real
        Measured cells.
    columns
        Where the labels of cells are.
    controls
        Names and AnnData to look for control cells in; the first that has some in every context is used.
    train
        Training cells, for the centroid of perturbed cells.
    layer
        Key of ``layers`` with the expression of the measured cells; ``X`` by default.
    max_cells
        Largest number of control cells of a condition; more are subsampled.
    seed
        Seed of all subsamples.
    real_among, train_among
        Which of these cells count, bool; all by default.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a number is out of its range, something is no AnnData with cells, a label is missing, there are no perturbed
        cells, or a context has no controls.
    """

    def __init__(
        self,
        real: AnnData,
        columns: ScreenColumns,
        *,
        controls: Sequence[tuple[str, AnnData]],
        train: AnnData | None = None,
        layer: str | None = None,
        max_cells: int = 1000,
        seed: int = 0,
        real_among: np.ndarray | None = None,
        train_among: np.ndarray | None = None,
    ) -> None:
        self.columns = columns
        self.max_cells, self.seed = check_whole("max_cells", max_cells), check_whole("seed", seed, least=0)
        self.real = LabelledCells(real, columns, "real", layer=layer, among=real_among)
        self.var_names = self.real.var_names
        if not self.real.rows:
            raise ValueError(
                f"`real` has no perturbed cells: all labels of {columns.perturbation_key!r} are {columns.control!r}."
            )
        self.conditions = sorted(self.real.rows, key=lambda each: (each.context, each.perturbation, each.dosage or 0))
        self.controls = self._find_controls(controls, layer, whole=real_among is None)
        self.centroids = self._centroids(train, layer, train_among)
        self._real_means: dict[str, tuple[list[Condition], np.ndarray]] = {}

    def _find_controls(self, others: Sequence[tuple[str, AnnData]], layer: str | None, *, whole: bool) -> LabelledCells:
        missing: set[str] = set()
        for what, cells in others:
            found = self.real
            if cells is not self.real.adata or not whole:
                found = self._others(cells, what, layer)
            missing = self.real.contexts - found.control_rows.keys()
            if not missing:
                return found
        key, control = self.columns.perturbation_key, self.columns.control
        labels = sorted({str(label) for _, cells in others for label in cells.obs[key].unique()})
        fix = "give them as an AnnData with `control=`, or leave these contexts out of `real`"
        if control not in labels:
            fix = (
                "give the control cells as an AnnData with `control=`, or name their label there if it is another one."
                f"{did_you_mean(control, labels)} Labels present: {shorten(labels)}"
            )
        raise ValueError(
            f"There are no control cells ({key!r} equal to {control!r}) for {shorten(sorted(missing))}. Shifts are "
            f"measured against controls of the same context: {fix}."
        )

    def _others(self, cells: AnnData, what: str, layer: str | None, among: np.ndarray | None = None) -> LabelledCells:
        """Cells in the genes of the measured ones."""
        names = {"var_names": self.var_names, "genes_of": "`real`"}
        return LabelledCells(cells, self.columns, what, layer=layer, among=among, **names)  # type: ignore[arg-type]

    def control_rows(self, condition: Condition) -> np.ndarray:
        """Rows of the controls of a condition, which the measured and every predicted side share.

        They are those of its batches, or of the whole context if these have fewer than five (as models match controls,
        see :func:`pertcast.data.match_controls`), and at most ``max_cells``.
        """
        rows = self.controls.control_rows[condition.context]
        own = self.controls.in_batches(rows, self.real.batches(self.real.rows[condition]))
        rows = own if len(own) >= DEFAULT_MIN_CONTROLS else rows
        return self.sample(rows, self.max_cells, "controls", condition.context)

    def control_cells(self, condition: Condition) -> AnnData:
        """Control cells of a condition as an AnnData, for a model to predict from."""
        cells = self.controls.adata[self.control_rows(condition)]
        return cells.to_memory() if cells.isbacked else cells.copy()

    def sample(self, rows: np.ndarray, size: int, *names: str) -> np.ndarray:
        """At most ``size`` rows without replacement; the choice depends on the seed and on names alone."""
        if len(rows) <= size:
            return rows
        return rows[np.sort(self.rng(*names).choice(len(rows), size, replace=False))]

    def rng(self, *names: str) -> np.random.Generator:
        """Generator that depends on the seed and on names alone."""
        text = "".join(f"{len(name)}:{name}" for name in names)
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return np.random.default_rng([self.seed, *np.frombuffer(digest, dtype="<u4").tolist()])

    def real_means(self, context: str) -> tuple[list[Condition], np.ndarray]:
        """Conditions of a context and their measured means, float32 ``[P, G]``."""
        found = self._real_means.get(context)
        if found is None:
            conditions = [condition for condition in self.conditions if condition.context == context]
            means = np.stack([self.real.mean(self.real.rows[each]) for each in conditions])
            found = conditions, means.astype(np.float32)
            self._real_means = {context: found}  # one context at a time; other threads keep what they hold
        return found

    def _centroids(
        self, train: AnnData | None, layer: str | None, among: np.ndarray | None
    ) -> dict[str, np.ndarray | str]:
        """Mean of the perturbed training centroids of each context, or why there is none.

        In a context without perturbed training cells it is the mean of the controls plus the mean shift of all
        training conditions. Without training cells, the measured populations of the context take their place.
        """
        if train is None:
            return {context: self._centroid_of_real(context) for context in self.real.contexts}
        cells = self._others(train, "train", layer, among)
        self._warn_of_shared_cells(cells)
        control_means = {context: cells.mean(rows) for context, rows in cells.control_rows.items()}
        shifts = []
        means: dict[str, list[np.ndarray]] = {}
        for condition, rows in cells.rows.items():
            mean = cells.mean(rows)
            means.setdefault(condition.context, []).append(mean)
            if condition.context in control_means:
                shifts.append(mean - control_means[condition.context])
        found: dict[str, np.ndarray | str] = {}
        for context in self.real.contexts:
            if context in means:
                found[context] = np.mean(means[context], axis=0)
            elif shifts:
                found[context] = self.controls.mean(self.controls.control_rows[context]) + np.mean(shifts, axis=0)
            else:
                found[context] = "`train` has no perturbed cells in a context with controls."
        return found

    def _warn_of_shared_cells(self, train: LabelledCells) -> None:
        """Say so if perturbed cells that are scored are among the training cells."""
        shared: list[str] = []
        for condition in self.real.rows.keys() & train.rows.keys():  # samples of a screen may use the same barcodes
            names = [cells.adata.obs_names[cells.rows[condition]] for cells in (self.real, train)]
            shared += names[0].intersection(names[1]).tolist()
        if shared:
            logger.warning(
                "%d perturbed cells of `real` have the names of cells in `train` (%s): baselines that have seen what "
                "they are scored on look better than they are. Leave the held-out conditions out of `train`.",
                len(shared),
                shorten(sorted(shared)),
            )

    def _centroid_of_real(self, context: str) -> np.ndarray | str:
        conditions = [condition for condition in self.conditions if condition.context == context]
        if len(conditions) < 2:
            return "There is a single perturbation in this context and no `train` to take the centroid from."
        return np.mean([self.real.mean(self.real.rows[each]) for each in conditions], axis=0)
