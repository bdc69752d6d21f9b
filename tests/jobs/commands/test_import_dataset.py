"""Imported logs give, under the same mapping, the same events as the source's own files."""

import gzip
import io
import json
from collections import Counter
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import import_dataset
from jobs.io.messages import JobError
from schemas.mapping import parse_mapping
from tests.jobs.records import fated

DAY = "2025-04-01"
CSV = {"who": "string", "dt": "string", "Item no.": "string", "words": "string"}
FIELDS = {
    "user_id": "who", "event_ts": "CAST(dt AS TIMESTAMP)", "event_type": "'view'", "item_id": "`Item no.`",
    "text": "concat('<', words, '>')", "extra": "map('no text', CAST(words IS NULL AS STRING))",
}  # fmt: skip
TYPED = {
    "who": "string", "dt": "timestamp", "n": "bigint", "x": "double", "d": "decimal(30,5)", "words": "string",
    "tags": "array<string>", "more": "map<string,string>", "deep": "struct<a: string, `b c`: array<int>>",
}  # fmt: skip
TYPED_FIELDS = {
    "user_id": "who", "event_ts": "dt", "event_type": "'view'", "item_id": "CAST(n AS STRING)", "value": "x",
    "text": "words", "companions": "tags",
    "extra": "map_concat(coalesce(more, map()), map('d', CAST(d AS STRING), 'deep', to_json(deep)))",
}  # fmt: skip


def mapping_of(format_, columns, fields, files="*", **options):
    source = {"format": format_, "files": files, "columns": columns, "options": options}
    return {"source": source, "fields": fields, "max_bad_share": 1}


def csv_row(sep, *values):
    return sep.join(values) + "\n"


def rows_of_csv(sep=",", text="Zoë", quote='"', escape='"', more=()):
    """Two equal rows, and rows with unusual texts."""
    times = [f"{DAY} 10:00:00.123456", f"{DAY} 11:00:00"]
    quoted = f"{quote}say {escape}{quote}so{escape}{quote}{sep} twice {quote}"
    texts = [text, text, "", quote * 2, " blanks ", quoted, "NA", "#", *more]
    return "".join(
        csv_row(sep, "u1", times[n % 2 if n > 1 else 0], f"S{n // 2}", words) for n, words in enumerate(texts)
    )


def as_json(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


JSON_ROW = {
    "who": "u1", "dt": f"{DAY}T10:00:00.123456+02:00", "n": 2**63 - 1, "x": 0.1 + 0.2,
    "d": "1234567890123456789012345.67891", "words": "caf\u00e9, \u732b \U0001f408\n\ttoo",
    "tags": ["a", None, ""], "more": {"k": None, "l": "", "m": "x"},
    "deep": {"a": None, "b c": [1, None]}, "unknown": 1,
}  # fmt: skip
JSON_ROWS = [
    JSON_ROW,
    JSON_ROW,
    {"who": "u2", "dt": f"{DAY}T11:00:00Z", "n": 7, "words": {"a": [1.50]}, "more": {}},
]


def as_parquet(*rows):
    out = io.BytesIO()
    schema = {
        "who": pa.string(), "dt": pa.timestamp("us", "UTC"), "n": pa.int64(), "x": pa.float32(),
        "d": pa.decimal128(30, 5), "words": pa.string(), "tags": pa.list_(pa.string()),
        "more": pa.map_(pa.string(), pa.string()), "a, b": pa.int16(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(schema.items()))), out)
    return out.getvalue()


