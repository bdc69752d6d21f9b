"""Every value of every format as a declared type: the same value, or a record of the wrong type."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import types as T

from jobs.io.columns import always_fits, may_fit
from jobs.io.logs import WRONG_TYPE, read_days
from schemas.mapping import Source
from tests.jobs.records import DAY, write_day

WRONG = "of the wrong type"
TEN = datetime(2025, 4, 1, 10, tzinfo=UTC)
EIGHT = TEN.replace(hour=8)
ODD = TEN + timedelta(microseconds=90064)
OLD = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(seconds=1743501600, microseconds=90065)
# By declared type: JSON text → value.
JSON = {
    "string": {
        '"7"': "7",
        "7": "7",
        "7.0": "7",
        "1e3": "1000",
        "12345678901234567890": "12345678901234567890",
        '"true"': "true",
        '""': "",
        "null": None,
        "7.5": WRONG,
        "1e17": WRONG,
        "true": WRONG,
        '{"id": "7"}': WRONG,
        '["7"]': WRONG,
    },
    "int": {
        "7": 7,
        '" 7 "': 7,
        '"12.0"': 12,
        "12.7": WRONG,
        '"12.7"': WRONG,
        "true": WRONG,
        "3000000000": WRONG,
    },
    "bigint": {"3000000000": 3_000_000_000, "1e3": 1000, "9223372036854775808": WRONG, '"x"': WRONG},
    "double": {
        '"1"': 1.0,
        "1": 1.0,
        "2.5": 2.5,
        '"1d"': WRONG,
        '"0x1p3"': WRONG,
        "true": WRONG,
        "[1]": WRONG,
        # Its nearest floating point number is another whole number.
        "9007199254740993": WRONG,
        '"9007199254740993"': WRONG,
        '"9007199254740992"': 2.0**53,
    },
    "decimal(10,2)": {"2.5": Decimal("2.50"), '"2.5"': Decimal("2.50"), "2.555": WRONG, '"2.555"': WRONG},
    "boolean": {"true": True, '"true"': True, "0": False, "2": WRONG, '"maybe"': WRONG},
    "date": {'"2025-04-01"': date(2025, 4, 1), '"2025-04-01T10:00:00Z"': WRONG, '"1"': WRONG, "1": WRONG},
    "timestamp": {
        '"2025-04-01T10:00:00Z"': TEN,
        '"2025-04-01 10:00:00"': EIGHT,
        '"1743501600"': TEN,
        "1743501600000": TEN,
        "1743501600.0": TEN,
        '"10:00"': WRONG,
        "true": WRONG,
    },
    "array<string>": {'["a", 7.0, null]': ["a", "7", None], '["a", {"b": 1}]': WRONG},
    "map<string,string>": {'{"a": 1.5, "b": true}': {"a": "1.5", "b": "true"}},
    "map<string,int>": {'{"a": 1.0}': {"a": 1}, '{"a": 1.5}': WRONG},
    "struct<id:string,n:int>": {
        '{"id": 7.0, "more": 1}': ("7", None),
        '{"id": true}': WRONG,
        '{"n": 1.5}': WRONG,
    },
}
TEXTS = {
    "string": {"12345678.0": "12345678.0", "{": "{"},
    "int": {"12": 12, "12.0": 12, "12.7": WRONG, "1e3": WRONG, "": None},
    "double": {"1": 1.0, ".5": 0.5, "1f": WRONG, "1,5": WRONG, "16777217": 16777217.0, "1e300": 1e300},
    "float": {"16777216": 2.0**24, "16777217": WRONG, "0.1": 0.10000000149011612},
    "date": {"2025-04-01": date(2025, 4, 1), "2025-04-01 10:00": WRONG},
    "timestamp": {"2025-04-01T12:00+02:00": TEN, "2025-04-01T10:00": EIGHT, "noon": WRONG},
}
NAIVE, AWARE = TEN.replace(tzinfo=None), TEN
# (name, declared type, Arrow array of one value, value).
ARRAYS = [
    ("int64", "string", pa.array([12345678]), "12345678"),
    ("double", "string", pa.array([12345678.0]), "12345678"),
    ("float", "string", pa.array([7.0], pa.float32()), "7"),
    ("fraction", "string", pa.array([7.5]), WRONG),
    ("inexact", "string", pa.array([2.0**60]), WRONG),
    ("decimal", "string", pa.array([Decimal("7.00")]), "7"),
    ("unsigned", "string", pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    ("boolean", "string", pa.array([True]), WRONG),
    ("list", "string", pa.array([["a"]]), WRONG),
    ("struct", "string", pa.array([{"id": "7"}]), WRONG),
    ("time", "string", pa.array([NAIVE], pa.timestamp("us")), WRONG),
    ("date", "string", pa.array([date(2025, 4, 1)]), WRONG),
    ("uuid", "string", pa.array([uuid.UUID(int=7).bytes], pa.uuid()), str(uuid.UUID(int=7))),
    ("dictionary", "string", pa.array(["a"]).dictionary_encode(), "a"),
    ("to int", "int", pa.array([7.0]), 7),
    ("to int, too large", "int", pa.array([2**40]), WRONG),
    ("to double", "double", pa.array([Decimal("19.99")]), 19.99),
    ("to double, inexact", "double", pa.array([2**53 + 1]), WRONG),
    ("ns", "timestamp", pa.array([NAIVE], pa.timestamp("ns")), EIGHT),
    ("ns, UTC", "timestamp", pa.array([AWARE], pa.timestamp("ns", "UTC")), TEN),
    # As floating point numbers one and the other would come out a microsecond off.
    ("ns, odd", "timestamp", pa.array([1743501600090064107], pa.timestamp("ns", "UTC")), ODD),
    ("ns, before 1970", "timestamp", pa.array([-1743501600090064107], pa.timestamp("ns", "UTC")), OLD),
    ("ns, integers", "timestamp", pa.array([1743501600090064107]), ODD),
    ("us", "timestamp", pa.array([NAIVE], pa.timestamp("us")), EIGHT),
    ("us, UTC", "timestamp", pa.array([AWARE], pa.timestamp("us", "UTC")), TEN),
    ("ms, zone", "timestamp", pa.array([AWARE], pa.timestamp("ms", "Asia/Tokyo")), TEN),
    ("seconds", "timestamp", pa.array([1743501600]), TEN),
    ("midnight", "date", pa.array([datetime(2025, 4, 1)], pa.timestamp("us")), date(2025, 4, 1)),
    ("not midnight", "date", pa.array([NAIVE], pa.timestamp("us")), WRONG),
    ("struct by name", "struct<id:string>", pa.array([{"n": 1, "id": 7.0}]), ("7",)),
]


def read_cells(spark, root, format_, columns):
    """By column and file: (value, the column of wrong type)."""
    source = Source(format=format_, columns=columns)
    folders = sorted(str(folder) for folder in root.iterdir())
    rows = read_days(spark, source, folders, str(root), zone="Europe/Paris").collect()
    return [
        (name, row["source file"], row[WRONG_TYPE] and WRONG, row[name])
        for row in rows
        for name in columns
        if row[name] is not None or row[WRONG_TYPE] == name
    ]


TEXT, WHOLE, REAL, TEXTS_BY_TEXT = (
    T.StringType(),
    T.LongType(),
    T.DoubleType(),
    T.MapType(T.StringType(), T.StringType()),
)
LIST, RECORD = T.ArrayType(TEXT), T.StructType([T.StructField("id", TEXT)])
EXACT, CHECKED, NEVER = "no value changes", "each value is looked at", "no value fits"


@pytest.mark.parametrize(
    ("wanted", "by_kind"),
    [
        (TEXT, {EXACT: [TEXT, WHOLE, T.ByteType(), T.NullType()]}),
        (TEXT, {CHECKED: [REAL, T.FloatType(), T.DecimalType(9, 2), T.VariantType()]}),
        (TEXT, {NEVER: [T.BooleanType(), T.DateType(), T.TimestampType(), T.TimestampNTZType()]}),
        (TEXT, {NEVER: [T.BinaryType(), LIST, RECORD, TEXTS_BY_TEXT, T.DayTimeIntervalType()]}),
        (REAL, {EXACT: [REAL, T.FloatType(), T.DecimalType(9, 2)], CHECKED: [TEXT, WHOLE, T.VariantType()]}),
        (REAL, {NEVER: [T.BooleanType(), T.DateType(), T.TimestampType(), LIST, RECORD]}),
        (T.IntegerType(), {EXACT: [T.IntegerType()], CHECKED: [WHOLE, REAL, TEXT], NEVER: [T.BooleanType()]}),
        (T.DateType(), {EXACT: [T.DateType()], CHECKED: [TEXT, T.TimestampType()], NEVER: [WHOLE, REAL]}),
        (LIST, {EXACT: [LIST, T.ArrayType(TEXT, containsNull=False)], CHECKED: [T.ArrayType(REAL)]}),
        (
            LIST,
            {CHECKED: [T.VariantType()], NEVER: [TEXT, T.ArrayType(RECORD), T.ArrayType(T.BooleanType())]},
        ),
        (TEXTS_BY_TEXT, {EXACT: [TEXTS_BY_TEXT, T.MapType(TEXT, REAL), T.MapType(TEXT, T.BooleanType())]}),
        (TEXTS_BY_TEXT, {CHECKED: [T.VariantType()], NEVER: [T.MapType(TEXT, LIST), RECORD, TEXT]}),
        (T.TimestampType(), {CHECKED: [TEXT, WHOLE, REAL, T.DateType()], NEVER: [T.BooleanType(), LIST]}),
    ],
)
def test_a_type_says_whether_its_values_have_to_be_looked_at(wanted, by_kind):
    for fate, kinds in by_kind.items():
        for kind in kinds:
            found = EXACT if always_fits(kind, wanted) else CHECKED if may_fit(kind, wanted) else NEVER
            assert (kind.simpleString(), found) == (kind.simpleString(), fate)


def as_utc(value):
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize(("format_", "cells"), [("json", JSON), ("csv", TEXTS)])
def test_a_value_is_taken_over_unchanged_or_not_at_all(spark, tmp_path, format_, cells):
    columns = {f"c{n}": declared for n, declared in enumerate(cells)}
    expected = {}
    for n, values in enumerate(cells.values()):
        files = {}
        for place, (text, value) in enumerate(values.items()):
            line = f'{{"c{n}": {text}}}' if format_ == "json" else f'c{n}\n"{text}"\n'
            files[f"{place:02d}"] = line.encode()
            if value is not None:
                expected[f"dt=2025-04-{n + 1:02d}/{place:02d}"] = value
        write_day(tmp_path, files, day=f"2025-04-{n + 1:02d}")
    cells_read = read_cells(spark, tmp_path, format_, columns)
    assert {file: wrong or as_utc(value) for _, file, wrong, value in cells_read} == expected


def test_parquet_values_too(spark, tmp_path):
    columns = {f"c{n}": declared for n, (_, declared, _, _) in enumerate(ARRAYS)}
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    for n, (_, _, array, _) in enumerate(ARRAYS):
        pq.write_table(pa.table({f"c{n}": array}), folder / f"{n}.parquet")
    cells = read_cells(spark, tmp_path, "parquet", columns)
    found = {ARRAYS[int(name[1:])][0]: wrong or as_utc(value) for name, _, wrong, value in cells}
    assert found == {name: value for name, _, _, value in ARRAYS}


def test_a_type_that_drifts_is_told_and_splits_no_user(spark, tmp_path, capsys):
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    for n, ids in enumerate((pa.array([12345678]), pa.array([12345678.0, None]))):
        pq.write_table(pa.table({"id": ids}), folder / f"{n}.parquet")
    cells = read_cells(spark, tmp_path, "parquet", {"id": "string"})
    assert [value for *_, value in cells] == ["12345678"] * 2
    told = "the column id, declared string, is bigint in 1 files and double in 1 files"
    assert told in capsys.readouterr().out


def test_json_values_keep_their_kind_in_every_file(spark, tmp_path):
    lines = [json.dumps({"id": value}) for value in (7, "7", 7.0)]
    write_day(tmp_path, {f"{n}.jsonl": line.encode() for n, line in enumerate(lines)})
    assert [value for *_, value in read_cells(spark, tmp_path, "json", {"id": "string"})] == ["7"] * 3
