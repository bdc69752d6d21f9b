"""The analyst's own files as tables: their types, and one sentence for a wrong one."""

import argparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.io.messages import JobError
from jobs.query.local_files import local_file, read_file


def read(folder, text, suffix=".csv"):
    path = folder / f"f{suffix}"
    path.write_text(text, encoding="utf-8")
    return read_file(local_file(f"t={path}"))


def test_numbers_that_are_ids_stay_texts(tmp_path):
    text = "id,phone,long,n,share,day,code,empty\n007,+49171,1234567890123456789012,5,0.5,2025-03-03,NA,\n"
    table = read(tmp_path, text + "12,,3,0,-0.25,2025-03-04,,\n")
    assert table.to_pydict()["id"] == ["007", "12"]
    assert table.to_pydict()["phone"] == ["+49171", None]
    assert table.to_pydict()["long"] == ["1234567890123456789012", "3"]
    assert table.to_pydict()["code"] == ["NA", None]
    assert table.schema.field("n").type == pa.int64() and table.schema.field("share").type == pa.float64()
    assert table.schema.field("day").type == pa.date32() and table.schema.field("empty").type == pa.string()


def test_parquet_and_json_lines_keep_their_types(tmp_path):
    pq.write_table(pa.table({"id": ["007"], "n": pa.array([1], pa.int16())}), tmp_path / "f.parquet")
    table = read_file(local_file(f"t={tmp_path}/f.parquet"))
    assert table.schema.types == [pa.string(), pa.int16()]
    assert read(tmp_path, '{"id": "007", "tags": ["a"]}\n', ".jsonl").to_pylist() == [
        {"id": "007", "tags": ["a"]}
    ]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("companies.csv", "write name=file"),
        ("a b=companies.csv", "write name=file"),
        ("Items=companies.csv", "items is a table of the warehouse"),
        ("company=companies.xlsx", "none of .csv"),
        ("company=missing.csv", "no such file: missing.csv"),
    ],
)
def test_a_wrong_argument_is_one_sentence(argument, told):
    with pytest.raises(argparse.ArgumentTypeError, match=told):
        local_file(argument)


@pytest.mark.parametrize(
    ("text", "suffix", "told"),
    [
        ("", ".csv", "can't be read"),
        ("a,b\n1,2,3\n", ".csv", "can't be read"),
        ("a,a\n1,2\n", ".csv", "two columns named a"),
        ("{", ".jsonl", "can't be read"),
        ("no parquet", ".parquet", "can't be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(text, suffix, told, tmp_path):
    with pytest.raises(JobError, match=told) as error:
        read(tmp_path, text, suffix)
    assert "\n" not in str(error.value)
