"""How values look: NULL and NaN apart, long ones cut, and nothing that a terminal would obey."""

import json

import pyarrow as pa
import pytest

from jobs.io.messages import JobError
from jobs.query.cells import WIDTH, cell, json_lines, sheet

NAN = float("nan")


def lines_of(**columns):
    return sheet(pa.table(columns).to_reader()).lines


def test_null_is_no_number_and_numbers_keep_their_type():
    shown = lines_of(whole=pa.array([2**53 + 1, None]), part=pa.array([NAN, None]), text=["NULL?", None])
    assert shown == [
        "           whole  part  text",
        "9007199254740993   nan  NULL?",
        "            NULL  NULL  NULL",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.42452818155288696, "0.424528"),
        (8.0, "8.0"),
        (1234567.891, "1234567.891"),
        (0.0000123456789, "1.23457e-05"),
        (1e300, "1e+300"),
        (float("-inf"), "-inf"),
        (True, "true"),
        ({"a": None, "b": [1.0, "x"]}, '{"a": NULL, "b": [1.0, "x"]}'),
    ],
)
def test_values_are_short_and_readable(value, shown):
    assert cell(value) == shown


def test_long_values_are_cut_and_lists_say_how_long_they_are():
    found = sheet(pa.table({"id": ["a" * WIDTH], "text": ["b" * 900], "v": [[0.5] * 2560]}).to_reader())
    identity, text, vector = found.lines[1].split("  ")
    assert identity == "a" * WIDTH and text == "b" * (WIDTH - 1) + "…"
    assert vector.startswith("[0.5, 0.5,") and vector.endswith("… (2,560 in all)") and len(vector) == WIDTH
    assert found.is_cut and not sheet(pa.table({"text": ["already …"]}).to_reader()).is_cut


HOSTILE = "\x1b]0;owned\x07\r\n\x9b31m\u202e"


def test_nothing_unprintable_reaches_the_terminal():
    extra = pa.array([[(HOSTILE, HOSTILE)]], pa.map_(pa.string(), pa.string()))
    answer = pa.table({HOSTILE: [HOSTILE], "l": [[HOSTILE]], "m": extra})
    shown = [*sheet(answer.to_reader()).lines, *json_lines(answer.to_reader())]
    assert all(line.isprintable() for line in shown) and len(shown) == 3
    assert json.loads(shown[-1]) == {HOSTILE: HOSTILE, "l": [HOSTILE], "m": {HOSTILE: HOSTILE}}


def test_of_a_long_answer_the_first_rows_are_shown():
    found = sheet(pa.Table.from_batches([pa.record_batch({"n": [n] * 40}) for n in range(4)]).to_reader())
    assert (len(found.lines), found.row_count) == (101, 160) and found.lines[-1] == "2"
    assert sheet(pa.table({"n": pa.array([], pa.int64())}).to_reader()).lines == ["n"]


def test_json_lines_hold_everything():
    vector = [0.1] * 300
    answer = pa.table({"n": pa.array([1, None]), "f": pa.array([NAN, None]), "v": [vector, None]})
    rows = [json.loads(line) for line in json_lines(answer.to_reader())]
    assert rows == [{"n": 1, "f": "nan", "v": vector}, {"n": None, "f": None, "v": None}]
    with pytest.raises(JobError, match="two columns have the name n"):
        next(json_lines(pa.table([[1], [2]], names=["n", "n"]).to_reader()))
