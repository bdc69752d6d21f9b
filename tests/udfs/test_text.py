"""The normal form of texts, and functions over a column of texts."""

import pyarrow as pa
import pytest

from udfs.text import map_distinct, normalise


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("  a  b\t\nc ", "a b c"),
        ("a\u2003b\u00a0c", "a b c"),  # Unicode white space
        ("Cafe\u0301", "Caf\u00e9"),  # composed
        ("Tea POT", "Tea POT"),  # case is kept
        (" \n", ""),
    ],
)
def test_normal_form(raw, normal):
    assert normalise(raw) == normal
    assert normalise(normal) == normal


def test_the_function_is_called_once_for_each_distinct_text():
    calls = []

    def upper(value: str) -> str | None:
        calls.append(value)
        return None if value == "drop" else value.upper()

    texts = pa.array(["a", "b", None, "a", "drop"])
    assert map_distinct(texts, upper).to_pylist() == ["A", "B", None, "A", None]
    assert calls == ["a", "b", "drop"]
