"""A truncated, corrupt or missing file stops the day by name, before any of its records is stored."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import orc

from jobs.ingest import damage
from jobs.io.messages import JobError
from tests.jobs.records import DAY, ROWS, as_csv, as_json, as_parquet, fated, mapping_of, write_day, zstd

TEXT = as_json(ROWS * 50).encode()


def look(spark, root, format_="json"):
    return damage.require_sound(spark, format_, [f"{root}/dt={DAY}"], max_expansion=200)


def parquet_bomb() -> bytes:
    """More than 64 million rows in a few kilobytes."""
    out = io.BytesIO()
    pq.write_table(pa.table({"a": pa.nulls(70 << 20, pa.int8())}), out, row_group_size=100 << 20)
    return out.getvalue()


DAMAGED = {
    "cut.jsonl.gz": (lambda: gzip.compress(TEXT)[:-40], "json", "can't be decompressed"),
    "cut.jsonl.zst": (lambda: zstd(TEXT)[:-10], "json", "can't be decompressed"),
    "empty.jsonl.gz": (bytes, "json", "has no bytes"),
    "empty.jsonl.zst": (bytes, "json", "has no bytes"),
    "empty.jsonl.bz2": (bytes, "json", "has no bytes"),
    "empty.parquet": (bytes, "parquet", "is not a complete Parquet file"),
    "none.jsonl.gz": (lambda: b"hello", "json", "can't be decompressed"),
    "bomb.jsonl.gz": (
        lambda: gzip.compress(b"\0" * (80 << 20)),
        "json",
        "decompresses to more than 200 times its size",
    ),
    "cut.parquet": (lambda: as_parquet(ROWS)[:-20], "parquet", "is not a complete Parquet file"),
    "bomb.parquet": (parquet_bomb, "parquet", "decompresses to more than 200 times its size"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_corrupt_file_is_named(spark, tmp_path, name):
    content, format_, sentence = DAMAGED[name]
    write_day(tmp_path, {name: content()})
    with pytest.raises(JobError, match=f"{name} {sentence}.*nothing of its day was stored"):
        look(spark, tmp_path, format_)


def zipped(text: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", text)
    return out.getvalue()


def tarred(text: bytes) -> bytes:
    out, member = io.BytesIO(), tarfile.TarInfo("a.jsonl")
    member.size = len(text)
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(member, io.BytesIO(text))
    return out.getvalue()


def as_orc() -> bytes:
    out = io.BytesIO()
    orc.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


# Content by the words of the message; the files have no extension that says so.
NO_TEXT = {
    r"gzip, for which its name must end in \.gz": lambda: gzip.compress(TEXT),
    r"zstd, for which its name must end in \.zst": lambda: zstd(TEXT),
    r"bzip2, for which its name must end in \.bz2": lambda: bz2.compress(TEXT),
    "xz": lambda: lzma.compress(TEXT),
    "a zip archive": lambda: zipped(TEXT),
    "a tar archive": lambda: tarred(TEXT),
    "Parquet": lambda: as_parquet(ROWS),
    "ORC": as_orc,
    "Avro": lambda: b"Obj\x01\x04\x14avro.codec",
}


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("format_", ["json", "csv"])
def test_a_file_that_is_no_text_is_named(spark, tmp_path, kind, format_):
    write_day(tmp_path, {"a.jsonl": TEXT, "late.jsonl": NO_TEXT[kind]()})
    with pytest.raises(JobError, match=f"late.jsonl is not {format_}: it holds {kind}; nothing of its day"):
        look(spark, tmp_path, format_)


@pytest.mark.parametrize(
    ("content", "kind"), [(gzip.compress(TEXT), "gzip"), (tarred(TEXT), "a tar archive"), (as_orc(), "ORC")]
)
def test_a_compressed_file_that_holds_no_text_is_named(spark, tmp_path, content, kind):
    write_day(tmp_path, {"a.gz": gzip.compress(content)})
    with pytest.raises(JobError, match=rf"a\.gz is not json: decompressed, it holds {kind}; nothing"):
        look(spark, tmp_path)


@pytest.mark.parametrize("content", [TEXT, gzip.compress(TEXT), as_orc()], ids=["json", "gzip", "ORC"])
def test_a_file_that_is_no_parquet_is_named(spark, tmp_path, content):
    write_day(tmp_path, {"a.parquet": content})
    with pytest.raises(JobError, match=r"a\.parquet is not a complete Parquet file"):
        look(spark, tmp_path, "parquet")


@pytest.mark.parametrize("text", ["ORCID,PAR1\n1,2\n", "PAR1,ORC\n", "BZh9,PK\n", "Obj,1\n", "P*M,1\n", ""])
def test_a_text_may_begin_with_any_word(spark, tmp_path, text):
    write_day(tmp_path, {f"{name}.csv": text.encode(name) for name in ("utf-8", "utf-16", "utf-16-be")})
    assert look(spark, tmp_path, "csv") == {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_wherever_it_ends(spark, share):
    compressed = gzip.compress(TEXT)
    with tempfile.TemporaryDirectory() as folder:
        write_day(Path(folder), {"a.jsonl.gz": compressed[: max(1, int(share * len(compressed)))]})
        with pytest.raises(JobError, match="can't be decompressed"):
            look(spark, folder)


def corrupt_page() -> bytes:
    """A Parquet file with a complete footer."""
    content = bytearray(as_parquet([row | {"user": f"u{n}"} for n, row in enumerate(ROWS * 200)]))
    content[200:2000] = b"\x55" * 1800
    return bytes(content)


@pytest.mark.parametrize(
    ("files", "format_", "sentence"),
    [
        pytest.param(
            {"b c.parquet": corrupt_page()},
            "parquet",
            r"b c\.parquet can't be read to its end, or not as the mapping says \(FAILED_TO_UNCOMPRESS",
            id="corrupt page",
        ),
        pytest.param(
            {"a.csv": as_csv(ROWS).encode(), "b.csv": b"item,user\n1,2\n"},
            "csv",
            "b.csv has another header than the other files of its day",
            id="header",
        ),
    ],
)
def test_a_file_that_fails_while_it_is_read_is_named(spark, tmp_path, files, format_, sentence):
    write_day(tmp_path, files)
    look(spark, tmp_path, format_)
    with pytest.raises(JobError, match=f"^/.*/{sentence}.*nothing of it was stored"), damage.readable():
        fated(spark, str(tmp_path), mapping_of(format_))


NOT_COUNTS = "_MANIFEST must be one JSON object"


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ('{"a.jsonl": 12, "b.jsonl": 3}', "b.jsonl is listed in _MANIFEST and is missing"),
        ("{}", "a.jsonl is not in _MANIFEST"),
        ('{"a.jsonl": "many"}', NOT_COUNTS),
        ("[", NOT_COUNTS),
        pytest.param("[" * 100_000, NOT_COUNTS, id="deep"),
    ],
)
def test_a_manifest_must_list_exactly_the_files(spark, tmp_path, manifest, sentence):
    write_day(tmp_path, {"a.jsonl": as_json(ROWS).encode(), "_MANIFEST": manifest.encode()})
    with pytest.raises(JobError, match=sentence):
        look(spark, tmp_path)


def test_a_manifest_s_number_of_records_is_checked(spark, tmp_path):
    write_day(
        tmp_path, {"a.jsonl": as_json(ROWS).encode(), "_MANIFEST": json.dumps({"a.jsonl": 13}).encode()}
    )
    promised = look(spark, tmp_path)
    records = spark.createDataFrame([(f"dt={DAY}/a.jsonl",)] * 12, "source_file string")
    with pytest.raises(JobError, match=r"a\.jsonl holds 12 records, and _MANIFEST promises 13"):
        damage.require_promised(records, promised, str(tmp_path))
