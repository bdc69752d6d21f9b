"""The warehouse's Delta tables as the schemas declare them: `Warehouse` reads them, a `Writer` changes them.

A Writer exists only while its lease is held, and confirms the lease before each commit; so a signature with a
Writer in it writes, and one without does not.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from threading import Lock
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io import faults
from jobs.io.columns import quoted
from jobs.io.lease import Lease, take
from jobs.io.messages import JobError
from jobs.io.session import configured
from jobs.io.storage import jvm, read_text
from schemas.all_tables import ALL_TABLES
from schemas.table import SCHEMA_VERSION, Table

# Hexadecimal digits that tell commits apart, and how many are read at once: each may be a call of a store.
COMMIT_DIGITS = 16
COMMITS_AT_ONCE = 8
_COMMIT_NOTE = "spark.databricks.delta.commitInfo.userMetadata"


@dataclass(frozen=True)
class Warehouse:
    """A folder of Delta tables, as one session reads it."""

    spark: SparkSession
    uri: str

    def path(self, table: Table) -> str:
        """Where a table lies."""
        return f"{self.uri}/{table.name}"

    def sql_name(self, table: Table) -> str:
        """The table as SQL names it."""
        return f"delta.{quoted(self.path(table))}"

    def folder(self, name: str) -> "Warehouse":
        """The tables in a folder of the warehouse, such as a rebuild's."""
        return Warehouse(self.spark, f"{self.uri}/{name}")

    def exists(self, table: Table) -> bool:
        """Whether there is a table."""
        return bool(DeltaTable.isDeltaTable(self.spark, self.path(table)))

    def version(self, table: Table) -> int | None:
        """The current version; None where there is no table."""
        return int(self.snapshot(table).version()) if self.exists(table) else None

    def versions(self) -> dict[str, int]:
        """The current version of every table that exists, by name."""
        found = {table.name: self.version(table) for table in ALL_TABLES}
        return {name: version for name, version in found.items() if version is not None}

    def read(self, table: Table) -> DataFrame:
        """The table's current rows; no rows where it was never written.

        The version is pinned: otherwise a job's own write would show in frames made before it, and Spark
        would compute cached ones again.
        """
        version = self.version(table)
        return self.no_rows(table) if version is None else self.read_version(table, version)

    def read_version(self, table: Table, version: int) -> DataFrame:
        """The rows of a table that exists, as of the version."""
        return self.spark.read.format("delta").option("versionAsOf", version).load(self.path(table))

    def no_rows(self, table: Table) -> DataFrame:
        """The table's columns without rows.

        Spark's optimizer drops joins with this; createDataFrame([]) would start a Python worker instead.
        """
        nulls = [f"CAST(NULL AS {c.type.simpleString()}) AS `{c.name}`" for c in table.columns]
        return self.spark.range(1).selectExpr(*nulls).limit(0)

    def snapshot(self, table: Table) -> Any:
        """The Delta snapshot of a table that exists.

        The public history() and detail() each run a Spark job.
        """
        return self._log(table).update(False, _none(self.spark), _none(self.spark))

    def properties(self, table: Table) -> dict[str, str]:
        """The properties of a table that exists."""
        found = self.snapshot(table).metadata().configuration()
        return dict(jvm(self.spark).scala.jdk.javaapi.CollectionConverters.asJava(found))

    def schema_version(self, table: Table) -> int | None:
        """The version of the declaration a table was created by; None where there is no table."""
        if not self.exists(table):
            return None
        # One property and not all: each is a call to Java, and every job checks every table.
        found = self.snapshot(table).metadata().configuration().get(SCHEMA_VERSION)
        return int(found.get()) if found.isDefined() else 0

    def note(self, table: Table) -> dict[str, Any]:
        """The userMetadata of the table's last commit (see Writer.noting).

        Empty where there is none, or the commit's file is gone and a checkpoint stands in for it.
        """
        version = self.version(table)
        text = None if version is None else self._commit_text(table.name, version)
        # Read from the commit file: DeltaTable.history runs a Spark job.
        lines = [line for line in (text or "").splitlines() if line.startswith('{"commitInfo"')]
        info = json.loads(lines[0])["commitInfo"] if lines else {}
        return dict(json.loads(info["userMetadata"])) if info.get("userMetadata") else {}

    def commit(self, name: str, version: int) -> str | None:
        """A hash of the commit that made a table's version; None where its file is gone.

        Of the whole file: the actions in it have a number of their own (txnId) only where Spark wrote them.
        """
        text = self._commit_text(name, version)
        return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:COMMIT_DIGITS]

    def commits(self, versions: Mapping[str, int]) -> dict[str, str]:
        """The hashes of the commits that made these versions, by table."""
        with ThreadPoolExecutor(COMMITS_AT_ONCE) as pool:
            found = list(pool.map(lambda one: self.commit(*one), versions.items()))
        return {name: commit for name, commit in zip(versions, found, strict=True) if commit is not None}

    def _commit_text(self, name: str, version: int) -> str | None:
        return read_text(self.spark, f"{self.uri}/{name}/_delta_log/{version:020}.json")

    def content_note(self, table: Table) -> dict[str, Any]:
        """What the last writer of rows noted about their content."""
        return dict(self.note(table).get("content", {}))

    def same_since(self, table: Table) -> int | None:
        """The version since which the table's content is the same.

        Maintenance commits raise the version only.
        """
        version = self.version(table)
        return None if version is None else int(self.note(table).get("same_since", version))

    def refuse_other_schema(self) -> None:
        """Raises JobError where a table was created by an older or newer declaration than this code's."""
        for table in ALL_TABLES:
            found = self.schema_version(table)
            if found is not None and found < table.schema_version:
                raise JobError(
                    f"{table.name} has schema version {found} and this code writes {table.schema_version}; "
                    "run upgrade_tables on this warehouse first"
                )
            if found is not None and found > table.schema_version:
                raise JobError(newer_schema(table, found))

    def _log(self, table: Table) -> Any:
        delta = jvm(self.spark).org.apache.spark.sql.delta
        return delta.DeltaLog.forTable(self.spark._jsparkSession, self.path(table))


