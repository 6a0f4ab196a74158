"""Metrics that have no value for some data."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Lenient", "UndefinedMetric", "nan_if_undefined"]


class UndefinedMetric(ValueError):
    """A metric has no value for valid data; the message says why.

    Raised by the ``strict`` form of a metric, which :func:`nan_if_undefined` describes. Bad input (other genes, values
    that are not finite) is an ordinary :class:`ValueError` instead.

    Parameters
    ----------
    reason
        Why there is no value.
    value
        What the metric itself returns in its place: NaN, or an array of NaN.
    """

    def __init__(self, reason: str, value: Any = float("nan")) -> None:
        super().__init__(reason)
        self.value = value


class Lenient[**P, R](Protocol):
    """A metric that returns NaN where it is undefined, and its form that raises."""

    __name__: str

    @property
    def strict(self) -> Callable[P, R]:
        """The same metric, raising :class:`UndefinedMetric` with the reason instead of returning NaN."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute the metric."""
        ...


def nan_if_undefined[**P, R](metric: Callable[P, R]) -> Lenient[P, R]:
    """Give a metric that raises where it is undefined a form that returns NaN there.

    Parameters
    ----------
    metric
        Function that raises :class:`UndefinedMetric` where the number is not defined.

    Returns
    -------
    The metric with NaN in place of the exception. Its attribute ``strict`` is the function as it was, for callers that
    report the reason.

    Examples
    --------
    >>> @nan_if_undefined
    ... def ratio(x, y):
    ...     if y == 0:
    ...         raise UndefinedMetric("The denominator is 0.")
    ...     return x / y
    >>> ratio(1, 0)
    nan
    >>> ratio.strict(1, 0)
    Traceback (most recent call last):
    pertcast.tl._undefined.UndefinedMetric: The denominator is 0.
    """

    @functools.wraps(metric)
    def lenient(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return metric(*args, **kwargs)
        except UndefinedMetric as undefined:
            return undefined.value

    lenient.strict = metric  # type: ignore[attr-defined]
    return cast("Lenient[P, R]", lenient)
