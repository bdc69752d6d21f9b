"""Finds what is wrong with whole files before a row of them is read, so that a damaged day leaves the tables alone.

A truncated or exploding compressed file, a torn Parquet file, a file that the day's _MANIFEST promises and that is not there:
each stops the day with the file's name.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.io import logs
from jobs.io.messages import JobError, one_sentence
from jobs.io.storage import data_files, first_line, is_packed, located, open_packed, open_parquet

MANIFEST: Final = "_MANIFEST"
# Unpacked at a time between two looks at the size, and what may always be unpacked: so much hurts no machine.
STEP: Final = 64 << 20


def require_whole(
    spark: SparkSession, format_: str, folders: Sequence[str], most_expansion: int
) -> dict[str, int]:
    """Stops at the first damaged file; returns the records that the manifests promise, by file."""
    promised: dict[str, int] = {}
    for folder in folders:
        promised |= _promised(spark, folder)
    files = [file for folder in folders for file in data_files(spark, folder)]
    look = _parquet_damage
    if format_ != "parquet":
        # Told by their names' ends, of which there are few: each question to Java of each of thousands of files would take seconds.
        packed = {end for end in {_end(file) for file in files} if is_packed(spark, f"/any{end}")}
        files, look = [file for file in files if _end(file) in packed], _packed_damage
    with ThreadPoolExecutor(logs.THREADS) as pool:
        for file, problem in zip(
            files, pool.map(lambda file: look(spark, file, most_expansion), files), strict=True
        ):
            if problem is not None:
                raise JobError(f"{file} {problem}; nothing of its day was stored")
    return promised


def _end(file: str) -> str:
    return file[file.rfind(".") :] if "." in file else ""


def _promised(spark: SparkSession, folder: str) -> dict[str, int]:
    """The manifest's counts by file; stops where it and the folder do not name the same files."""
    path, fs = located(spark, f"{folder}/{MANIFEST}")
    if not fs.exists(path):
        return {}
    stream = fs.open(path)
    try:
        counts = json.loads(spark._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        counts = None
    finally:
        stream.close()
    if not isinstance(counts, dict) or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise JobError(f"{folder}/{MANIFEST} must be one JSON object with the number of records of each file")
    there = {logs.below(file, folder): file for file in data_files(spark, folder)}
    if lost := sorted(counts.keys() - there.keys()):
        raise JobError(
            f"{folder}/{lost[0]} is promised by {MANIFEST} and not there; nothing of its day was stored"
        )
    if strange := sorted(there.keys() - counts.keys()):
        raise JobError(f"{folder}/{strange[0]} is not in {MANIFEST}; nothing of its day was stored")
    return {there[name]: count for name, count in counts.items()}


def _packed_damage(spark: SparkSession, file: str, most_expansion: int) -> str | None:
    """What is wrong with a compressed file, found by unpacking it to nowhere."""
    path, fs = located(spark, file)
    most = max(STEP, most_expansion * int(fs.getFileStatus(path).getLen()))
    stream = None
    try:
        stream, size = open_packed(spark, path, fs), 0
        while step := int(stream.skip(STEP)):
            size += step
            if size > most:
                return f"unpacks to more than {most_expansion} times its size"
    except Py4JJavaError as error:
        return f"can't be unpacked: {first_line(error)}"
    finally:
        if stream is not None:
            stream.close()
    return None


def _parquet_damage(spark: SparkSession, file: str, most_expansion: int) -> str | None:
    """What is wrong with a Parquet file by its footer, the last that is written."""
    path, fs = located(spark, file)
    try:
        with open_parquet(spark, file) as reader:
            groups = list(reader.getRowGroups())
    except Py4JJavaError as error:
        return f"is no whole Parquet file: {first_line(error)}"
    # A page of equal values takes a few bytes and says nothing of its rows: each is counted as a byte at least.
    size = sum(max(int(group.getTotalByteSize()), int(group.getRowCount())) for group in groups)
    if size > max(STEP, most_expansion * int(fs.getFileStatus(path).getLen())):
        return f"unpacks to more than {most_expansion} times its size"
    return None


def require_promised(records: DataFrame, promised: Mapping[str, int], logs_root: str) -> None:
    """Stops where a file does not hold as many records as its manifest promises. records: source_file, of every record read."""
    if not promised:
        return
    read = {row["source_file"]: row["count"] for row in records.groupBy("source_file").count().collect()}
    for file, count in promised.items():
        found = read.get(logs.below(file, logs_root), 0)
        if found != count:
            raise JobError(
                f"{file} holds {found} records, and {MANIFEST} promises {count}; nothing of its day was stored"
            )


@contextmanager
def named() -> Iterator[None]:
    """Turns what Spark says of a file that it can't read, or of the reader's options, into a sentence."""
    try:
        yield
    except IllegalArgumentException as error:
        raise JobError(f"the mapping's options do not fit the logs: {one_sentence(error)}") from error
    except (PySparkException, Py4JJavaError) as error:
        told = _with_causes(error)
        file = re.search(r"FAILED_READ_FILE.* while reading file (.+?)\.\s+SQLSTATE", told)
        if file is None:
            raise
        name = unquote(re.sub("^file:/+", "/", file[1]))
        if "CSV header" in told:
            raise JobError(
                f"{name} has another header than the other files of its day; nothing of it was stored"
            ) from error
        raise JobError(
            f"{name} can't be read to its end, or not as the mapping says; nothing of it was stored"
        ) from error


def _with_causes(error: PySparkException | Py4JJavaError) -> str:
    """All that Java said: the file and what is wrong with it stand in different causes, and which comes first differs too."""
    java, told = (
        error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None),
        [str(error)],
    )
    while java is not None:
        told.append(str(java.getMessage()))
        java = java.getCause()
    return "\n".join(told)
