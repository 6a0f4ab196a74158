"""Messages that several models have to say of the same data."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["logged_once"]

_LOGGERS = ("pertcast.data._controls", "pertcast.data._split")


@contextmanager
def logged_once(said: set[str]) -> Iterator[None]:
    """Leave out messages on controls and splits that were logged before.

    Parameters
    ----------
    said
        Messages so far; new ones are added.
    """

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in said
        said.add(message)
        return not known

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_new)
