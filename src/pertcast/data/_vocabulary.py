"""The perturbations that a model knows, and the vectors that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._embedding import read_embedding
from pertcast.data._grammar import parse_perturbation
from pertcast.data._messages import did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["PerturbationVocabulary"]

_ADVICE = (
    "A perturbation that was not in the training data needs a vector in the table that `perturbation_embedding_key` "
    "names, or an explicit choice through `unseen=...`."
)


class PerturbationVocabulary:
    """Single perturbations with an id each, and optionally a vector each.

    The perturbations of the training data come first, sorted, with ids ``0`` to ``n_trained - 1``. An embedding table
    may describe more perturbations; those come after them, sorted as well. A perturbation that has an id of
    ``n_trained`` or more was never seen in training and is known through its vector alone.

    Parameters
    ----------
    trained
        Single perturbations of the training data.
    vectors
        Name to vector for every trained perturbation and any number of others, or ``None``.
    control
        Label of unperturbed cells.

    Examples
    --------
    >>> vocabulary = PerturbationVocabulary.from_categories(["control", "KLF1", "CEBPA+KLF1"])
    >>> vocabulary
    PerturbationVocabulary[n_perturbations=2, n_trained=2, embedding=None]
    >>> part_ids, part_mask = vocabulary.encode(["KLF1+CEBPA", "KLF1"])
    >>> part_ids.tolist(), part_mask.tolist()
    ([[0, 1], [1, 0]], [[True, True], [True, False]])
    """

    def __init__(
        self,
        trained: Iterable[str],
        vectors: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        control: str = "control",
    ) -> None:
        known = set(trained)
        seen = tuple(sorted(known))
        self._control = control.strip()
        self._n_trained = len(seen)
        self._names = seen
        self._vectors: np.ndarray | None = None
        if vectors is not None:
            table_names, matrix = read_embedding(vectors, required=seen, control=control)
            position = {name: row for row, name in enumerate(table_names)}
            self._names = seen + tuple(name for name in table_names if name not in known)
            self._vectors = matrix[[position[name] for name in self._names]]
        self._id = {name: code for code, name in enumerate(self._names)}

    @classmethod
    def from_categories(
        cls,
        categories: Iterable[str],
        vectors: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        control: str = "control",
    ) -> PerturbationVocabulary:
        """Build the vocabulary from the labels of the training data, combinations and control included.

        Parameters
        ----------
        categories
            Labels as they stand in the data.
        vectors
            Embedding table, see :class:`PerturbationVocabulary`.
        control
            Label of unperturbed cells.
        """
        parts = {part for label in categories for part in parse_perturbation(label, control)}
        return cls(parts, vectors, control=control)

    @property
    def names(self) -> tuple[str, ...]:
        """Single perturbations in the order of their ids."""
        return self._names

    @property
    def control(self) -> str:
        """Label of unperturbed cells."""
        return self._control

    @property
    def n_trained(self) -> int:
        """Number of perturbations seen in training; they have the lowest ids."""
        return self._n_trained

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Single perturbations seen in training."""
        return self._names[: self._n_trained]

    @property
    def vectors(self) -> np.ndarray | None:
        """Float32 matrix ``[len(names), E]`` of the vectors, in the order of the ids; ``None`` without a table."""
        return self._vectors

    @property
    def n_dimensions(self) -> int:
        """Length E of the vectors; 0 without an embedding table."""
        return 0 if self._vectors is None else self._vectors.shape[1]

    def __len__(self) -> int:
        """Return the number of single perturbations."""
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        """Whether every part of a perturbation is known; the control always is."""
        return isinstance(name, str) and all(part in self._id for part in parse_perturbation(name, self._control))

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Parts of ``names`` that have no id, sorted and without repeats."""
        parts = {part for name in names for part in parse_perturbation(name, self._control)}
        return sorted(parts - self._id.keys())

    def encode(self, names: Sequence[str], *, advice: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Turn perturbation names into padded ids of their parts.

        Parameters
        ----------
        names
            P perturbations; parts in any order, the control has none.
        advice
            What the message about an unknown perturbation says to do; by default what a model can do.

        Returns
        -------
        Ids (int64) and mask (bool), both ``[P, K]`` with K the largest number of parts, at least 1. Padding has
        id 0 and mask ``False``.

        Raises
        ------
        ValueError
            If a part is unknown.
        """
        if isinstance(names, str):
            raise TypeError(f"Expected a list of perturbation names, but found the string {names!r}. Use [{names!r}].")
        parts = [parse_perturbation(name, self._control) for name in names]
        width = max([1, *(len(part) for part in parts)])
        part_ids = np.zeros((len(parts), width), dtype=np.int64)
        part_mask = np.zeros((len(parts), width), dtype=bool)
        for row, (name, units) in enumerate(zip(names, parts, strict=True)):
            for column, unit in enumerate(units):
                part_ids[row, column] = self._lookup(unit, name, advice or _ADVICE)
                part_mask[row, column] = True
        return part_ids, part_mask

    def _lookup(self, unit: str, name: str, advice: str) -> int:
        """Id of a single perturbation."""
        code = self._id.get(unit)
        if code is not None:
            return code
        where = f"{unit!r}" if unit == name.strip() else f"{unit!r} (in {name!r})"
        raise ValueError(
            f"Unknown perturbation {where}: it is not among the {len(self)} that the model knows "
            f"({shorten(self._names)}).{did_you_mean(unit, self._names)} {advice}"
        )

    def __repr__(self) -> str:
        """Return counts on one line."""
        embedding = None if self._vectors is None else self.n_dimensions
        return (
            f"PerturbationVocabulary[n_perturbations={len(self)}, n_trained={self._n_trained}, embedding={embedding}]"
        )
