"""Reading and writing the warehouse's Delta tables, always as the schemas declare them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io import lease
from jobs.io.session import configured
from schemas.table import SCHEMA_VERSION, Table

_creating = Lock()
_COMMIT_NOTE = "spark.databricks.delta.commitInfo.userMetadata"


def table_path(warehouse: str, table: Table) -> str:
    return f"{warehouse}/{table.name}"


def table_exists(spark: SparkSession, warehouse: str, table: Table) -> bool:
    return bool(DeltaTable.isDeltaTable(spark, table_path(warehouse, table)))


def read_table(spark: SparkSession, warehouse: str, table: Table) -> DataFrame:
    """The table's rows as they are now; a table that was never written has none.

    The version is pinned: a job's own write would otherwise show in frames that were made before it, and Spark would
    compute what was persisted of them again.
    """
    version = table_version(spark, warehouse, table)
    return no_rows(spark, table) if version is None else read_version(spark, warehouse, table, version)


def no_rows(spark: SparkSession, table: Table) -> DataFrame:
    """The table's columns without rows, in a way that lets Spark leave out what is joined to them; createDataFrame starts Python for it."""
    return (
        spark.range(1)
        .selectExpr(*[f"CAST(NULL AS {c.type.simpleString()}) AS `{c.name}`" for c in table.columns])
        .limit(0)
    )


def read_version(spark: SparkSession, warehouse: str, table: Table, version: int) -> DataFrame:
    return spark.read.format("delta").option("versionAsOf", version).load(table_path(warehouse, table))


def open_table(spark: SparkSession, warehouse: str, table: Table) -> DeltaTable:
    """The table, created as declared where it does not exist yet."""
    path = table_path(warehouse, table)
    if not table_exists(spark, warehouse, table):
        # Without the note of the rows that follow: a job killed between the two must not look done. One at a time: the note is the
        # session's, and another table's maker would put back the empty one.
        with _creating, configured(spark, {_COMMIT_NOTE: "{}"}):
            spark.sql(table.ddl(path))
    return DeltaTable.forPath(spark, path)


def table_version(spark: SparkSession, warehouse: str, table: Table) -> int | None:
    """The version a reader gets now, None where there is no table."""
    return int(snapshot(spark, warehouse, table).version()) if table_exists(spark, warehouse, table) else None


def snapshot(spark: SparkSession, warehouse: str, table: Table) -> Any:
    """The log's state of a table that exists. The public ways, history and detail, run a Spark job for each table."""
    return _log(spark, warehouse, table).update(False, _none(spark), _none(spark))


def properties(spark: SparkSession, warehouse: str, table: Table) -> dict[str, str]:
    """The properties of a table that exists."""
    return dict(
        _jvm(spark).scala.jdk.javaapi.CollectionConverters.asJava(
            snapshot(spark, warehouse, table).metadata().configuration()
        )
    )


def set_property(spark: SparkSession, warehouse: str, table: Table, name: str, value: str) -> None:
    """Sets a property of a table that exists; name and value are words of ours."""
    lease.confirm(warehouse)
    spark.sql(
        f"ALTER TABLE delta.`{table_path(warehouse, table).replace('`', '``')}` SET TBLPROPERTIES ('{name}' = '{value}')"
    )


def schema_version(spark: SparkSession, warehouse: str, table: Table) -> int | None:
    """The version of the declaration that the table was made by, 0 from before there were any; None where there is no table."""
    if not table_exists(spark, warehouse, table):
        return None
    # One property and not all of them: each is a call to Java, and every job asks this of every table.
    found = snapshot(spark, warehouse, table).metadata().configuration().get(SCHEMA_VERSION)
    return int(found.get()) if found.isDefined() else 0


def declare_again(spark: SparkSession, warehouse: str, table: Table, wanted: Mapping[str, str]) -> None:
    """Gives a table the declared columns and comments and the wanted properties in one commit; rows stay as they are.

    By the log itself: SQL needs a commit for each kind of change, and takes no check as the property it is.
    """
    logged = _jvm(spark).org.apache.spark.sql.delta
    transaction = _log(spark, warehouse, table).startTransaction(_none(spark), _none(spark))
    old = transaction.metadata()
    given = _jvm(spark).org.apache.spark.api.python.PythonUtils.toScalaMap(dict(wanted))
    made = logged.actions.Metadata(
        old.id(),
        old.name(),
        table.comment,
        old.format(),
        table.spark_schema().json(),
        old.partitionColumns(),
        given,
        old.createdTime(),
    )
    transaction.updateMetadata(made, False)
    lease.confirm(warehouse)
    nothing = _jvm(spark).org.apache.spark.api.python.PythonUtils.toSeq([])
    transaction.commit(nothing, getattr(logged, "DeltaOperations$SetTableProperties")(given))


def partition_again(spark: SparkSession, warehouse: str, table: Table) -> None:
    """Writes a table's rows as they are into the partitions that are declared now, in one commit."""
    rows = read_table(spark, warehouse, table)
    lease.confirm(warehouse)
    writer = (
        rows.write.format("delta")
        .mode("overwrite")
        .option("overwriteSchema", "true")
        .partitionBy(*table.partition_by)
    )
    writer.save(table_path(warehouse, table))


