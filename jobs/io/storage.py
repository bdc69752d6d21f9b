"""Files on any file system that Hadoop knows: local folders, HDFS and object stores alike."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.io.messages import JobError

ZSTD = (".zst", ".zstd")
# What a file's status says of its content, and that of each file.
FileMark = tuple[int | str, ...] | None
Marks = dict[str, FileMark]
# Reader options under which local files are opened without checksums: Hadoop looks for the checksum of
# a name with a colon under an invalid path.
PLAIN_LOCAL = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}


def jvm(spark: SparkSession) -> Any:
    """The session's Java, untyped: only jobs/io calls it."""
    return spark._jvm


def hadoop_conf(spark: SparkSession) -> Any:
    """The session's Hadoop configuration."""
    return spark.sparkContext._jsc.hadoopConfiguration()


def hadoop_path(spark: SparkSession, path: str) -> Any:
    """A path as Hadoop has it."""
    return jvm(spark).org.apache.hadoop.fs.Path(path)


def located(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """A Hadoop path and its file system."""
    found, conf = hadoop_path(spark, path), hadoop_conf(spark)
    if has_colon([path]):
        conf = jvm(spark).org.apache.hadoop.conf.Configuration(conf)
        for name, value in PLAIN_LOCAL.items():
            conf.set(name, value)
    return found, found.getFileSystem(conf)


def has_colon(paths: Sequence[str]) -> bool:
    """Whether the name of a file has a colon."""
    return any(":" in path.rsplit("/", 1)[-1] for path in paths)


def is_local(path: str) -> bool:
    """Whether a path lies on this machine's file system."""
    return "://" not in path and not path.startswith("file:")


# ---- looking


def without_scheme(file: str) -> str:
    """A local file's path, however it is given; others stay.

    >>> without_scheme("file:///logs/a"), without_scheme("file:/logs/a"), without_scheme("s3a://logs/a")
    ('/logs/a', '/logs/a', 's3a://logs/a')
    """
    return re.sub("^file:/+", "/", file)


def data_files(spark: SparkSession, folder: str) -> list[str]:
    """The data files in a folder and below, sorted; markers such as _SUCCESS and .crc are left out.

    Local folders are listed by Python, as bytes: Java passes over what it can't decode or open.

    Raises JobError at an entry that is no file that could be read: a link that leads nowhere or out of the
    folder, a pipe, a name that is not UTF-8, a file or folder without permission.
    """
    if is_local(folder):
        if not Path(folder).exists():
            return []
        top = os.path.realpath(os.fsencode(folder))
        return sorted(_local_files(top, top, folder))
    return sorted(status.getPath().toString() for status in _remote_files(spark, folder))


def file_marks(spark: SparkSession, folder: str) -> Marks:
    """What tells each data file in a folder and below from one that was changed or put in its place.

    Locally that is also the number and the time of change of its inode, which no copy takes over: a file may
    be replaced by one of the same size and time. Elsewhere it is the etag, where the storage has one.
    """
    if is_local(folder):
        return {file: _local_mark(file) for file in data_files(spark, folder)}
    statuses = [*_remote_files(spark, folder)]
    # One kind for all: each question to Java costs as much as all that is asked of a file.
    has_etag = bool(statuses) and is_instance_of(
        spark.sparkContext._gateway, statuses[0], "org.apache.hadoop.fs.EtagSource"
    )
    return {
        str(status.getPath().toString()): (
            int(status.getLen()),
            int(status.getModificationTime()),
            *([str(status.getEtag())] if has_etag else []),
        )
        for status in statuses
    }


def _local_mark(file: str) -> FileMark | None:
    """None for a file that was removed since it was listed."""
    try:
        found = Path(file).stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino


def _local_files(top: bytes, within: bytes, shown: str) -> Iterator[str]:
    """The files of one folder below `top`. shown: the folder under the name that the user gave."""
    try:
        entries = [*os.scandir(within)]
    except OSError as error:
        raise JobError(f"{shown} can't be listed: {error.strerror}") from error
    for entry in entries:
        path = f"{shown}/{os.fsdecode(entry.name)}"
        if _is_marker(os.fsdecode(entry.name)):
            continue
        problem = _entry_problem(entry, top)
        if problem:
            raise JobError(f"{ascii(path)[1:-1]} {problem}; nothing of its day was stored")
        if entry.is_dir():
            yield from _local_files(top, entry.path, path)
        else:
            yield path


def _entry_problem(entry: os.DirEntry[bytes], top: bytes) -> str | None:
    try:
        entry.name.decode("utf-8")
    except UnicodeDecodeError:
        return "has a name that is not UTF-8: rename it"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not Path(os.fsdecode(target)).exists():
            return "is a link that leads nowhere"
        if os.path.commonpath([target, top]) != top:
            return "is a link that leads out of its folder: put the file itself there"
        if entry.is_dir():
            return "is a link to a folder: its files would be read twice"
    if not (entry.is_file() or entry.is_dir()):
        return "is neither a file nor a folder"
    return None if os.access(entry.path, os.R_OK) else "can't be read: permission denied"


def _remote_files(spark: SparkSession, folder: str) -> Iterator[Any]:
    """The Hadoop status of each data file in a folder and below."""
    path, fs = located(spark, folder)
    if fs.exists(path):
        yield from _files_below(fs, path)


def _files_below(fs: Any, path: Any) -> Iterator[Any]:
    for status in fs.listStatus(path):
        below = status.getPath()
        if _is_marker(below.getName()):
            continue
        if status.isDirectory():
            yield from _files_below(fs, below)
        else:
            yield status


def every_file(spark: SparkSession, folder: str) -> list[str]:
    """Every file in a folder and below, sorted: hidden ones and checksums too.

    Raises JobError at what can't be looked into: a link, a closed folder, a name that is not UTF-8.
    """
    if is_local(folder):
        # Hadoop's local file system does not list its checksums.
        return sorted(_every_local_file(folder))
    path, fs = located(spark, folder)
    found, files = fs.listFiles(path, True), []
    while found.hasNext():
        files.append(str(found.next().getPath().toString()))
    return sorted(files)


def _every_local_file(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder, onerror=_refuse_closed):
        for path in (Path(top, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise JobError(
                    f"{ascii(str(path))[1:-1]} is a link: put there what it leads to, or remove it"
                )
            if not _is_utf8(path):
                raise JobError(f"{ascii(str(path))[1:-1]} has a name that is not UTF-8: rename it")
            if path.is_file():
                yield str(path)


def _refuse_closed(error: OSError) -> None:
    # Where there is no folder there is no file.
    if not isinstance(error, FileNotFoundError):
        raise JobError(f"{error.filename} can't be listed: {error.strerror}") from error


def _is_utf8(path: Path) -> bool:
    try:
        return bool(os.fsencode(path).decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _is_marker(name: str) -> bool:
    """Spark's own rule for the names it ignores in a folder."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def matching_files(spark: SparkSession, folder: str, pattern: str) -> list[str]:
    """The data files whose name matches the glob pattern, sorted."""
    return [file for file in data_files(spark, folder) if is_named(file, pattern)]


def is_named(file: str, pattern: str) -> bool:
    """Whether a file's name matches the glob pattern."""
    return fnmatch(file.rsplit("/", 1)[-1], pattern)


def folder_content(spark: SparkSession, folder: str) -> list[str]:
    """Names of everything in a folder; empty where the folder is missing."""
    path, fs = located(spark, folder)
    return [str(status.getPath().getName()) for status in fs.listStatus(path)] if fs.exists(path) else []


def path_exists(spark: SparkSession, path: str) -> bool:
    """Whether there is a file or folder."""
    found, fs = located(spark, path)
    return bool(fs.exists(found))


def file_size(spark: SparkSession, file: str) -> int:
    """Bytes of a file."""
    path, fs = located(spark, file)
    return int(fs.getFileStatus(path).getLen())


def folder_size(spark: SparkSession, folder: str) -> int:
    """Bytes of everything in a folder and below; 0 where the folder is missing."""
    path, fs = located(spark, folder)
    return int(fs.getContentSummary(path).getLength()) if fs.exists(path) else 0


def folder_totals(spark: SparkSession, folder: str) -> tuple[int, int]:
    """Number of files in a folder and below, and their bytes."""
    path, fs = located(spark, folder)
    summary = fs.getContentSummary(path)
    return int(summary.getFileCount()), int(summary.getLength())


# ---- reading


def read_text(spark: SparkSession, file: str) -> str | None:
    """A small UTF-8 file; None where it is missing."""
    path, fs = located(spark, file)
    if not fs.exists(path):
        return None
    stream = fs.open(path)
    try:
        return str(jvm(spark).org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
    finally:
        stream.close()


def first_bytes(spark: SparkSession, file: str, count: int) -> bytes:
    """The beginning of a file."""
    if is_local(file):
        # Without Java, which would take seconds for thousands of files.
        with Path(file).open("rb") as opened:
            return opened.read(count)
    path, fs = located(spark, file)
    stream = fs.open(path)
    try:
        return bytes(stream.readNBytes(count))
    finally:
        stream.close()


def is_compressed(spark: SparkSession, name: str) -> bool:
    """Whether Spark's text readers decompress a file of this name."""
    return name.endswith(ZSTD) or _codec(spark, hadoop_path(spark, name)) is not None


def open_compressed(spark: SparkSession, file: str) -> Any:
    """A stream of a compressed file's content, as Spark's text readers decompress it."""
    path, fs = located(spark, file)
    # Hadoop's own zstd reader needs a native library; Spark uses this one.
    if path.getName().endswith(ZSTD):
        return jvm(spark).com.github.luben.zstd.ZstdInputStreamNoFinalizer(fs.open(path))
    return _codec(spark, path).createInputStream(fs.open(path))


def _codec(spark: SparkSession, path: Any) -> Any:
    factory = jvm(spark).org.apache.hadoop.io.compress.CompressionCodecFactory
    return factory(hadoop_conf(spark)).getCodec(path)


@contextmanager
def open_parquet(spark: SparkSession, file: str) -> Iterator[Any]:
    """A Parquet file's reader, which has read the footer (the last part to be written)."""
    path, fs = located(spark, file)
    parquet = jvm(spark).org.apache.parquet.hadoop
    # Of the file system that was found, not of the one that the path's name leads to.
    input_file = parquet.util.HadoopInputFile.fromPath(path, fs.getConf())
    reader = parquet.ParquetFileReader.open(input_file)
    try:
        yield reader
    finally:
        reader.close()


def first_line(error: Py4JJavaError) -> str:
    """The first line of Java's message."""
    java = error.java_exception
    return str(java.getMessage() or java.getClass().getSimpleName()).splitlines()[0]


# ---- writing


def touch(spark: SparkSession, path: str) -> None:
    """Creates an empty file, and its folder."""
    found, fs = located(spark, path)
    fs.create(found, True).close()


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Writes a small UTF-8 file, in place of one that is there."""
    found, fs = located(spark, path)
    stream = fs.create(found, True)
    try:
        stream.write(bytearray(text.encode()))
    finally:
        stream.close()


def copy_files(spark: SparkSession, files: Sequence[str], folder: str) -> None:
    """Copies files into a folder, which is created."""
    target, target_fs = located(spark, folder)
    target_fs.mkdirs(target)
    copy = jvm(spark).org.apache.hadoop.fs.FileUtil.copy
    for file in files:
        path, fs = located(spark, file)
        copy(fs, path, target_fs, target, False, hadoop_conf(spark))


def move(spark: SparkSession, source: str, target: str) -> None:
    """Renames a file or folder, into a folder that may not exist yet.

    Raises JobError where the file system refuses.
    """
    source_path, fs = located(spark, source)
    target_path = hadoop_path(spark, target)
    fs.mkdirs(target_path.getParent())
    if not fs.rename(source_path, target_path):
        raise JobError(f"{source} could not be moved to {target}")


def remove_folder(spark: SparkSession, path: str) -> None:
    """Deletes a folder and everything below it, where there is one."""
    found, fs = located(spark, path)
    fs.delete(found, True)