PARQUET_ROW = {
    "who": "u1",
    "dt": datetime(2025, 4, 1, 10, 0, 0, 123456),
    "n": 2**60 + 1,
    "x": 0.1,
    "more": [("k", None)],
    "a, b": 3,
}
PARQUET_FIELDS = {"extra": "coalesce(more, map())", "place": "none"}
HEADER = "who{0}dt{0}Item no.{0}words\n"
MORE = ['"two\nlines"', '"\r\nthree\n\n"']
FORMS = {
    # A copied file, whose rows are duplicates, and two equal rows of one file, which are not.
    "csv": (
        {name: (HEADER.format(",") + rows_of_csv()).encode() for name in ("Zoë +%20 a.csv", "b/copy.csv")}
        | {
            "c.csv.gz": gzip.compress((HEADER.format(",") + rows_of_csv(text="compressed")).encode()),
            "d.csv": b"",
        },
        mapping_of("csv", CSV, FIELDS),
    ),
    "csv with || and NA, without header, in Latin-1": (
        {"a.csv": rows_of_csv("||").encode("latin-1")},
        mapping_of("csv", CSV, FIELDS, sep="||", nullValue="NA", header=False, encoding="ISO-8859-1"),
    ),
    "csv of several lines, trimmed": (
        {"a.csv": (HEADER.format(";") + rows_of_csv(";", escape="\\", more=MORE)).encode()},
        mapping_of(
            "csv",
            CSV,
            FIELDS,
            sep=";",
            escape="\\",
            multiLine=True,
            ignoreLeadingWhiteSpace=True,
            ignoreTrailingWhiteSpace=True,
        ),
    ),
    "csv with another sign for what is empty": (
        {"a.csv": (HEADER.format(",") + rows_of_csv()).encode()},
        mapping_of("csv", CSV, FIELDS, emptyValue="none"),
    ),
    "csv without quotes": (
        {"a.csv": (HEADER.format("\t") + csv_row("\t", '#"u', f"{DAY} 10:00:00", 'S"1', ' "a ')).encode()},
        mapping_of("csv", CSV, FIELDS, sep="\t", quote=""),
    ),
    "json": (
        {"a.jsonl": as_json(*JSON_ROWS).encode(), "b.jsonl": as_json(JSON_ROW).encode()},
        mapping_of("json", TYPED, TYPED_FIELDS),
    ),
    "json in Latin-1": (
        {"a.jsonl": as_json(*JSON_ROWS).encode("latin-1")},
        mapping_of("json", TYPED, TYPED_FIELDS, encoding="ISO-8859-1"),
    ),
    "json of several lines": (
        {
            "a.json": json.dumps(JSON_ROWS, indent=1).encode(),
            "b.json": json.dumps(JSON_ROW, indent=1).encode(),
        },
        mapping_of("json", TYPED, TYPED_FIELDS, multiLine=True),
    ),
    "json of several lines in UTF-16": (
        {"a.json": json.dumps(JSON_ROWS).encode("utf-16-le")},
        mapping_of("json", TYPED, TYPED_FIELDS, multiLine=True, encoding="UTF-16LE"),
    ),
    "parquet": (
        {
            "a.parquet": as_parquet(PARQUET_ROW, PARQUET_ROW),
            "b.parquet": as_parquet(PARQUET_ROW | {"words": ""}),
        },
        # "none" is declared, but no file has it.
        mapping_of(
            "parquet",
            {n: ddl for n, ddl in TYPED.items() if n != "deep"} | {"none": "string"},
            TYPED_FIELDS | PARQUET_FIELDS,
        ),
    ),
}


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def imported(spark, root, files, mapping):
    write_files(root / "source", files)
    (root / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    words = ["--mapping", root / "mapping.yaml", "--source", root / "source", "--logs", root / "logs"]
    import_dataset.run(spark, import_dataset.arg_parser().parse_args([str(word) for word in words]))
    return root / "logs"


def decided(spark, logs, mapping):
    return Counter(
        map(
            repr,
            fated(spark, str(logs), parse_mapping(yaml.safe_dump(mapping), "m"))
            .drop("source_file")
            .collect(),
        )
    )


# Unusual ways to write a CSV or JSON file are tested in the long run only.
USUAL = ("csv", "json", "parquet", "csv with || and NA, without header, in Latin-1")


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=() if form in USUAL else pytest.mark.slow) for form in FORMS]
)
def test_a_form_is_read_back_unchanged(spark, tmp_path, form):
    files, mapping = FORMS[form]
    write_files(tmp_path / "raw" / f"dt={DAY}", files)
    expected = decided(spark, tmp_path / "raw", mapping)
    logs = imported(spark, tmp_path, files, mapping)
    assert [path.name for path in logs.iterdir()] == [f"dt={DAY}"]
    assert decided(spark, logs, mapping) == expected
    assert sum("fate='stored'" in row for row in expected) >= 1


def rows_at(*times):
    return {
        "a.csv": (
            HEADER.format(",")
            + "".join(csv_row(",", "u1", time, f"S{n}", "x") for n, time in enumerate(times))
        ).encode()
    }


