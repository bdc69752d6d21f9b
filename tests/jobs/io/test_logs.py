"""One day in every form a log comes in: the same events in any format, compression, files and encoding."""

import gzip
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.ingest import damage
from jobs.io import logs
from jobs.io.messages import JobError
from schemas.mapping import Source
from tests.jobs.records import (
    DAY,
    ROWS,
    as_csv,
    as_json,
    as_parquet,
    fated,
    mapping_of,
    only_source,
    with_source,
    write_day,
    zstd,
)

HALVES = ROWS[:5], ROWS[5:]
OTHER_SCHEMA = as_parquet([{"more": 1} | row | {"stars": float(row["stars"])} for row in HALVES[1]])
FORMS = {
    "json": ({"a.jsonl": as_json(ROWS).encode()}, mapping_of("json")),
    "json.gz": ({"a.jsonl.gz": gzip.compress(as_json(ROWS).encode())}, mapping_of("json")),
    "json.zst": ({"a.jsonl.zst": zstd(as_json(ROWS).encode())}, mapping_of("json")),
    "json, many files below folders": (
        {f"h={n:02d}/a.jsonl": as_json([row]).encode() for n, row in enumerate(ROWS)},
        mapping_of("json"),
    ),
    "json with byte order marks": (
        {f"{n}.jsonl": as_json(half).encode("utf-8-sig") for n, half in enumerate(HALVES)},
        mapping_of("json"),
    ),
    "json in Latin-1": (
        {"a.jsonl": as_json(ROWS).encode("latin-1")},
        mapping_of("json", encoding="ISO-8859-1"),
    ),
    "csv": ({"a.csv": as_csv(ROWS).encode()}, mapping_of("csv")),
    "csv.gz with ;": ({"a.csv.gz": gzip.compress(as_csv(ROWS, ";").encode())}, mapping_of("csv", sep=";")),
    "csv with ||": ({"a.csv": as_csv(ROWS, "||").encode()}, mapping_of("csv", sep="||")),
    "csv without header": ({"a.csv": as_csv(ROWS, header=False).encode()}, mapping_of("csv", header="false")),
    "csv with byte order marks": (
        {f"{n}.csv": as_csv(half).encode("utf-8-sig") for n, half in enumerate(HALVES)},
        mapping_of("csv"),
    ),
    "csv in Latin-1": (
        {"a.csv": as_csv(ROWS, "\t").encode("latin-1")},
        mapping_of("csv", sep="\t", encoding="ISO-8859-1"),
    ),
    "parquet": ({f"{n}.parquet": as_parquet(half) for n, half in enumerate(HALVES)}, mapping_of("parquet")),
    "parquet of several schemas": (
        {"0.parquet": as_parquet(HALVES[0]), "1.parquet": OTHER_SCHEMA},
        mapping_of("parquet"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_events(spark, tmp_path, form):
    files, mapping = FORMS[form]
    write_day(tmp_path, files)
    assert (
        damage.require_sound(spark, only_source(mapping).source.format, [f"{tmp_path}/dt={DAY}"], 200) == {}
    )
    rows = fated(spark, str(tmp_path), mapping).collect()
    assert {row["fate"] for row in rows} == {"stored"}
    names = ("user_id", "item_id", "text", "rating", "utc_offset_min")
    found = {(*[row[name] for name in names], row["event_ts"].astimezone(UTC)) for row in rows}
    # The mapping's zone is two hours ahead of UTC.
    hours = [datetime(2025, 4, 1, n, 15, tzinfo=UTC).timestamp() - 7200 for n in range(12)]
    instants = [datetime.fromtimestamp(second, UTC) for second in hours]
    assert found == {
        (row["user"], row["item"], row["words"], (row["stars"] - 1) / 4, 120, instant)
        for row, instant in zip(ROWS, instants, strict=True)
    }


def test_a_csv_row_of_another_length_or_type_is_quarantined(spark, tmp_path):
    bad = ["only,two", '001,"2025-04-01 10:00:00",view,7,x,many', "1,2,3,4,5,6,7", "," * 30_000]
    write_day(tmp_path, {"a.csv": (as_csv(ROWS[:2]) + "\n".join(bad)).encode()})
    reasons = sorted(row["reason"] or "" for row in fated(spark, str(tmp_path), mapping_of("csv")).collect())
    assert reasons == ["", "", "unreadable", "unreadable", "unreadable", "wrong_type"]


SINGLE_QUOTES = "{'user': 'single', 'what': 'view', 'item': '1', 'when': '2025-04-01 01:00:00'}"
# A line made of two records, and the fates or reasons of what it holds, sorted.
LINES = {
    "two": (lambda one, two: one + two, ["stored", "unreadable"]),
    "truncated": (lambda one, two: one + two[:30], ["stored", "unreadable"]),
    "words": (lambda one, two: f"{one} words", ["stored", "unreadable"]),
    "comma": (lambda one, two: f"{one},", ["stored", "unreadable"]),
    "closed": (lambda one, two: f"{one}}}", ["stored", "unreadable"]),
    "nested": (lambda one, two: one[:-1] + ', "more": {"a": [{}]}}' + two, ["stored", "unreadable"]),
    "single quotes": (lambda one, two: SINGLE_QUOTES + two, ["stored", "unreadable"]),
    "array and more": (lambda one, two: f"[{one}] {two}", ["stored", "unreadable"]),
    "array": (lambda one, two: f"[{one}, {two}]", ["stored", "stored"]),
    "empty array": (lambda one, two: "[]", ["unreadable"]),
    "sound": (lambda one, two: one[:-1] + ', "more": {"a": "}{"}} \t', ["stored"]),
    "no record": (lambda one, two: one[:-9] + "{}", ["unreadable"]),
}


def test_no_part_of_a_json_line_is_lost(spark, tmp_path):
    pairs = {name: [json.dumps(row | {"user": name}) for row in ROWS[:2]] for name in LINES}
    write_day(tmp_path, {f"{name}.jsonl": line(*pairs[name]).encode() for name, (line, _) in LINES.items()})
    found = {name: [] for name in LINES}
    for row in fated(spark, str(tmp_path), mapping_of("json")).collect():
        name = row["source_file"].removeprefix(f"dt={DAY}/").removesuffix(".jsonl")
        found[name].append(row["reason"] or row["fate"])
    assert {name: sorted(ends) for name, ends in found.items()} == {n: ends for n, (_, ends) in LINES.items()}


def test_parquet_columns_of_other_types(spark, tmp_path):
    def file(**other):
        return as_parquet([{name: value for name, value in (ROWS[0] | other).items() if value is not None}])

    not_utf8 = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe"))
    out = io.BytesIO()
    of_texts = pa.ListArray.from_arrays([0, 1], not_utf8)
    pq.write_table(pa.Table.from_pylist([ROWS[0]]).append_column("with", of_texts), out)
    files = {
        "0": file(words=None, stars=None),
        "bytes": file(item=b"00", words=b"caf\xc3\xa9 \xff"),
        "bytes_in_id": file(item=b"S\xff"),
        "number": file(item=7),
        "list": file(**{"with": ["Ann"]}),
        "large": file(stars=2**32 + 3),
        "bytes_in_list": file(**{"with": [b"a\xff"]}),
        "text_in_list": out.getvalue(),
    }
    write_day(tmp_path, {f"{name}.parquet": content for name, content in files.items()})
    columns, fields = {"stars": "int", "with": "array<string>"}, {"companions": "`with`"}
    mapping = with_columns(mapping_of("parquet"), columns, fields)
    rows = fated(spark, str(tmp_path), mapping).collect()
    found = {row["source_file"].removeprefix(f"dt={DAY}/").removesuffix(".parquet"): row for row in rows}
    assert {name: row["reason"] for name, row in found.items()} == {
        "0": None,
        "bytes": None,
        "number": None,
        "list": None,
        "bytes_in_id": "control_characters",
        "large": "wrong_type",
        "bytes_in_list": "wrong_type",
        "text_in_list": "wrong_type",
    }
    stored = {
        name: (row["item_id"], row["text"], row["rating"], row["companions"])
        for name, row in found.items()
        if not row["reason"]
    }
    words = ROWS[0]["words"]
    assert stored == {
        "0": ("00", None, None, None),
        "bytes": ("00", "café \ufffd", 0, None),
        "number": ("7", words, 0, None),
        "list": ("00", words, 0, ["Ann"]),
    }


def test_days_with_different_headers_are_read_by_name(spark, tmp_path):
    write_day(tmp_path, {"a.csv": as_csv(ROWS[:1]).encode()})
    lines = as_csv([ROWS[1] | {"words": "x"}], "|").splitlines()
    reversed_ = [",".join(reversed(line.split("|"))) for line in lines]
    write_day(tmp_path, {"a.csv": "\n".join(reversed_).encode()}, day="2025-04-02")
    write_day(tmp_path, {"a.csv": b""}, day="2025-04-03")
    rows = fated(spark, str(tmp_path), mapping_of("csv")).collect()
    found = sorted((str(row["log_date"]), row["item_id"], row["fate"]) for row in rows)
    assert found == [(DAY, "00", "stored"), ("2025-04-02", "01", "stored")]


def test_a_folder_whose_name_is_a_glob_pattern_is_read_literally(spark, tmp_path):
    for name, item in (("l[1]", "right"), ("l1", "wrong")):
        write_day(tmp_path / name, {"a.jsonl": as_json([ROWS[0] | {"item": item}]).encode()})
    rows = fated(spark, str(tmp_path / "l[1]"), mapping_of("json")).collect()
    assert [(row["item_id"], row["source_file"]) for row in rows] == [("right", f"dt={DAY}/a.jsonl")]


@pytest.mark.parametrize("form", FORMS)
def test_records_are_counted_without_their_columns(spark, tmp_path, form):
    files, mapping = FORMS[form]
    write_day(tmp_path, files)
    read = logs.read_days(spark, only_source(mapping).source, [f"{tmp_path}/dt={DAY}"], str(tmp_path))
    assert read.count() == len(ROWS)


def with_columns(mapping, columns, fields):
    """The mapping with further columns and fields."""
    one = only_source(mapping)
    source = one.source.model_copy(update={"columns": one.source.columns | columns})
    return with_source(mapping, source=source, fields=one.fields | fields)


def test_names_of_any_letters_are_read(spark, tmp_path):
    """Hadoop looks for the checksum of a name with a colon under a path that it refuses."""
    names = ["a.jsonl", "événements.jsonl", "région=Île/b.jsonl", "h=12:00/events_2025-04-01T12:00:00.jsonl"]
    for format_, content in (("json", as_json(ROWS[:1]).encode()), ("parquet", as_parquet(ROWS[:1]))):
        root = tmp_path / format_
        write_day(root, dict.fromkeys(names, content) | {"12:00.jsonl.gz": gzip.compress(content)})
        if format_ == "parquet":
            (root / f"dt={DAY}" / "12:00.jsonl.gz").unlink()
        assert damage.require_sound(spark, format_, [f"{root}/dt={DAY}"], 200) == {}
        rows = fated(spark, str(root), mapping_of(format_)).collect()
        expected = names + ["12:00.jsonl.gz"] * (format_ == "json")
        assert sorted(row["source_file"] for row in rows) == sorted(f"dt={DAY}/{name}" for name in expected)


@pytest.mark.parametrize("format_", ["json", "csv", "parquet"])
def test_a_column_may_stand_in_the_names_of_folders(spark, tmp_path, format_):
    content = {"json": as_json, "csv": as_csv, "parquet": as_parquet}[format_](ROWS[:1])
    content = content if isinstance(content, bytes) else content.encode()
    folders = ["country=DE", "country=C%C3%B4te d%27Ivoire/n=7", "country=__HIVE_DEFAULT_PARTITION__", "n=x"]
    folders += ["country=50%", "country=5%+%zz"]
    write_day(tmp_path, {f"{folder}/{format_}": content for folder in folders})
    columns, fields = {"country": "string", "n": "int", "dt": "date"}, {"place": "country", "value": "n"}
    fields |= {"extra": "map('day', CAST(dt AS STRING))"}
    mapping = with_columns(mapping_of(format_), columns, fields)
    rows = fated(spark, str(tmp_path), mapping).collect()
    found = {
        (row["place"], row["value"], row["extra"]["day"], row["reason"]) for row in rows if not row["reason"]
    }
    assert found == {
        ("DE", None, DAY, None),
        ("Côte d'Ivoire", 7, DAY, None),
        ("50%", None, DAY, None),
        ("5%+%zz", None, DAY, None),
        (None, None, DAY, None),
    }
    assert [row["reason"] for row in rows if row["reason"]] in (["wrong_type"], [])
    assert len(rows) == 6


def test_columns_that_differ_in_case_are_two(spark, tmp_path):
    mapping = with_columns(mapping_of("json"), {"ITEM": "string"}, {"place": "ITEM"})
    for format_ in ("json", "csv", "parquet"):
        row = ROWS[0] | {"ITEM": "other"}
        lines = ",".join(row) + "\n" + ",".join(f'"{value}"' for value in (row | {"words": "x"}).values())
        content = {"json": as_json([row]).encode(), "csv": lines.encode(), "parquet": as_parquet([row])}[
            format_
        ]
        write_day(tmp_path / format_, {"a": content})
        source = only_source(mapping).source.model_copy(update={"format": format_})
        of_format = with_source(mapping, source=source)
        found = fated(spark, str(tmp_path / format_), of_format).collect()
        assert [(row["item_id"], row["place"], row["reason"]) for row in found] == [("00", "other", None)]


HEADERS = {
    "n, ts": ({"n": "string", "ts": "string"}, None),
    "n,N": ({"n": "string"}, None),
    "n,x,x": ({"n": "string"}, "the column x twice"),
    "n,n": ({"n": "string"}, "the column n twice"),
    "n,  n": ({"n": "string"}, "the column n twice"),
    "n,c1": ({"n": "string", "c1": "string"}, None),
    "n,,": ({"n": "string"}, None),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_gives_every_column_a_value_or_stops(spark, tmp_path, header):
    columns, problem = HEADERS[header]
    places = header.count(",") + 1
    write_day(tmp_path, {"a.csv": f"{header}\n{','.join(map(str, range(places)))}\n".encode()})
    source = Source(format="csv", columns=columns)
    if problem:
        with pytest.raises(JobError, match=problem):
            logs.read_days(spark, source, [f"{tmp_path}/dt={DAY}"], str(tmp_path))
        return
    row = logs.read_days(spark, source, [f"{tmp_path}/dt={DAY}"], str(tmp_path)).collect()[0]
    assert [row[name] for name in columns] == [str(place) for place in range(len(columns))]


UNREADABLE_TYPES = {
    "time32": pa.array([None], pa.time32("ms")),
    "float16": pa.array([None], pa.float16()),
}


def test_only_mapped_parquet_columns_must_be_readable(spark, tmp_path):
    table = pa.table(
        {"user": ["u"], **UNREADABLE_TYPES, "USER": ["x"], "uuid": pa.array([b"0" * 16], pa.uuid())}
    )
    (tmp_path / f"dt={DAY}").mkdir()
    pq.write_table(table, tmp_path / f"dt={DAY}" / "a.parquet")
    folders, root = [f"{tmp_path}/dt={DAY}"], str(tmp_path)
    read = logs.read_days(spark, Source(format="parquet", columns={"user": "string"}), folders, root)
    assert [row["user"] for row in read.collect()] == ["u"]
    for name in UNREADABLE_TYPES:
        source = Source(format="parquet", columns={"user": "string", name: "string"})
        with pytest.raises(JobError, match=rf"a\.parquet: the column {name} has a type that can't be read"):
            logs.read_days(spark, source, folders, root)
    with pytest.raises(JobError, match=r"a\.parquet has none of the mapping's columns, which are who"):
        logs.read_days(spark, Source(format="parquet", columns={"who": "string"}), folders, root)


def one_column(root, kind, value):
    """A day's Parquet file with the column c; returns how it is read as a type."""
    (root / f"dt={DAY}").mkdir(parents=True)
    pq.write_table(pa.table({"c": pa.array([value], kind)}), root / f"dt={DAY}" / "a.parquet")
    return lambda spark, declared: logs.read_days(
        spark, Source(format="parquet", columns={"c": declared}), [f"{root}/dt={DAY}"], str(root)
    ).collect()[0]["c"]


WITH_MORE = pa.struct({"id": pa.string(), "z": pa.time32("ms"), "at": pa.timestamp("ns")})
ELEMENT = {"id": "7", "z": None, "at": 1_743_500_000_000_000_001}


def test_only_mapped_fields_of_nested_parquet_columns_must_be_readable(spark, tmp_path):
    for name, kind, value, declared, pick in (
        ("struct", WITH_MORE, ELEMENT, "struct<id: string>", lambda read: read),
        ("list", pa.list_(WITH_MORE), [ELEMENT], "array<struct<id: string>>", lambda read: read[0]),
        ("map", pa.map_(pa.string(), WITH_MORE), [("k", ELEMENT)], "map<string, struct<id: string>>",
         lambda read: read["k"]),
        ("deep", pa.struct({"s": WITH_MORE}), {"s": ELEMENT}, "struct<s: struct<id: string>>",
         lambda read: read["s"]),
    ):  # fmt: skip
        read = one_column(tmp_path / name, kind, value)
        assert pick(read(spark, declared)).asDict() == {"id": "7"}
        with pytest.raises(JobError, match=r"the column c has a type that can't be read"):
            read(spark, declared.replace("id: string", "z: string"))
        with pytest.raises(JobError, match=r"the column c has times in nanoseconds inside"):
            read(spark, declared.replace("id: string", "at: timestamp"))


def test_an_import_does_not_pass_over_a_mapped_column_that_cant_be_read(spark, tmp_path):
    file = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"user": ["u"], **UNREADABLE_TYPES}), file)
    columns = {"user": "string", "time32": "string"}
    with pytest.raises(JobError, match=r"the column time32 has a type that can't be read"):
        logs.read_files(spark, Source(format="parquet", columns=columns), [file])
    read = logs.read_files(spark, Source(format="parquet", columns={"user": "string"}), [file])
    assert read.columns == ["user"]


WRONG_HEADER = "none of the mapping's columns: its header has user;when;.*, and the mapping wants user, when"


@pytest.mark.parametrize(
    ("file", "mapping", "sentence"),
    [
        pytest.param("a.csv", mapping_of("csv"), WRONG_HEADER, id="separator"),
        pytest.param(
            "a.jsonl",
            mapping_of("json", encoding="UTF-16"),
            "the mapping's options do not fit the logs: .*UTF-16",
            id="encoding",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_the_files_is_refused(spark, tmp_path, file, mapping, sentence):
    write_day(tmp_path, {file: as_csv(ROWS, ";").replace('"', "").encode()})
    with pytest.raises(JobError, match=sentence), damage.readable():
        fated(spark, str(tmp_path), mapping)
