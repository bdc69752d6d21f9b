"""Finds corrupt files before any of their records is read, so that a bad day leaves the tables unchanged.

A truncated compressed file, a decompression bomb, an incomplete Parquet file, a file of another format than
the mapping's, a file that the day's _MANIFEST lists and that is missing: each stops the day with the file's
name.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.io import logs
from jobs.io.days import Days
from jobs.io.failures import UNREAD, deepest_cause, java_messages, local_path
from jobs.io.formats import THREADS
from jobs.io.messages import JobError, one_sentence
from jobs.io.storage import (
    data_files,
    file_size,
    first_bytes,
    first_line,
    is_compressed,
    open_compressed,
    open_parquet,
    read_text,
)
from schemas.all_tables import ALL_TABLES
from schemas.mapping import THE_DAY

MANIFEST: Final = "_MANIFEST"
# Bytes decompressed between two looks at the size; as many are harmless whatever the ratio.
STEP: Final = 64 << 20
# How files begin that are no text: read as lines, all of their records would be a few unreadable ones. Words
# that a text may begin with count only before a byte that no text has.
BEGINNINGS: Final = {
    "gzip": rb"\x1f\x8b\x08",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\0",
    "lz4": rb"\x04\x22\x4d\x18",
    "snappy": rb"\xff\x06\0\0sNaPpY",
    "a zip archive": rb"PK\x03\x04",
    "a tar archive": rb".{257}ustar",
    "Parquet": rb"PAR[1E].*?[\0-\x08]",
    "ORC": rb"ORC.*?[\0-\x08]",
    "Avro": rb"Obj\x01",
}
# Bytes that tell: those of the longest of these beginnings.
TELLING: Final = 262
ENDINGS: Final = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2"}


def require_sound_days(
    spark: SparkSession, found: logs.Logs, days: Days, max_expansion: int
) -> dict[str, int]:
    """Raises JobError at the first corrupt file of the days, and at one that belongs to no source.

    Returns the record counts that the manifests promise, by file.
    """
    promised: dict[str, int] = {}
    for name, one in found.mapping.sources.items():
        folders = found.folders(days, name)
        promised |= require_sound(spark, one.source.format, folders, max_expansion)
    if THE_DAY not in found.mapping.sources:
        for folder in found.folders(days):
            promised |= _promised(spark, folder)
            _require_owned(folder, data_files(spark, folder), sorted(found.mapping.sources))
    return promised


def _require_owned(folder: str, files: Sequence[str], sources: Sequence[str]) -> None:
    for file in files:
        if logs.below(file, folder).split("/")[0] not in sources:
            raise JobError(
                f"{file} is in none of the folders of the mapping's sources, {', '.join(sources)}; "
                "nothing of its day was stored"
            )


def require_sound(
    spark: SparkSession, format_: str, folders: Sequence[str], max_expansion: int
) -> dict[str, int]:
    """Raises JobError at the first corrupt file.

    Returns the record counts that the manifests promise, by file.
    """
    promised: dict[str, int] = {}
    for folder in folders:
        promised |= _promised(spark, folder)
    files = [file for folder in folders for file in data_files(spark, folder)]
    if format_ == "parquet":
        _require_none(lambda file: _parquet_damage(spark, file, max_expansion), files)
    else:
        require_texts(spark, format_, files)
        compressed = _compressed(spark, files)
        _require_none(lambda file: _compression_damage(spark, format_, file, max_expansion), compressed)
    return promised


def require_texts(spark: SparkSession, format_: str, files: Sequence[str]) -> None:
    """Raises JobError at the first file that is no text, and that Spark would read as lines of text."""
    compressed = {*_compressed(spark, files)}

    def problem(file: str) -> str | None:
        kind = _other_format(first_bytes(spark, file, TELLING))
        if kind is None:
            return None
        hint = f", for which its name must end in {ENDINGS[kind]}" if kind in ENDINGS else ""
        return f"is not {format_}: it holds {kind}{hint}"

    _require_none(problem, [file for file in files if file not in compressed])


def _require_none(find: Callable[[str], str | None], files: Sequence[str]) -> None:
    """Raises JobError at the first file with a problem."""
    with ThreadPoolExecutor(THREADS) as pool:
        for file, problem in zip(files, pool.map(find, files), strict=True):
            if problem is not None:
                raise JobError(f"{file} {problem}; nothing of its day was stored")


def _compressed(spark: SparkSession, files: Sequence[str]) -> list[str]:
    """The files that Spark's text readers decompress."""
    # By extension, of which there are few: asking Java about each of thousands of files takes seconds.
    ends = {end for end in {_extension(file) for file in files} if is_compressed(spark, f"/any{end}")}
    return [file for file in files if _extension(file) in ends]


