"""Files on any file system that Hadoop knows: local folders, HDFS and object stores alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.io.messages import JobError

ZSTD = (".zst", ".zstd")


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
    found = hadoop_path(spark, path)
    return found, found.getFileSystem(hadoop_conf(spark))


# ---- looking


def data_files(spark: SparkSession, folder: str) -> list[str]:
    """The data files in a folder and below, sorted; markers such as _SUCCESS and .crc are left out."""
    path, fs = located(spark, folder)
    return sorted(_files_below(fs, path)) if fs.exists(path) else []


def _files_below(fs: Any, path: Any) -> Iterator[str]:
    for status in fs.listStatus(path):
        below = status.getPath()
        if _is_marker(below.getName()):
            continue
        if status.isDirectory():
            yield from _files_below(fs, below)
        else:
            yield below.toString()


def _is_marker(name: str) -> bool:
    """Spark's own rule for the names it ignores in a folder."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def matching_files(spark: SparkSession, folder: str, pattern: str) -> list[str]:
    """The data files whose name matches the glob pattern, sorted."""
    return [file for file in data_files(spark, folder) if fnmatch(file.rsplit("/", 1)[-1], pattern)]


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
    reader = parquet.ParquetFileReader.open(parquet.util.HadoopInputFile.fromPath(path, fs.getConf()))
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


def copy_files(spark: SparkSession, files: Sequence[str], folder: str) -> None:
    """Copies files into a folder, which is created."""
    target, target_fs = located(spark, folder)
    target_fs.mkdirs(target)
    copy = jvm(spark).org.apache.hadoop.fs.FileUtil.copy
    for file in files:
        path, fs = located(spark, file)
        copy(fs, path, target_fs, target, False, hadoop_conf(spark))


def move(spark: SparkSession, source: str, target: str) -> None:
    """Renames a file or folder. Raises JobError where the file system refuses."""
    source_path, fs = located(spark, source)
    if not fs.rename(source_path, hadoop_path(spark, target)):
        raise JobError(f"{source} could not be moved to {target}")


def remove_folder(spark: SparkSession, path: str) -> None:
    """Deletes a folder and everything below it, where there is one."""
    found, fs = located(spark, path)
    fs.delete(found, True)
