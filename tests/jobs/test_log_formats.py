"""One day in every form that a log comes in: the same events, whatever the format, the packing, the files and the encoding."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.ingest import damage
from jobs.io.messages import JobError
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.jobs.fates import fated

DAY = "2025-04-01"
ROWS = [
    {
        "user": f"{n:03d}",
        "when": f"{DAY} {n:02d}:15:00",
        "what": "view",
        "item": f"0{n}",
        "words": f'Zoë\'s café, "nº {n}"; a||b',
        "stars": n % 5 + 1,
    }
    for n in range(12)
]
FIELDS = {
    "user_id": "user", "event_ts": "to_timestamp(when, 'yyyy-MM-dd HH:mm:ss')", "event_type": "what", "item_id": "item", "text": "words",
    "rating": "stars",
}  # fmt: skip
COLUMNS = {
    "user": "string",
    "when": "string",
    "what": "string",
    "item": "string",
    "words": "string",
    "stars": "double",
}


def mapping_of(format_: str, **options: str):
    source = {"format": format_, "columns": COLUMNS, "options": options}
    return parse_mapping(
        json.dumps(
            {"source": source, "fields": FIELDS, "rating_min": 1, "rating_max": 5, "zone": "Europe/Paris"}
        ),
        "m",
    )


def as_json(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows, delimiter=",", header=True) -> str:
    # Python's writer knows delimiters of one character only.
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\x1f", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[*COLUMNS]] * header + [[row[name] for name in COLUMNS] for row in rows])
    return out.getvalue().replace("\x1f", delimiter)


def as_parquet(rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


HALVES = ROWS[:5], ROWS[5:]
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
        {
            "0.parquet": as_parquet(HALVES[0]),
            "1.parquet": as_parquet(
                [{"more": 1} | row | {"stars": float(row["stars"])} for row in HALVES[1]]
            ),
        },
        mapping_of("parquet"),
    ),
}


def write_day(root, files, day=DAY):
    for name, content in files.items():
        path = root / f"dt={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / f"dt={day}" / "_SUCCESS").touch()


@pytest.mark.parametrize("form", FORMS)
def test_a_form_gives_the_events(spark, tmp_path, form):
    files, mapping = FORMS[form]
    write_day(tmp_path, files)
    assert damage.require_whole(spark, mapping.source.format, [f"{tmp_path}/dt={DAY}"], 200) == {}
    rows = fated(spark, str(tmp_path), mapping).collect()
    assert {row["fate"] for row in rows} == {"stored"}
    got = {
        (
            r["user_id"],
            r["item_id"],
            r["text"],
            r["rating"],
            r["event_ts"].astimezone(UTC),
            r["utc_offset_min"],
        )
        for r in rows
    }
    hours = [datetime(2025, 4, 1, n, 15, tzinfo=UTC).timestamp() - 7200 for n in range(12)]
    assert got == {
        (
            row["user"],
            row["item"],
            row["words"],
            (row["stars"] - 1) / 4,
            datetime.fromtimestamp(second, UTC),
            120,
        )
        for row, second in zip(ROWS, hours, strict=True)
    }


def test_a_row_of_other_length_or_type_is_set_aside(spark, tmp_path):
    good, bad = (
        as_csv(ROWS[:2]),
        ["only,two", '001,"2025-04-01 10:00:00",view,7,x,many', "1,2,3,4,5,6,7", "," * 30_000],
    )
    write_day(tmp_path, {"a.csv": (good + "\n".join(bad)).encode()})
    reasons = sorted(row["reason"] or "" for row in fated(spark, str(tmp_path), mapping_of("csv")).collect())
    assert reasons == ["", "", "unreadable", "unreadable", "unreadable", "wrong_type"]


SINGLE_QUOTES = "{'user': 'single', 'what': 'view', 'item': '1', 'when': '2025-04-01 01:00:00'}"
# What a line is, given two records, and how what it holds ends.
LINES = {
    "two": (lambda one, two: one + two, ["stored", "unreadable"]),
    "torn": (lambda one, two: one + two[:30], ["stored", "unreadable"]),
    "words": (lambda one, two: f"{one} words", ["stored", "unreadable"]),
    "comma": (lambda one, two: f"{one},", ["stored", "unreadable"]),
    "closed": (lambda one, two: f"{one}}}", ["stored", "unreadable"]),
    "nested": (lambda one, two: one[:-1] + ', "more": {"a": [{}]}}' + two, ["stored", "unreadable"]),
    "single quotes": (lambda one, two: SINGLE_QUOTES + two, ["stored", "unreadable"]),
    "array and more": (lambda one, two: f"[{one}] {two}", ["stored", "unreadable"]),
    "array": (lambda one, two: f"[{one}, {two}]", ["stored", "stored"]),
    "array of nothing": (lambda one, two: "[]", ["unreadable"]),
    "sound": (lambda one, two: one[:-1] + ', "more": {"a": "}{"}} \t', ["stored"]),
    "no record": (lambda one, two: one[:-9] + "{}", ["unreadable"]),
}


def test_nothing_of_a_line_is_lost(spark, tmp_path):
    pairs = {name: [json.dumps(row | {"user": name}) for row in ROWS[:2]] for name in LINES}
    write_day(tmp_path, {f"{name}.jsonl": line(*pairs[name]).encode() for name, (line, _) in LINES.items()})
    ends = {name: [] for name in LINES}
    for row in fated(spark, str(tmp_path), mapping_of("json")).collect():
        ends[row["source_file"].removeprefix(f"dt={DAY}/").removesuffix(".jsonl")].append(
            row["reason"] or row["fate"]
        )
    assert {name: sorted(found) for name, found in ends.items()} == {
        name: ends for name, (_, ends) in LINES.items()
    }


def test_parquet_columns_of_other_kinds(spark, tmp_path):
    def file(**other):
        return as_parquet([{name: value for name, value in (ROWS[0] | other).items() if value is not None}])

    no_text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe"))
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([ROWS[0]]).append_column("with", pa.ListArray.from_arrays([0, 1], no_text)), out
    )
    write_day(tmp_path, {
        "0.parquet": file(words=None, stars=None),
        "bytes.parquet": file(item=b"00", words=b"caf\xc3\xa9 \xff"),
        "bytes_in_id.parquet": file(item=b"S\xff"),
        "number.parquet": file(item=7),
        "list.parquet": file(**{"with": ["Ann"]}),
        "large.parquet": file(stars=2**32 + 3),
        "bytes_in_list.parquet": file(**{"with": [b"a\xff"]}),
        "text_in_list.parquet": out.getvalue(),
    })  # fmt: skip
    mapping = json.loads(mapping_of("parquet").model_dump_json())
    mapping["source"]["columns"] |= {"stars": "int", "with": "array<string>"}
    mapping["fields"]["companions"] = "`with`"
    rows = fated(spark, str(tmp_path), parse_mapping(json.dumps(mapping), "m")).collect()
    found = {row["source_file"].removeprefix(f"dt={DAY}/").removesuffix(".parquet"): row for row in rows}
    assert {name: row["reason"] for name, row in found.items()} == {
        "0": None, "bytes": None, "number": None, "list": None, "bytes_in_id": "control_characters",
        "large": "wrong_type", "bytes_in_list": "wrong_type", "text_in_list": "wrong_type",
    }  # fmt: skip
    stored = {
        name: (row["item_id"], row["text"], row["rating"], row["companions"])
        for name, row in found.items()
        if not row["reason"]
    }
    words = ROWS[0]["words"]
    assert stored == {
        "0": ("00", None, None, None), "bytes": ("00", "café \ufffd", 0, None),
        "number": ("7", words, 0, None), "list": ("00", words, 0, ["Ann"]),
    }  # fmt: skip


def test_days_of_other_headers(spark, tmp_path):
    write_day(tmp_path, {"a.csv": as_csv(ROWS[:1]).encode()})
    turned = [
        list(reversed(line.split("|"))) for line in as_csv([ROWS[1] | {"words": "x"}], "|").splitlines()
    ]
    write_day(tmp_path, {"a.csv": "\n".join(",".join(line) for line in turned).encode()}, day="2025-04-02")
    write_day(tmp_path, {"a.csv": b""}, day="2025-04-03")
    rows = fated(spark, str(tmp_path), mapping_of("csv")).collect()
    found = sorted((str(row["log_date"]), row["item_id"], row["fate"]) for row in rows)
    assert found == [(DAY, "00", "stored"), ("2025-04-02", "01", "stored")]


def test_a_folder_with_the_name_of_a_pattern(spark, tmp_path):
    for name, item in (("l[1]", "right"), ("l1", "wrong")):
        write_day(tmp_path / name, {"a.jsonl": as_json([ROWS[0] | {"item": item}]).encode()})
    rows = fated(spark, str(tmp_path / "l[1]"), mapping_of("json")).collect()
    assert [(row["item_id"], row["source_file"]) for row in rows] == [("right", f"dt={DAY}/a.jsonl")]


@pytest.mark.parametrize(("file", "mapping", "sentence"), [
    ("a.csv", mapping_of("csv"), "none of the mapping's columns: its header has user;when;.*, and the mapping wants user, when"),
    ("a.jsonl", mapping_of("json", encoding="UTF-16"), "the mapping's options do not fit the logs: .*UTF-16"),
], ids=["separator", "encoding"])  # fmt: skip
def test_a_mapping_that_does_not_fit_the_files(spark, tmp_path, file, mapping, sentence):
    write_day(tmp_path, {file: as_csv(ROWS, ";").replace('"', "").encode()})
    with pytest.raises(JobError, match=sentence), damage.named():
        fated(spark, str(tmp_path), mapping)


def test_types_that_the_settings_do_not_list(spark, tmp_path):
    write_day(tmp_path, {"a.jsonl": as_json([ROWS[0], ROWS[1] | {"what": "waved"}]).encode()})
    settings = Settings.model_validate({"ingest": {"unknown_types": "quarantine"}})
    rows = fated(spark, str(tmp_path), mapping_of("json"), settings).collect()
    assert sorted(row["reason"] or "" for row in rows) == ["", "unknown_type"]


# ---- whole files


def look(spark, root, format_="json", most=200):
    damage.require_whole(spark, format_, [f"{root}/dt={DAY}"], most)


TEXT = as_json(ROWS * 50).encode()
DAMAGED = {
    "cut.jsonl.gz": (gzip.compress(TEXT)[:-40], "json", "can't be unpacked"),
    "cut.jsonl.zst": (zstd(TEXT)[:-10], "json", "can't be unpacked"),
    "none.jsonl.gz": (b"hello", "json", "can't be unpacked"),
    "bomb.jsonl.gz": (gzip.compress(b"\0" * (80 << 20)), "json", "unpacks to more than 200 times"),
    "cut.parquet": (as_parquet(ROWS)[:-20], "parquet", "is no whole Parquet file"),
    "bomb.parquet": (None, "parquet", "unpacks to more than 200 times"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(spark, tmp_path, name):
    content, format_, sentence = DAMAGED[name]
    if content is None:
        out = io.BytesIO()
        pq.write_table(
            pa.table({"a": pa.array([1]).take(pa.array([0] * (70 << 20), pa.int8()))}),
            out,
            row_group_size=100 << 20,
        )
        content = out.getvalue()
    write_day(tmp_path, {name: content})
    with pytest.raises(JobError, match=f"{name} {sentence}.*nothing of its day was stored"):
        look(spark, tmp_path, format_)


def torn_page() -> bytes:
    """A Parquet file with a whole footer."""
    content = bytearray(as_parquet([row | {"user": f"u{n}"} for n, row in enumerate(ROWS * 200)]))
    content[200:2000] = b"\x55" * 1800
    return bytes(content)


@pytest.mark.parametrize(("files", "format_", "sentence"), [
    ({"b c.parquet": torn_page()}, "parquet", "b c.parquet can't be read to its end"),
    ({"a.csv": as_csv(ROWS).encode(), "b.csv": b"item,user\n1,2\n"}, "csv", "b.csv has another header than the other files of its day"),
], ids=["torn page", "header"])  # fmt: skip
def test_a_file_that_fails_while_it_is_read_is_named(spark, tmp_path, files, format_, sentence):
    write_day(tmp_path, files)
    look(spark, tmp_path, format_)
    with pytest.raises(JobError, match=f"^/.*/{sentence}.*nothing of it was stored"), damage.named():
        fated(spark, str(tmp_path), mapping_of(format_))


@pytest.mark.parametrize(("manifest", "sentence"), [
    ('{"a.jsonl": 12, "b.jsonl": 3}', "b.jsonl is promised by _MANIFEST and not there"),
    ("{}", "a.jsonl is not in _MANIFEST"),
    ('{"a.jsonl": "many"}', "_MANIFEST must be one JSON object"),
    ("[", "_MANIFEST must be one JSON object"),
    pytest.param("[" * 100_000, "_MANIFEST must be one JSON object", id="deep"),
])  # fmt: skip
def test_a_manifest_is_held(spark, tmp_path, manifest, sentence):
    write_day(tmp_path, {"a.jsonl": as_json(ROWS).encode(), "_MANIFEST": manifest.encode()})
    with pytest.raises(JobError, match=sentence):
        look(spark, tmp_path)


def test_a_manifest_counts_records(spark, tmp_path):
    write_day(tmp_path, {"a.jsonl": as_json(ROWS).encode(), "_MANIFEST": b'{"a.jsonl": 13}'})
    promised = damage.require_whole(spark, "json", [f"{tmp_path}/dt={DAY}"], 200)
    records = spark.createDataFrame([(f"dt={DAY}/a.jsonl",)] * 12, "source_file string")
    with pytest.raises(JobError, match=r"a\.jsonl holds 12 records, and _MANIFEST promises 13"):
        damage.require_promised(records, promised, str(tmp_path))
