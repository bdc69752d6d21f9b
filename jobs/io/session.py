"""The Spark session of every job.

Delta, UTC, loopback, and settings fit for the machine, each with its reason.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, Final

from pyspark import SparkConf, SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame

from jobs.io.failures import hush_lost_connections
from jobs.io.messages import say
from jobs.io.scratch import require_space, scratch_folders
from jobs.io.secret import SECRET_NAMES, warn_if_argument
from jobs.io.storage import folder_size, jvm
from schemas.settings import SparkSettings

# The results depend on these: set in every session, submitted or not.
_ALWAYS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # An unreadable value becomes NULL, and so a quarantined record with a reason; ANSI mode would end the
    # job.
    "spark.sql.ansi.enabled": "false",
    # A duplicate key in a map would end the job too.
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    # A name means the column of exactly this name: logs have `user` beside `USER`.
    "spark.sql.caseSensitive": "true",
    # Nanoseconds, which pandas writes by default, come as numbers (jobs/io/formats.py makes them times).
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Otherwise ${env:NAME} in an expression would be an environment variable of the job, a secret maybe.
    "spark.sql.variable.substitute": "false",
    # A plain Python UDF over a Delta scan hangs forever with the default (SPARK-58241).
    "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
}

# Defaults that a cluster may know better: set only where spark-submit has not.
_DEFAULTS: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Hadoop sets the modes of the tables' files itself, to 0644 by default, and a process that spark-submit
    # started can't lower Java's own.
    "spark.hadoop.fs.permissions.umask-mode": "077",
    # Vectors make wide rows: this bounds a batch of 384 floats to 30 MB.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
    # Rows partitioned by user can be joined by user and facet without another shuffle.
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
    # The numbers of a vector do not repeat and mean nothing one by one: dictionary encoding costs a third of
    # writing them, statistics a seventh.
    "spark.hadoop.parquet.enable.dictionary#vector.list.element": "false",
    "spark.hadoop.parquet.column.statistics.enabled#vector.list.element": "false",
    "spark.hadoop.parquet.size.statistics.enabled#vector.list.element": "false",
    # A flipped bit is an error, and not another value, where the writer stored a checksum, as Spark does.
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    # Otherwise every call that makes a column looks up its source line, for error messages in notebooks.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # Java never compiles a method above 8,000 bytes: a wide plan generated as one method runs at half speed
    # or less.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A night makes more plans than the 100 that Spark caches: the next one in the session would start cold.
    "spark.sql.codegen.cache.maxEntries": "1000",
    # Each sort, and each small table that is broadcast, takes a page at least, by default 32 MB of a heap of
    # 2 GB.
    "spark.buffer.pageSize": "4m",
    # Spark keeps what it did for its pages even where they are off: the plans of 1,000 queries fill a heap.
    "spark.sql.ui.retainedExecutions": "10",
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
    "spark.ui.retainedTasks": "1000",
    # Rows for a few partitions are written as they arrive, a file for each, without sorting them first.
    "spark.sql.maxConcurrentOutputFileWriters": "16",
    # Java decodes the names of files by the locale, and passes over those that it can't decode.
    "spark.executorEnv.LC_ALL": "C.UTF-8",
    # Delta's default of 50 snapshot partitions costs seconds on every small table.
    "spark.databricks.delta.snapshotPartitions": "1",
}

# Only where the job starts its own session on one machine.
_LOCAL: Final = {
    "spark.master": "local[*]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Spark budgets 4 MB for opening a file, far too much on one machine: thousands of small files would
    # become a hundred tasks in every later stage.
    "spark.sql.files.openCostInBytes": str(64 << 10),
}

# Below this many bytes of input, on one machine, compiling plans takes longer than running them.
_SMALL: Final = 32 << 20
# Interpreted plans, not re-optimized between stages: the same rows, and 15 of a small night's 52 seconds
# less.
_FOR_SMALL: Final = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
_FOR_LARGE: Final = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    "spark.sql.adaptive.enabled": "true",
}


@contextmanager
def open_session(name: str, settings: SparkSettings, secrets: Sequence[str] = ()) -> Iterator[SparkSession]:
    """A session for one job, closed at its end.

    Under spark-submit the submitted settings win over the defaults. secrets: names of environment variables
    with a secret, besides those that look like one.
    """
    # They print a query that can't be resolved with its whole plan, before the job says so in a sentence.
    for logger in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(logger).disabled = True
    hush_lost_connections()
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if submitted:
        # Otherwise a SparkConf of Python would know nothing of what was submitted.
        SparkContext._ensure_initialized()
    require_space()
    given, scratch = SparkConf(), scratch_folders()
    # No table goes into the folder, but Spark creates it, by default in the working directory.
    wanted = _DEFAULTS | {"spark.sql.warehouse.dir": f"{scratch[0]}/spark-warehouse"}
    if not submitted:
        # Py4J imports pyspark.testing (and pandas) on first use, about 1 s: do it while the JVM starts.
        Thread(target=import_module, args=("pyspark.testing",), daemon=True).start()
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        # Cron, systemd and slim containers have the locale C; no other part of a job depends on it.
        os.environ["LC_ALL"] = "C.UTF-8"
        wanted |= local_conf(settings)
        wanted["spark.driver.extraJavaOptions"] += f" {_java_option('java.io.tmpdir', scratch[0])}"
    if given.get("spark.master", _LOCAL["spark.master"]).startswith("local"):
        wanted |= _local_scratch(scratch, submitted)
    conf = {key: value for key, value in wanted.items() if not given.contains(key)} | _ALWAYS
    # Spark replaces the values of such properties in its event log, its pages and its own log.
    own = given.get("spark.redaction.regex", SECRET_NAMES)
    conf["spark.redaction.regex"] = "|".join([f"({own})", f"({SECRET_NAMES})", *map(re.escape, secrets)])
    builder = SparkSession.builder.appName(f"nightfold {name}")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    keep_lookups(jvm(spark))
    if not given.contains("spark.sql.shuffle.partitions"):
        partitions = settings.shuffle_partitions or spark.sparkContext.defaultParallelism
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    fit_to_size(spark, [])
    java = jvm(spark).java.lang.System
    warn_if_argument(java.getProperty("sun.java.command") or "")
    if (encoding := java.getProperty("sun.jnu.encoding")) != "UTF-8":
        say(f"Java decodes names of files as {encoding}; others stop their day: set LC_ALL=C.UTF-8")
    try:
        yield spark
    finally:
        spark.stop()


def keep_lookups(view: Any) -> None:
    """Keeps what Py4J found under these names of a view of Java.

    It asks Java each time, which looks for a class of the name in all jars: 5% of a small job.
    """
    for name in ("io", "java", "org", "py4j", "scala", "functions", "PythonSQLUtils", "PythonUtils"):
        setattr(view, name, getattr(view, name))


def local_conf(settings: SparkSettings) -> dict[str, str]:
    """The settings of a session on one machine; a scheduler that submits locally passes the same."""
    return _LOCAL | {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": java_options(settings.driver_memory),
    }


def _local_scratch(scratch: Sequence[str], submitted: bool) -> dict[str, str]:
    """Where Spark puts its blocks on one machine; a cluster gives its executors folders of their own."""
    if "SPARK_LOCAL_DIRS" in os.environ and submitted:
        return {}  # Java is running, and will take it from its own environment
    if "SPARK_LOCAL_DIRS" in os.environ:
        os.environ["SPARK_LOCAL_DIRS"] = ",".join(scratch)
    return {"spark.local.dir": ",".join(scratch)}


def _java_option(name: str, path: str) -> str:
    """A system property, quoted as Spark's launcher reads it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"-D{name}={escaped}"'