def test_every_day_has_its_folder_and_rows_without_a_time_are_in_the_first(spark, tmp_path):
    mapping = mapping_of("csv", CSV, FIELDS)
    logs = imported(
        spark,
        tmp_path,
        rows_at("soon", "2025-04-01 10:00:00", "2025-04-03 10:00:00", "+12025-01-01 00:00:00"),
        mapping,
    )
    assert sorted(path.name for path in logs.iterdir()) == ["dt=2025-04-01", "dt=2025-04-02", "dt=2025-04-03"]
    assert all((folder / "_SUCCESS").exists() for folder in logs.iterdir())
    fates = (
        fated(spark, str(logs), parse_mapping(yaml.safe_dump(mapping), "m"))
        .select("log_date", "fate", "reason")
        .collect()
    )
    first, third = date(2025, 4, 1), date(2025, 4, 3)
    assert set(map(tuple, fates)) == {
        (first, "stored", None), (first, "quarantined", "bad_time"), (first, "quarantined", "future"),
        (third, "stored", None),
    }  # fmt: skip


def test_days_far_from_the_others_stop_the_import():
    days = {date(2025, 4, 1): 70, date(2025, 6, 1): 30}
    assert import_dataset.span(days, "s") == (date(2025, 4, 1), date(2025, 6, 1))
    assert import_dataset.span(days | {date(2016, 1, 1): 1}, "s") == (date(2016, 1, 1), date(2025, 6, 1))
    message = (
        r"9 rows of s are dated 1970-01-01\.\.2242-12-31, more than ten years away from the other rows "
        r"\(2025-04-01\.\.2025-06-01\); correct these dates"
    )
    with pytest.raises(JobError, match=message):
        import_dataset.span(days | {date(1970, 1, 1): 2, date(1970, 1, 3): 3, date(2242, 12, 31): 4}, "s")


GOOD = rows_at(f"{DAY} 10:00:00")
REFUSED = {
    "truncated": (
        {"a.csv.gz": gzip.compress(GOOD["a.csv"] * 500)[:-40]},
        {},
        r"a\.csv\.gz can't be read to its end",
    ),
    "gzip without its extension": (
        GOOD | {"b.csv": gzip.compress(GOOD["a.csv"])},
        {},
        r"b\.csv is not csv: it holds gzip, for which its name must end in \.gz",
    ),
    "a column in names of folders": (
        {"words=x/a.csv": GOOD["a.csv"]},
        {},
        "the mapping's column words has its values in names of folders below .*/source, which an import",
    ),
    "a short row": ({"a.csv": GOOD["a.csv"] + b"1,2\n"}, {}, r"1 records of .*a\.csv can't be parsed as csv"),
    "no such encoding": (GOOD, {"encoding": "Klingon"}, r"the mapping does not fit .*a\.csv: .*Klingon"),
    "no time": (rows_at("soon"), {}, "no row of .* has a time that the mapping can read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_import_names_the_cause_and_leaves_nothing(spark, tmp_path, case):
    files, options, sentence = REFUSED[case]
    with pytest.raises(JobError, match=sentence):
        imported(spark, tmp_path, files, mapping_of("csv", CSV, FIELDS, **options))
    assert {path.name for path in tmp_path.iterdir()} == {"source", "mapping.yaml"}


@pytest.mark.parametrize(
    ("source", "logs"),
    [("data", "data/logs"), ("data/raw", "data"), ("data", "data"), ("data.importing/raw", "data")],
)
def test_source_and_logs_lie_apart(tmp_path, source, logs):
    (tmp_path / source).mkdir(parents=True)
    arguments = ["--mapping", "canonical", "--source", str(tmp_path / source), "--logs", str(tmp_path / logs)]
    args = import_dataset.arg_parser().parse_args(arguments)
    with pytest.raises(JobError, match=r"lie in each other.*give --logs a folder outside the source"):
        import_dataset.run(None, args)
    assert (tmp_path / source).is_dir()


def test_source_and_logs_may_have_names_that_begin_alike():
    import_dataset.require_apart("/data", "/data-logs")
    import_dataset.require_apart("/data/raw", "/data/logs")


@pytest.mark.parametrize("dated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_catalogue_files_with_the_same_name_are_all_delivered(spark, tmp_path, capsys, dated):
    items = {
        "source": {"format": "csv", "files": "items.csv", "columns": {"id": "string"}},
        "fields": {"item_id": "id"} | ({"valid_from": "current_date()"} if dated else {}),
    }
    mapping = mapping_of("csv", CSV, FIELDS, "a.csv") | {"items": items}
    logs = imported(spark, tmp_path, GOOD | {f"{n}/items.csv": f"id\n{n}\n".encode() for n in "xy"}, mapping)
    assert {path.read_text() for path in (logs / "items" / f"dt={DAY}").rglob("*.csv")} == {
        "id\nx\n",
        "id\ny\n",
    }
    # Rows with a day of their own don't all count from the delivery on.
    assert ("its titles count from then on" in capsys.readouterr().out) is not dated
