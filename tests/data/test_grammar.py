from __future__ import annotations

import itertools

import pytest

from pertcast.data import canonical_name, parse_perturbation
from pertcast.data._grammar import canonical_names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("control", ()),
        (" control ", ()),
        ("control+control", ()),
        ("A", ("A",)),
        ("A+control", ("A",)),
        ("control + A", ("A",)),
        (" B + A ", ("A", "B")),
        ("BCR/FcR-XL", ("BCR/FcR-XL",)),
        ("IFN-β + TNF α", ("IFN-β", "TNF α")),
        ("Control", ("Control",)),
        ("a+A", ("A", "a")),
        ("10", ("10",)),
    ],
)
def test_parse(name: str, parts: tuple[str, ...]) -> None:
    assert parse_perturbation(name) == parts


def test_every_order_of_a_combination_is_one_name() -> None:
    names = {canonical_name(parse_perturbation("+".join(order))) for order in itertools.permutations("CAB")}
    assert names == {"A+B+C"}


def test_canonical_name_round_trip() -> None:
    for name in ("control", "A", "A+B", "B/x+Z y"):
        assert canonical_name(parse_perturbation(name)) == name


def test_control_of_another_name() -> None:
    assert parse_perturbation("ctrl", control="ctrl") == ()
    assert parse_perturbation("A+ctrl", control="ctrl") == ("A",)
    assert parse_perturbation("control", control="ctrl") == ("control",)
    assert parse_perturbation("no+drug", control="no+drug") == ()
    assert canonical_name((), control="ctrl") == "ctrl"


@pytest.mark.parametrize("name", ["A+", "+A", "+", "", "  ", "A++B", "A + + B"])
def test_empty_part_is_an_error_that_says_what_to_do(name: str) -> None:
    with pytest.raises(ValueError, match=r"has an empty part.*Remove the stray '\+'"):
        parse_perturbation(name)


def test_repeated_part_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"'A\+B\+A' holds 'A' more than once.*dosage"):
        parse_perturbation("A+B+A")


def test_other_types_are_errors() -> None:
    with pytest.raises(TypeError, match="1 of type int"):
        parse_perturbation(1)  # type: ignore[arg-type]


def test_canonical_names_put_the_control_first_and_sort() -> None:
    names, codes = canonical_names(["b", "A+b", "zero", "b+A", "A+zero"], control="zero")
    assert names == ("zero", "A", "A+b", "b")
    assert [names[code] for code in codes] == ["b", "A+b", "zero", "A+b", "A"]


def test_canonical_names_hold_the_control_even_if_absent() -> None:
    assert canonical_names(["A"])[0] == ("control", "A")