def newer_schema(table: Table, found: int) -> str:
    """The refusal of a table that newer code declared."""
    return (
        f"{table.name} has schema version {found}, but this code knows only {table.schema_version}; "
        "use the newer code"
    )


@dataclass(frozen=True)
class Writer:
    """The right to change a warehouse's tables; `open_writer` gives it, one at a time in a session."""

    warehouse: Warehouse
    lease: Lease
    _creating: Lock = field(default_factory=Lock)

    def folder(self, name: str) -> "Writer":
        """Writes the tables in a folder of the warehouse, under the same lease."""
        return Writer(self.warehouse.folder(name), self.lease, self._creating)

    def confirm(self) -> None:
        """Raises JobError where another process has taken the lease: nothing may be written any more."""
        self.lease.confirm()

    @contextmanager
    def _committing(self, table: Table) -> Iterator[None]:
        """Around one commit to the table; raises JobError where another process has taken the lease."""
        self.confirm()
        with faults.around(f"commit.{table.name}"):
            yield

    def create(self, table: Table) -> DeltaTable:
        """The table, created as declared where it does not exist."""
        spark, path = self.warehouse.spark, self.warehouse.path(table)
        if not self.warehouse.exists(table):
            self.confirm()
            # The creating commit must not carry the note of the rows that follow: a job killed between the
            # two would look done. The note is the session's, so tables are created one at a time.
            with (
                self._creating,
                configured(spark, {_COMMIT_NOTE: "{}"}),
                faults.around(f"create.{table.name}"),
            ):
                spark.sql(table.ddl(path))
        return DeltaTable.forPath(spark, path)

    def replace(self, table: Table, rows: DataFrame, predicate: str) -> None:
        """Replaces the rows that match the literal predicate, in one commit; idempotent."""
        self.create(table)
        writer = conformed(rows, table).write.format("delta").mode("overwrite")
        with self._committing(table):
            writer.option("replaceWhere", predicate).save(self.warehouse.path(table))

    def overwrite(self, table: Table, rows: DataFrame) -> None:
        """Replaces all rows, in one commit."""
        self.create(table)
        writer = conformed(rows, table).write.format("delta").mode("overwrite")
        with self._committing(table):
            writer.save(self.warehouse.path(table))

    def append(self, table: Table, rows: DataFrame) -> None:
        """Adds rows; not idempotent, and so only for records."""
        self.create(table)
        writer = conformed(rows, table).write.format("delta").mode("append")
        with self._committing(table):
            writer.save(self.warehouse.path(table))

    def insert_absent(self, table: Table, rows: DataFrame, within: Column) -> None:
        """Inserts the rows whose key the table lacks.

        within: a literal predicate on alias `t` that bounds what the merge reads and conflicts with.
        """
        match = within & _equal(table.key)
        merge = self.create(table).alias("t").merge(conformed(rows, table).alias("s"), match)
        with self._committing(table):
            merge.whenNotMatchedInsertAll().execute()

    def delete(self, table: Table, keys: DataFrame) -> None:
        """Deletes the rows that equal one of the keys in all of its columns.

        By a join, since a predicate would name the keys in the table's log.
        """
        merge = self.create(table).alias("t").merge(keys.distinct().alias("s"), _equal(keys.columns))
        with self._committing(table):
            merge.whenMatchedDelete().execute()

    def update(self, table: Table, rows: DataFrame) -> None:
        """Gives stored rows new values: rows has the table's key and the columns that change."""
        values: dict[str, str | Column] = {n: f"s.{n}" for n in rows.columns if n not in table.key}
        merge = self.create(table).alias("t").merge(rows.alias("s"), _equal(table.key))
        with self._committing(table):
            merge.whenMatchedUpdate(set=values).execute()

    def set_properties(self, table: Table, properties: Mapping[str, str]) -> None:
        """Sets properties in one commit; names and values come from our own code."""
        self.create(table)
        self.confirm()
        given = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        self.warehouse.spark.sql(f"ALTER TABLE {self.warehouse.sql_name(table)} SET TBLPROPERTIES ({given})")

    def declare(self, table: Table, properties: Mapping[str, str]) -> None:
        """Gives a table that exists the declared columns and comments and these properties.

        Rows stay as they are.

        Through the Delta log in one commit: SQL needs one for each kind of change, and can't set a check as a
        property.
        """
        spark = self.warehouse.spark
        delta = jvm(spark).org.apache.spark.sql.delta
        utils = jvm(spark).org.apache.spark.api.python.PythonUtils
        transaction = self.warehouse._log(table).startTransaction(_none(spark), _none(spark))
        old, given = transaction.metadata(), utils.toScalaMap(dict(properties))
        schema, created = table.spark_schema().json(), old.createdTime()
        columns, format_ = old.partitionColumns(), old.format()
        made = delta.actions.Metadata(
            old.id(), old.name(), table.comment, format_, schema, columns, given, created
        )
        transaction.updateMetadata(made, False)
        self.confirm()
        transaction.commit(utils.toSeq([]), getattr(delta, "DeltaOperations$SetTableProperties")(given))

    @contextmanager
    def noting(
        self, note: Mapping[str, object], content: Mapping[str, object] | None = None
    ) -> Iterator[None]:
        """Commits inside carry the note as userMetadata, on top of the notes of the contexts around.

        content: what the writer says of the rows themselves; maintenance carries it on, and nothing here
        reads it.
        """
        spark = self.warehouse.spark
        outer = spark.conf.get(_COMMIT_NOTE, "{}") or "{}"
        added = dict(note) if content is None else dict(note) | {"content": dict(content)}
        spark.conf.set(_COMMIT_NOTE, json.dumps(json.loads(outer) | added, sort_keys=True, default=str))
        try:
            yield
        finally:
            spark.conf.set(_COMMIT_NOTE, outer)

    @contextmanager
    def keeping_content(self, table: Table) -> Iterator[None]:
        """For maintenance of a table that exists: a commit inside does not change what the rows say.

        It carries on the content note of the last commit, and since which version it holds.
        """
        note = self.warehouse.note(table)
        since = note.get("same_since", self.warehouse.version(table))
        with self._committing(table), self.noting({"same_since": since}, content=note.get("content", {})):
            yield