def commit_note(spark: SparkSession, warehouse: str, table: Table) -> dict[str, Any]:
    """What the last commit of the table noted about itself; empty where there is none."""
    version = table_version(spark, warehouse, table)
    if version is None:
        return {}
    # From the commit's own file: DeltaTable.history, the public way, runs a Spark job.
    path = _jvm(spark).org.apache.hadoop.fs.Path(
        f"{table_path(warehouse, table)}/_delta_log/{version:020}.json"
    )
    lines = (
        _log(spark, warehouse, table)
        .store()
        .read(path, spark._jsparkSession.sessionState().newHadoopConf())
        .mkString("\n")
    )
    info = next(
        json.loads(line)["commitInfo"] for line in lines.splitlines() if line.startswith('{"commitInfo"')
    )
    return dict(json.loads(info["userMetadata"])) if info.get("userMetadata") else {}


def same_since(spark: SparkSession, warehouse: str, table: Table) -> int | None:
    """The version since which the table says the same: not the current one where upkeep alone has committed after it."""
    version = table_version(spark, warehouse, table)
    return None if version is None else int(commit_note(spark, warehouse, table).get("same_since", version))


@contextmanager
def keeping_meaning(spark: SparkSession, warehouse: str, table: Table) -> Iterator[None]:
    """For upkeep of a table that exists: a commit inside carries on what the last one noted of the rows, and since when they hold."""
    note = commit_note(spark, warehouse, table)
    since = note.get("same_since", table_version(spark, warehouse, table))
    lease.confirm(warehouse)
    with noting(
        spark,
        {"same_since": since}
        | {key: note[key] for key in ("profile_states", "facet_hashes", "newest") if key in note},
    ):
        yield


def overwrite_where(
    spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, predicate: str
) -> None:
    """Puts the rows in the place of those that match the literal predicate, in one commit: twice is as good as once."""
    open_table(spark, warehouse, table)
    lease.confirm(warehouse)
    conformed(rows, table).write.format("delta").mode("overwrite").option("replaceWhere", predicate).save(
        table_path(warehouse, table)
    )


def append(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame) -> None:
    open_table(spark, warehouse, table)
    lease.confirm(warehouse)
    conformed(rows, table).write.format("delta").mode("append").save(table_path(warehouse, table))


def overwrite(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame) -> None:
    """Replaces the whole content in one commit."""
    open_table(spark, warehouse, table)
    lease.confirm(warehouse)
    conformed(rows, table).write.format("delta").mode("overwrite").save(table_path(warehouse, table))


def insert_absent(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, within: Column) -> None:
    """Adds the rows whose key the table lacks; `within` is a literal predicate on `t` that bounds what is read and locked."""
    match = within
    for key in table.key:
        match = match & (F.col(f"t.{key}") == F.col(f"s.{key}"))
    merge = open_table(spark, warehouse, table).alias("t").merge(conformed(rows, table).alias("s"), match)
    lease.confirm(warehouse)
    merge.whenNotMatchedInsertAll().execute()


def conformed(rows: DataFrame, table: Table) -> DataFrame:
    """The table's columns in its order, each of its declared type."""
    # As text, since each column made in Python costs five calls to Java.
    return rows.selectExpr(
        *[f"CAST(`{c.name}` AS {c.type.simpleString()}) AS `{c.name}`" for c in table.columns]
    )


def same_rows(left: DataFrame, right: DataFrame, columns: list[str]) -> bool:
    """Whether two frames hold the same rows in any order, by count and two independent hashes of every row."""
    return bool(_fingerprint(left, columns) == _fingerprint(right, columns))


def _fingerprint(rows: DataFrame, columns: list[str]) -> Any:
    hashable = [_hashable(rows, name) for name in columns]
    return rows.select(
        F.count("*"),
        F.bit_xor(F.xxhash64(*hashable)),
        F.bit_xor(F.xxhash64(F.lit("second"), *hashable)),
        F.sum(F.hash(*hashable).cast("long")),
    ).first()


def _hashable(rows: DataFrame, name: str) -> Column:
    """Spark hashes no maps, and skips nulls as if they were not there."""
    column = F.col(name)
    if isinstance(rows.schema[name].dataType, T.MapType):
        column = F.array_sort(F.map_entries(column))
    return F.struct(F.isnull(column), column)


@contextmanager
def noting(spark: SparkSession, note: Mapping[str, object]) -> Iterator[None]:
    """Every commit inside carries the note as its userMetadata, added to the note outside."""
    outer = spark.conf.get(_COMMIT_NOTE, "{}") or "{}"
    spark.conf.set(_COMMIT_NOTE, json.dumps(json.loads(outer) | dict(note), sort_keys=True, default=str))
    try:
        yield
    finally:
        spark.conf.set(_COMMIT_NOTE, outer)


def _log(spark: SparkSession, warehouse: str, table: Table) -> Any:
    return _jvm(spark).org.apache.spark.sql.delta.DeltaLog.forTable(
        spark._jsparkSession, table_path(warehouse, table)
    )


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm


def _none(spark: SparkSession) -> Any:
    return _jvm(spark).scala.Option.empty()
