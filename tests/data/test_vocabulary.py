from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pertcast.data import PerturbationVocabulary

LABELS = ["control", "KLF1", "CEBPA+KLF1", "KLF1+CEBPA"]
TABLE: dict[str, Any] = {"SPI1": [5.0, 6.0], "KLF1": [1.0, 2.0], "CEBPA": [3.0, 4.0], "AHR": [7.0, 8.0]}


def test_trained_names_come_first_and_both_parts_are_sorted() -> None:
    vocabulary = PerturbationVocabulary.from_categories(LABELS, TABLE)
    assert vocabulary.names == ("CEBPA", "KLF1", "AHR", "SPI1")
    assert vocabulary.trained_names == ("CEBPA", "KLF1")
    assert vocabulary.n_trained == 2
    assert vocabulary.vectors is not None
    assert vocabulary.vectors.dtype == np.float32
    for name, row in zip(vocabulary.names, vocabulary.vectors, strict=True):
        np.testing.assert_array_equal(row, TABLE[name])


def test_encode_decodes_to_the_same_parts() -> None:
    vocabulary = PerturbationVocabulary.from_categories(LABELS, TABLE)
    ids, mask = vocabulary.encode(["SPI1+CEBPA", "control", "KLF1"])
    assert ids.dtype == np.int64
    assert ids.shape == mask.shape == (3, 2)
    parts = [{vocabulary.names[i] for i in row[keep]} for row, keep in zip(ids, mask, strict=True)]
    assert parts == [{"SPI1", "CEBPA"}, set(), {"KLF1"}]
    assert (ids[~mask] == 0).all()


def test_encode_ignores_the_order_of_parts() -> None:
    vocabulary = PerturbationVocabulary.from_categories(LABELS)
    one, other = (vocabulary.encode([name])[0] for name in ("KLF1 + CEBPA", "CEBPA+KLF1"))
    np.testing.assert_array_equal(one, other)


def test_encode_of_controls_alone_has_one_masked_column() -> None:
    ids, mask = PerturbationVocabulary.from_categories(LABELS).encode(["control", "control"])
    assert ids.shape == (2, 1)
    assert not mask.any()


def test_unknown_name_is_an_error_with_close_matches() -> None:
    vocabulary = PerturbationVocabulary.from_categories(LABELS)
    with pytest.raises(ValueError, match=r"'KLF2' \(in 'CEBPA\+KLF2'\).*Did you mean 'KLF1'.*unseen="):
        vocabulary.encode(["CEBPA+KLF2"])
    with pytest.raises(ValueError, match=r"Unknown perturbation 'zzz': .*perturbation_embedding_key"):
        vocabulary.encode(["zzz"])
    assert "CEBPA+KLF1" in vocabulary
    assert "CEBPA+KLF2" not in vocabulary
    assert vocabulary.unknown(["KLF2+KLF1", "AHR", "control"]) == ["AHR", "KLF2"]


def test_a_single_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Use \['KLF1'\]"):
        PerturbationVocabulary.from_categories(LABELS).encode("KLF1")


def test_data_frame_equals_mapping() -> None:
    frame = pd.DataFrame(TABLE).T
    by_frame, by_mapping = (PerturbationVocabulary.from_categories(LABELS, table) for table in (frame, TABLE))
    assert by_frame.names == by_mapping.names
    np.testing.assert_array_equal(np.asarray(by_frame.vectors), np.asarray(by_mapping.vectors))


def test_control_and_combinations_in_the_table_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = PerturbationVocabulary.from_categories(LABELS, TABLE | {"control": [0, 0], "CEBPA+KLF1": [9, 9]})
    assert vocabulary.names == ("CEBPA", "KLF1", "AHR", "SPI1")
    assert "1 entries for combinations are not used ('CEBPA+KLF1')" in caplog.text


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"KLF1": [1.0]}, ValueError, r"no vector for 1 perturbation\(s\) of the data: 'CEBPA'"),
        ({**TABLE, "KLF1": [np.nan, 1.0]}, ValueError, "NaN or infinite values .* of 'KLF1'"),
        ({**TABLE, "CEBPA": [1e39, 1.0]}, ValueError, "infinite values .* of 'CEBPA'"),
        ({**TABLE, "AHR": [1.0]}, ValueError, r"unequal length: most have 2 numbers, but not 'AHR \(1\)'"),
        ({name: [] for name in TABLE}, ValueError, "vectors of length 0"),
        ({**TABLE, " KLF1": [1.0, 1.0]}, ValueError, "'KLF1' more than once"),
        ({**TABLE, "AHR": ["x", "y"]}, TypeError, "vector of 'AHR' is not a sequence of numbers"),
        (pd.DataFrame({"name": list(TABLE), "x": 1.0}), TypeError, "columns that are not numeric: 'name'"),
        ([1.0, 2.0], TypeError, "must be a data frame .* or a dict .*, but it is a list"),
        ({"KLF1": [1.0], 3: [1.0]}, TypeError, "must be a string, but found 3"),
    ],
)
def test_bad_tables_are_errors(table: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PerturbationVocabulary.from_categories(LABELS, table)


def test_repr_counts() -> None:
    assert repr(PerturbationVocabulary.from_categories(LABELS, TABLE)) == (
        "PerturbationVocabulary[n_perturbations=4, n_trained=2, embedding=2]"
    )
