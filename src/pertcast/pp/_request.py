"""What is asked of a split."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from pertcast.data._messages import did_you_mean

if TYPE_CHECKING:
    from pertcast.data._keys import ScreenKeys

__all__ = ["SplitKind", "SplitRequest", "require_kind", "require_keys"]

SplitKind = Literal["context", "donor", "perturbation", "combination", "condition", "dosage"]


@dataclass(frozen=True)
class SplitRequest:
    """The arguments of :func:`~pertcast.pp.split` that say what to hold out.

    Parameters
    ----------
    kind
        What is held out.
    hold_out
        Names of the units to hold out.
    test_size
        Share of the units to hold out for testing.
    validation_size
        Share of the remaining units to hold out for validation.
    n_folds
        Number of folds of cross-validation.
    fold
        The fold to hold out.
    n_seen
        For combinations: how many parts of a held-out combination training sees.
    seed
        Seed of every random choice.

    Raises
    ------
    TypeError
        If a number has the wrong type.
    ValueError
        If an argument is out of range, or two of them contradict each other.
    """

    kind: SplitKind
    hold_out: Any = None
    test_size: float = 0.2
    validation_size: float = 0.0
    n_folds: int | None = None
    fold: int = 0
    n_seen: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_kind(self.kind)
        for name in ("n_folds", "fold", "n_seen", "seed"):
            value = getattr(self, name)
            if value is None and name in ("n_folds", "n_seen"):
                continue
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise TypeError(f"`{name}` must be an integer, but found {value!r}.")
            if value < 0:
                raise ValueError(f"`{name}` must be at least 0, but found {value}.")
        for name in ("test_size", "validation_size"):
            value = getattr(self, name)
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(f"`{name}` must be a number, but found {value!r}.")
        if not 0 < self.test_size < 1:
            raise ValueError(f"`test_size` is a share between 0 and 1, but found {self.test_size}.")
        if not 0 <= self.validation_size < 1:
            raise ValueError(f"`validation_size` is a share in [0, 1), but found {self.validation_size}.")
        self._check_folds()
        if self.n_seen is not None and self.kind != "combination":
            raise ValueError(
                f"`n_seen` counts the parts of a held-out combination, so it does not go with kind={self.kind!r}. "
                "Leave it out, or use kind='combination'."
            )

    def _check_folds(self) -> None:
        """Raise unless the folds make sense."""
        if self.n_folds is None:
            if self.fold != 0:
                raise ValueError(f"`fold={self.fold}` needs `n_folds`, the number of folds.")
            return
        if self.hold_out is not None:
            raise ValueError("`hold_out` names what to hold out, and `n_folds` draws it. Leave out one of them.")
        if self.n_folds < 2:
            raise ValueError(f"`n_folds` must be at least 2, but found {self.n_folds}.")
        if self.fold >= self.n_folds:
            raise ValueError(f"`fold` counts from 0 to n_folds - 1 = {self.n_folds - 1}, but found {self.fold}.")


def require_kind(kind: object) -> None:
    """Raise unless this is a kind of split.

    Parameters
    ----------
    kind
        What is held out.

    Raises
    ------
    ValueError
        If it is something else.
    """
    kinds = get_args(SplitKind)
    if kind not in kinds:
        hint = " For labels of `batch_key`, use 'donor'." if kind == "batch" else did_you_mean(str(kind), kinds)
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, kinds))}, but found {kind!r}.{hint}")


def require_keys(kind: SplitKind, keys: ScreenKeys) -> None:
    """Raise unless the columns that a kind of split needs are named.

    Parameters
    ----------
    kind
        What is held out.
    keys
        Columns of the screen.

    Raises
    ------
    ValueError
        If a column is not named.
    """
    missing = {
        "context": "" if keys.context_columns() else "`cell_type_key` (or `categorical_covariate_keys`)",
        "condition": "" if keys.context_columns() else "`cell_type_key` (or `categorical_covariate_keys`)",
        "donor": "" if keys.batch_key is not None else "`batch_key`",
        "dosage": "" if keys.dosage_key is not None else "`dosage_key`",
    }.get(kind, "")
    if missing:
        raise ValueError(f"kind={kind!r} needs {missing}: name the column of adata.obs that holds it.")
