"""The types of a Parquet file's columns, of nested ones as far as the mapping declares their fields."""

from collections.abc import Iterator
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from jobs.io.messages import JobError
from jobs.io.storage import first_line, jvm, open_parquet

# Names and types of the columns of a Parquet file, with the annotations of those that need a conversion.
ParquetColumns = tuple[tuple[str, str, str], ...]
NANOSECONDS: Final = {"TIMESTAMP(NANOS,true)": "timestamp", "TIMESTAMP(NANOS,false)": "timestamp_ntz"}
UUID: Final = "UUID"


class ParquetTypes:
    """The types of the declared columns, found once for each schema.

    keeps_unmapped: also those of the others that Spark can read.
    """

    def __init__(self, spark: SparkSession, declared: T.StructType, keeps_unmapped: bool) -> None:
        self.spark, self.keeps_unmapped = spark, keeps_unmapped
        self.declared = {field.name: field.dataType for field in declared}
        self.known: dict[str, ParquetColumns] = {}

    def of_file(self, file: str) -> ParquetColumns:
        """(name, type as JSON, annotation) of each column. Raises JobError where one can't be read."""
        try:
            with open_parquet(self.spark, file) as reader:
                schema = reader.getFileMetaData().getSchema()
                text = str(schema.toString())
                if text not in self.known:
                    self.known[text] = tuple(self._columns(file, schema))
        except Py4JJavaError as error:
            raise JobError(f"{file} is not a complete Parquet file: {first_line(error)}") from error
        return self.known[text]

    def _columns(self, file: str, schema: Any) -> Iterator[tuple[str, str, str]]:
        for field in schema.getFields():
            name, annotation = str(field.getName()), str(field.getLogicalTypeAnnotation())
            if name not in self.declared and not self.keeps_unmapped:
                continue
            if annotation == UUID:
                yield name, T.StructType([T.StructField(name, T.BinaryType())]).json(), UUID
                continue
            note = annotation if annotation in NANOSECONDS else ""
            kind = self._spark_type(field) if self.keeps_unmapped else None
            if name in self.declared:
                needed = self._needed(field, self.declared[name])
                kind = kind or self._spark_type(needed)
                self._require_readable(file, name, needed, kind)
            if kind is not None:
                yield name, kind, note

    def _require_readable(self, file: str, name: str, needed: Any, kind: str | None) -> None:
        """Raises JobError where Spark does not know the type, or would give a time inside as a number."""
        shown = " ".join(str(needed).split())
        if kind is None:
            raise JobError(f"{file}: the column {name} has a type that can't be read ({shown})")
        if not needed.isPrimitive() and any(annotation in shown for annotation in NANOSECONDS):
            raise JobError(
                f"{file}: the column {name} has times in nanoseconds inside ({shown}), which can't be read; "
                "write them in microseconds"
            )

    def _spark_type(self, field: Any) -> str | None:
        """A column's type as JSON; None where Spark can't read it."""
        java = jvm(self.spark)
        alone = java.java.util.ArrayList()
        alone.add(field)
        message = java.org.apache.parquet.schema.MessageType("spark_schema", alone)
        parquet = java.org.apache.spark.sql.execution.datasources.parquet
        conf = self.spark._jsparkSession.sessionState().conf()
        try:
            return str(parquet.ParquetToSparkSchemaConverter(conf).convert(message).json())
        except (Py4JJavaError, PySparkException):
            return None

    def _needed(self, field: Any, declared: T.DataType) -> Any:
        """A Parquet type with only the declared fields of its structures, those in lists and maps too.

        What has none of the declared fields, or lays out its list in another way than the format asks for
        today, stays whole.
        """
        if field.isPrimitive():
            return field
        parts = [*field.getFields()]
        if isinstance(declared, T.StructType):
            kinds = {part.name: part.dataType for part in declared}
            kept = [self._needed(part, kinds[part.getName()]) for part in parts if part.getName() in kinds]
            return self._with_fields(field, kept) if kept else field
        inner = [*parts[0].getFields()] if len(parts) == 1 and not parts[0].isPrimitive() else []
        if isinstance(declared, T.ArrayType) and len(inner) == 1 and parts[0].getName() in ("list", "bag"):
            inner = [self._needed(inner[0], declared.elementType)]
        elif isinstance(declared, T.MapType) and len(inner) == 2:
            inner = [inner[0], self._needed(inner[1], declared.valueType)]
        else:
            return field
        return self._with_fields(field, [self._with_fields(parts[0], inner)])

    def _with_fields(self, group: Any, fields: list[Any]) -> Any:
        kept = jvm(self.spark).java.util.ArrayList()
        for field in fields:
            kept.add(field)
        return group.withNewFields(kept)
