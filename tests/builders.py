"""Rows for tests, built from the tables' declarations: a test states only the values it is about."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from schemas.table import Table

# Neutral values by type, chosen to pass the tables' CHECKs together: event_ts lies on event_date, a vector
# has dim elements. Only words from a closed list (status, level) have no neutral value.
NEUTRAL: Final[dict[type[T.DataType], Any]] = {
    T.StringType: "x",
    T.IntegerType: 1,
    T.LongType: 1,
    T.FloatType: 1.0,
    T.DoubleType: 1.0,
    T.BooleanType: False,
    T.DateType: date(2025, 3, 3),
    T.TimestampType: datetime(2025, 3, 3, 12, tzinfo=UTC),
}


def row(table: Table, **values: Any) -> dict[str, Any]:
    """A row of the table with these values; other columns are None where they may be null, else neutral.

    Raises TypeError for a name the table does not have.
    """
    if unknown := values.keys() - set(table.names):
        raise TypeError(f"{table.name} has no column {', '.join(sorted(unknown))}")
    return {c.name: None if c.nullable else neutral(c.type) for c in table.columns} | values


def frame(spark: SparkSession, table: Table, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """The rows as a DataFrame of the table's columns, all nullable: only the table refuses missing values."""
    schema = T.StructType([T.StructField(c.name, c.type) for c in table.columns])
    return spark.createDataFrame([tuple(values[name] for name in table.names) for values in rows], schema)


def neutral(type_: T.DataType) -> Any:
    """The neutral value of a declared type: a list holds one neutral element, a map nothing."""
    if isinstance(type_, T.ArrayType):
        return [neutral(type_.elementType)]
    if isinstance(type_, T.StructType):
        return tuple(neutral(field.dataType) for field in type_.fields)
    return {} if isinstance(type_, T.MapType) else NEUTRAL[type(type_)]


def store(spark: SparkSession, warehouse: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """Appends the rows to the table, which is created as declared if it does not exist; returns its path."""
    path = f"{warehouse}/{table.name}"
    spark.sql(table.ddl(path))
    if rows:
        frame(spark, table, rows).write.format("delta").mode("append").save(path)
    return path


def store_without_spark(warehouse: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """Appends the rows to the table in the declared types, for tests that start no Java; returns its path."""
    path, schema = f"{warehouse}/{table.name}", to_arrow_schema(table.spark_schema(), timezone="UTC")
    stored = pa.Table.from_pylist([dict(values) for values in rows], schema)
    write_deltalake(path, stored, mode="append", partition_by=list(table.partition_by))
    return path