def _other_format(beginning: bytes) -> str | None:
    """What a file holds that begins so; None for a text."""
    kinds = (kind for kind, pattern in BEGINNINGS.items() if re.match(pattern, beginning, re.DOTALL))
    return next(kinds, None)


def _extension(file: str) -> str:
    return file[file.rfind(".") :] if "." in file else ""


def _promised(spark: SparkSession, folder: str) -> dict[str, int]:
    """The manifest's counts by file. Raises JobError where it does not list exactly the folder's files."""
    text = read_text(spark, f"{folder}/{MANIFEST}")
    if text is None:
        return {}
    try:
        counts = json.loads(text)
    except (ValueError, RecursionError):
        counts = None
    if not isinstance(counts, dict) or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise JobError(f"{folder}/{MANIFEST} must be one JSON object with the number of records of each file")
    there = {logs.below(file, folder): file for file in data_files(spark, folder)}
    if missing := sorted(counts.keys() - there.keys()):
        raise JobError(
            f"{folder}/{missing[0]} is listed in {MANIFEST} and is missing; nothing of its day was stored"
        )
    if unlisted := sorted(there.keys() - counts.keys()):
        raise JobError(f"{folder}/{unlisted[0]} is not in {MANIFEST}; nothing of its day was stored")
    return {there[name]: count for name, count in counts.items()}


def _compression_damage(spark: SparkSession, format_: str, file: str, max_expansion: int) -> str | None:
    """The problem with a compressed file, found by decompressing it without storing anything."""
    compressed = file_size(spark, file)
    if not compressed:
        return "has no bytes: a compressed file of nothing has some"
    limit, stream = max(STEP, max_expansion * compressed), None
    try:
        stream = open_compressed(spark, file)
        beginning = bytes(stream.readNBytes(TELLING))
        if kind := _other_format(beginning):
            return f"is not {format_}: decompressed, it holds {kind}"
        size = len(beginning)
        while step := int(stream.skip(STEP)):
            size += step
            if size > limit:
                return f"decompresses to more than {max_expansion} times its size"
    except Py4JJavaError as error:
        return f"can't be decompressed: {first_line(error)}"
    finally:
        if stream is not None:
            stream.close()
    return None


def _parquet_damage(spark: SparkSession, file: str, max_expansion: int) -> str | None:
    """The problem with a Parquet file by its footer, which is written last."""
    try:
        with open_parquet(spark, file) as reader:
            groups = list(reader.getRowGroups())
    except Py4JJavaError as error:
        return f"is not a complete Parquet file: {first_line(error)}"
    # A page of equal values takes a few bytes however many rows it has: count at least one byte for each.
    size = sum(max(int(group.getTotalByteSize()), int(group.getRowCount())) for group in groups)
    if size > max(STEP, max_expansion * file_size(spark, file)):
        return f"decompresses to more than {max_expansion} times its size"
    return None


def require_promised(records: DataFrame, promised: Mapping[str, int], logs_root: str) -> None:
    """Raises JobError where a file's number of records differs from its manifest.

    Records: source_file of every record.
    """
    if not promised:
        return
    read = {row["source_file"]: row["count"] for row in records.groupBy("source_file").count().collect()}
    for file, count in promised.items():
        found = read.get(logs.below(file, logs_root), 0)
        if found != count:
            raise JobError(
                f"{file} holds {found} records, and {MANIFEST} promises {count}; "
                "nothing of its day was stored"
            )


@contextmanager
def readable(warehouse: str | None = None) -> Iterator[None]:
    """Turns Spark's error about an unreadable file, or the reader's options, into a JobError.

    warehouse: whose tables are read too; an error about one of their files stays what it is.
    """
    tables = () if warehouse is None else tuple(f"{warehouse}/{table.name}/" for table in ALL_TABLES)
    try:
        yield
    except IllegalArgumentException as error:
        raise JobError(f"the mapping's options do not fit the logs: {one_sentence(error)}") from error
    except (PySparkException, Py4JJavaError) as error:
        messages = [*java_messages(error)]
        text = "\n".join(messages)
        file = UNREAD.search(text)
        if file is None or local_path(file["file"]).startswith(tables):
            raise
        cause = deepest_cause(messages)
        problem = f"can't be read to its end, or not as the mapping says ({cause})"
        if "CSV header" in text:
            problem = "has another header than the other files of its day"
        raise JobError(f"{local_path(file['file'])} {problem}; nothing of it was stored") from error