def java_options(memory: str) -> str:
    """JVM options of a local session.

    One quiet log, and the class archive of set-up, which saves 5 s at the start.
    """
    # The full heap from the start, half of it for the young generation: growing it costs a small night 1 to 2
    # s.
    heap = [f"-Xms{memory}", "-XX:NewRatio=1", "-XX:+UseParallelGC"]
    log = Path(__file__).with_name("log4j2.properties")
    options = [*heap, _java_option("log4j2.configurationFile", str(log))]
    archive = Path(sys.prefix) / "spark.jsa"
    if archive.is_file():
        # Java ignores an archive of another version; without -Xlog it would say so at every start.
        options += [f'"-XX:SharedArchiveFile={archive}"', "-Xlog:disable"]
    return " ".join(options)


def fit_to_size(spark: SparkSession, folders: Sequence[str]) -> None:
    """Turns plan compilation off where the input is small and the session local.

    Settings given at its start stay.

    folders: everything the job is about to read.
    """
    if not (spark.sparkContext.master or "").startswith("local"):
        return
    given = spark.sparkContext.getConf()
    is_small = sum(folder_size(spark, folder) for folder in folders) < _SMALL
    for key, value in (_FOR_SMALL if is_small else _FOR_LARGE).items():
        if not given.contains(key):
            spark.conf.set(key, value)


@contextmanager
def configured(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """The session with these settings inside, restored afterwards."""
    before = {key: spark.conf.get(key, None) for key in conf}
    for key, value in conf.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            spark.conf.unset(key) if old is None else spark.conf.set(key, old)


def in_zone(rows: DataFrame, zone: str | None) -> DataFrame:
    """The same rows in a session that differs in its time zone alone; in theirs without a zone.

    Spark binds the zone of an expression when a plan is made. A session of its own, and not a setting of
    this one, since other threads make plans meanwhile.
    """
    if zone is None:
        return rows
    spark = rows.sparkSession
    zoned = SparkSession(spark.sparkContext, spark._jsparkSession.cloneSession())
    zoned.conf.set("spark.sql.session.timeZone", zone)
    return moved(rows, zoned)


def moved(rows: DataFrame, spark: SparkSession) -> DataFrame:
    """The same rows, with all further plans made in this session."""
    plan = rows._jdf.queryExecution().analyzed()
    dataset = jvm(spark).org.apache.spark.sql.classic.Dataset
    return ClassicDataFrame(dataset.ofRows(spark._jsparkSession, plan), spark)


@contextmanager
def release_checkpoints(spark: SparkSession) -> Iterator[None]:
    """Drops at the end the rows that localCheckpoint stored inside.

    Otherwise they stay until both Python's and Java's garbage collectors have run.
    """
    before = set(_checkpoints(spark))
    yield
    for number, rows in _checkpoints(spark).items():
        if number not in before:
            rows.unpersist(False)


def _checkpoints(spark: SparkSession) -> dict[int, Any]:
    """The stored RDDs of localCheckpoint by their ids.

    Those of persist (Delta's snapshots, for one) are not among them.
    """
    stored = spark.sparkContext._jsc.getPersistentRDDs().items()
    return {number: rows for number, rows in stored if rows.isCheckpointed()}
