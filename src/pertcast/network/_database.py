"""Networks of transcription factors and their targets, by way of decoupler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pertcast.network._edges import read_edges

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATABASES", "load_database"]

Database = Literal["collectri", "dorothea"]

DATABASES: tuple[str, ...] = get_args(Database)
"""Networks that :func:`load_database` knows."""


def load_database(name: Database, *, organism: str = "human") -> pd.DataFrame:
    """Download a network of transcription factors with decoupler, which must be installed.

    Parameters
    ----------
    name
        ``"collectri"`` (Müller-Dott et al. 2023) or ``"dorothea"`` (Garcia-Alonso et al. 2019).
    organism
        Organism, as decoupler names it.

    Returns
    -------
    Table with the columns ``source`` (transcription factors), ``target`` and ``weight`` (mode of regulation).

    Raises
    ------
    ImportError
        If decoupler is not installed.
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import pertcast as pc
    >>> pc.network.DATABASES
    ('collectri', 'dorothea')
    >>> network = pc.network.load_database("collectri")  # doctest: +SKIP
    >>> list(network.columns)  # doctest: +SKIP
    ['source', 'target', 'weight']
    >>> ("MYC", "TERT") in set(zip(network["source"], network["target"]))  # doctest: +SKIP
    True
    """
    if name not in DATABASES:
        raise ValueError(f"Unknown network {name!r}; decoupler offers {' and '.join(map(repr, DATABASES))}.")
    try:
        import decoupler
    except ImportError as error:
        raise ImportError(
            f"network={name!r} needs decoupler. Install it with `pip install decoupler`, or pass the network "
            "as a data frame with the columns 'source' and 'target'."
        ) from error
    return read_edges(getattr(decoupler.op, name)(organism=organism))
