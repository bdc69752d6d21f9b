"""One day in every form that a log comes in: the same events, whatever the format, the packing, the files and the encoding."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.io import damage
from jobs.io.shell import JobError
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.jobs.fates import fated

DAY = "2025-04-01"
ROWS = [
    {
        "user": f"{n:03d}", "when": f"{DAY} {n:02d}:15:00", "what": "view", "item": f"0{n}",
        "words": f"Zoë's café, \"nº {n}\"; a||b", "stars": n % 5 + 1,
    }
    for n in range(12)
]
FIELDS = {
    "user_id": "user", "event_ts": "to_timestamp(when, 'yyyy-MM-dd HH:mm:ss')", "event_type": "what", "item_id": "item", "text": "words",
    "rating": "stars",
}  # fmt: skip
COLUMNS = {"user": "string", "when": "string", "what": "string", "item": "string", "words": "string", "stars": "double"}


def mapping_of(format_: str, **options: str):
    source = {"format": format_, "columns": COLUMNS, "options": options}
    return parse_mapping(json.dumps({"source": source, "fields": FIELDS, "rating_min": 1, "rating_max": 5, "zone": "Europe/Paris"}), "m")


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
    "json, many files below folders": ({f"h={n:02d}/a.jsonl": as_json([row]).encode() for n, row in enumerate(ROWS)}, mapping_of("json")),
    "json with byte order marks": ({f"{n}.jsonl": as_json(half).encode("utf-8-sig") for n, half in enumerate(HALVES)}, mapping_of("json")),
    "json in Latin-1": ({"a.jsonl": as_json(ROWS).encode("latin-1")}, mapping_of("json", encoding="ISO-8859-1")),
    "csv": ({"a.csv": as_csv(ROWS).encode()}, mapping_of("csv")),
    "csv.gz with ;": ({"a.csv.gz": gzip.compress(as_csv(ROWS, ";").encode())}, mapping_of("csv", sep=";")),
    "csv with ||": ({"a.csv": as_csv(ROWS, "||").encode()}, mapping_of("csv", sep="||")),
    "csv without header": ({"a.csv": as_csv(ROWS, header=False).encode()}, mapping_of("csv", header="false")),
    "csv with byte order marks": ({f"{n}.csv": as_csv(half).encode("utf-8-sig") for n, half in enumerate(HALVES)}, mapping_of("csv")),
    "csv in Latin-1": ({"a.csv": as_csv(ROWS, "\t").encode("latin-1")}, mapping_of("csv", sep="\t", encoding="ISO-8859-1")),
    "parquet": ({f"{n}.parquet": as_parquet(half) for n, half in enumerate(HALVES)}, mapping_of("parquet")),
}


def write_day(root, files):
    for name, content in files.items():
        path = root / f"dt={DAY}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / f"dt={DAY}" / "_SUCCESS").touch()


@pytest.mark.parametrize("form", FORMS)
def test_a_form_gives_the_events(spark, tmp_path, form):
    files, mapping = FORMS[form]
    write_day(tmp_path, files)
    assert damage.require_whole(spark, mapping.source.format, [f"{tmp_path}/dt={DAY}"], 200) == {}
    rows = fated(spark, str(tmp_path), mapping).collect()
    assert {row["fate"] for row in rows} == {"stored"}
    got = {(r["user_id"], r["item_id"], r["text"], r["rating"], r["event_ts"].astimezone(UTC), r["utc_offset_min"]) for r in rows}
    hours = [datetime(2025, 4, 1, n, 15, tzinfo=UTC).timestamp() - 7200 for n in range(12)]
    assert got == {
        (row["user"], row["item"], row["words"], (row["stars"] - 1) / 4, datetime.fromtimestamp(second, UTC), 120)
        for row, second in zip(ROWS, hours, strict=True)
    }


def test_a_row_of_other_length_or_type_is_set_aside(spark, tmp_path):
    good = as_csv(ROWS[:2])
    write_day(tmp_path, {"a.csv": (good + "only,two\n" + '001,"2025-04-01 10:00:00",view,7,x,many\n' + "1,2,3,4,5,6,7\n").encode()})
    reasons = sorted(row["reason"] or "" for row in fated(spark, str(tmp_path), mapping_of("csv")).collect())
    assert reasons == ["", "", "unreadable", "unreadable", "wrong_type"]


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
        pq.write_table(pa.table({"a": pa.array([1]).take(pa.array([0] * (70 << 20), pa.int8()))}), out, row_group_size=100 << 20)
        content = out.getvalue()
    write_day(tmp_path, {name: content})
    with pytest.raises(JobError, match=f"{name} {sentence}.*nothing of its day was stored"):
        look(spark, tmp_path, format_)


@pytest.mark.parametrize(("manifest", "sentence"), [
    ('{"a.jsonl": 12, "b.jsonl": 3}', "b.jsonl is promised by _MANIFEST and not there"),
    ("{}", "a.jsonl is not in _MANIFEST"),
    ('{"a.jsonl": "many"}', "_MANIFEST must be one JSON object"),
    ("[", "_MANIFEST must be one JSON object"),
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