@contextmanager
def open_writer(warehouse: Warehouse, owner: str, any_schema: bool = False) -> Iterator[Writer]:
    """Takes the warehouse's lease under the owner's name and releases it at the end.

    Raises JobError where another process holds it, or where a table has another schema version (unless
    any_schema).
    """
    lease = take(warehouse.spark, warehouse.uri, owner)
    try:
        if not any_schema:
            warehouse.refuse_other_schema()
        yield Writer(warehouse, lease)
    finally:
        lease.release()


def _equal(names: Sequence[str]) -> Column:
    """Whether the rows `t` and `s` of a merge agree in these columns."""
    return reduce(and_, [F.col(f"t.{name}") == F.col(f"s.{name}") for name in names])


def conformed(rows: DataFrame, table: Table) -> DataFrame:
    """The table's columns in its order, each of its declared type."""
    # As SQL text: each Column object costs five calls to Java.
    casts = [f"CAST(`{c.name}` AS {c.type.simpleString()}) AS `{c.name}`" for c in table.columns]
    return rows.selectExpr(*casts)


def same_rows(left: DataFrame, right: DataFrame, columns: list[str]) -> bool:
    """Whether two frames hold the same rows in any order, by count and independent hashes of every row."""
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
    """Spark can't hash maps, and its hash skips NULLs as if they were not there."""
    column = F.col(name)
    if isinstance(rows.schema[name].dataType, T.MapType):
        column = F.array_sort(F.map_entries(column))
    return F.struct(F.isnull(column), column)


def _none(spark: SparkSession) -> Any:
    return jvm(spark).scala.Option.empty()
