from __future__ import annotations

import numpy as np
import pytest

from pertcast.tl._undefined import UndefinedMetric, nan_if_undefined


@nan_if_undefined
def half(x: int) -> float:
    """Half of an even number."""
    if x < 0:
        raise ValueError("bad input")
    if x % 2:
        raise UndefinedMetric(f"{x} is odd.")
    return x / 2


def test_value_where_defined() -> None:
    assert half(4) == half.strict(4) == 2
    assert half.__doc__ == "Half of an even number."
    assert half.__name__ == "half"


def test_nan_or_reason_where_undefined() -> None:
    assert np.isnan(half(3))
    with pytest.raises(UndefinedMetric, match=r"^3 is odd\.$"):
        half.strict(3)


def test_bad_input_is_an_error_in_both_forms() -> None:
    for metric in (half, half.strict):
        with pytest.raises(ValueError, match="bad input") as error:
            metric(-1)
        assert not isinstance(error.value, UndefinedMetric)


def test_value_in_place_of_nan() -> None:
    @nan_if_undefined
    def always(n: int) -> np.ndarray:
        raise UndefinedMetric("never defined", np.full(n, np.nan))

    np.testing.assert_array_equal(always(2), [np.nan, np.nan])
