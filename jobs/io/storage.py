"""Files on any file system that Hadoop knows: local folders, HDFS and object stores alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.io.messages import JobError

ZSTD = (".zst", ".zstd")


def data_files(spark: SparkSession, folder: str) -> list[str]:
    """The files in a folder and below but for those whose name, or folder's name, makes them a mark; sorted."""
    path, fs = located(spark, folder)
    return sorted(_files_below(fs, path)) if fs.exists(path) else []


def _files_below(fs: Any, path: Any) -> Iterator[str]:
    for status in fs.listStatus(path):
        below = status.getPath()
        if _is_mark(below.getName()):
            continue
        if status.isDirectory():
            yield from _files_below(fs, below)
        else:
            yield below.toString()


def _is_mark(name: str) -> bool:
    """Spark's own rule for what it passes over in a folder."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name) or name.endswith("._COPYING_")


def is_packed(spark: SparkSession, name: str) -> bool:
    """Whether a file of that name is one that Spark's text readers unpack."""
    return name.endswith(ZSTD) or _codec(spark, spark._jvm.org.apache.hadoop.fs.Path(name)) is not None  # type: ignore[union-attr]


def open_packed(spark: SparkSession, path: Any, fs: Any) -> Any:
    """A stream of what a packed file holds, as Spark's text readers unpack it."""
    jvm: Any = spark._jvm
    # Hadoop's own reader of this kind wants a native library; Spark and we do without.
    if path.getName().endswith(ZSTD):
        return jvm.com.github.luben.zstd.ZstdInputStreamNoFinalizer(fs.open(path))
    return _codec(spark, path).createInputStream(fs.open(path))


def _codec(spark: SparkSession, path: Any) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(
        spark.sparkContext._jsc.hadoopConfiguration()
    ).getCodec(path)


@contextmanager
def open_parquet(spark: SparkSession, file: str) -> Iterator[Any]:
    """A Parquet file's reader, which has read the footer, the last that is written."""
    path, fs = located(spark, file)
    jvm: Any = spark._jvm
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(
        jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(path, fs.getConf())
    )
    try:
        yield reader
    finally:
        reader.close()


def first_line(error: Py4JJavaError) -> str:
    """What Java says of an error, without the rest of its story."""
    return str(
        error.java_exception.getMessage() or error.java_exception.getClass().getSimpleName()
    ).splitlines()[0]


def matching_files(spark: SparkSession, folder: str, pattern: str) -> list[str]:
    """The files of a folder whose name fits the pattern; sorted."""
    return [file for file in data_files(spark, folder) if fnmatch(file.rsplit("/", 1)[-1], pattern)]


def folder_content(spark: SparkSession, folder: str) -> list[str]:
    """Names of all that lies in a folder; empty where it is not there."""
    path, fs = located(spark, folder)
    return [str(status.getPath().getName()) for status in fs.listStatus(path)] if fs.exists(path) else []


def copy_files(spark: SparkSession, files: Sequence[str], folder: str) -> None:
    target, target_fs = located(spark, folder)
    target_fs.mkdirs(target)
    for file in files:
        path, fs = located(spark, file)
        jvm: Any = spark._jvm
        conf = spark.sparkContext._jsc.hadoopConfiguration()
        jvm.org.apache.hadoop.fs.FileUtil.copy(fs, path, target_fs, target, False, conf)


def path_exists(spark: SparkSession, path: str) -> bool:
    hadoop_path, fs = located(spark, path)
    return bool(fs.exists(hadoop_path))


def touch(spark: SparkSession, path: str) -> None:
    """An empty file, with its folder."""
    hadoop_path, fs = located(spark, path)
    fs.create(hadoop_path, True).close()


def move(spark: SparkSession, source: str, target: str) -> None:
    source_path, fs = located(spark, source)
    target_path, _ = located(spark, target)
    if not fs.rename(source_path, target_path):
        raise JobError(f"{source} could not be moved to {target}")


def remove_folder(spark: SparkSession, path: str) -> None:
    hadoop_path, fs = located(spark, path)
    fs.delete(hadoop_path, True)


def located(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """A Hadoop path and its file system, so that folders, HDFS and object stores are one."""
    hadoop_path = spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
    return hadoop_path, hadoop_path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
