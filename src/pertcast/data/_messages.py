"""Small helpers for messages that name what was found and what is close to it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pandas as pd

__all__ = ["close_matches", "column_names", "did_you_mean", "shorten"]


def shorten(values: Iterable[object], limit: int = 5) -> str:
    """List values for a message, at most ``limit`` of them.

    Examples
    --------
    >>> shorten("abc", limit=2)
    "'a', 'b' and 1 more"
    """
    found = list(values)
    text = ", ".join(repr(value) for value in found[:limit])
    return text + f" and {len(found) - limit} more" if len(found) > limit else text


def column_names(obs: pd.DataFrame) -> list[str]:
    """Columns of a user, without those that scvi-tools adds at set-up.

    Examples
    --------
    >>> import pandas as pd
    >>> column_names(pd.DataFrame(columns=["label", "_scvi_perturbation"]))
    ['label']
    """
    return [str(name) for name in obs.columns if not str(name).startswith("_scvi_")]


def close_matches(value: str, candidates: Collection[str], limit: int = 3) -> list[str]:
    """Candidates that look like ``value``; letter case is ignored.

    Examples
    --------
    >>> close_matches("klf", ["KLF1", "CEBPA"])
    ['KLF1']
    """
    folded: dict[str, list[str]] = {}
    for candidate in candidates:
        folded.setdefault(candidate.casefold(), []).append(candidate)
    found = [name for key in get_close_matches(value.casefold(), folded, n=limit) for name in folded[key]]
    return found[:limit]


def did_you_mean(value: str, candidates: Collection[str]) -> str:
    """Write a sentence that offers close matches, with a leading blank; empty if there are none.

    Examples
    --------
    >>> did_you_mean("doner", ["donor", "batch"])
    " Did you mean 'donor'?"
    """
    close = close_matches(value, candidates)
    return f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
