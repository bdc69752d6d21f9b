"""How a table is declared: once, as a `Table`; Spark schema, DDL and documentation are derived here."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, Literal

from pyspark.sql import types as T

STRING: Final = T.StringType()
INT: Final = T.IntegerType()
LONG: Final = T.LongType()
FLOAT: Final = T.FloatType()
DOUBLE: Final = T.DoubleType()
BOOLEAN: Final = T.BooleanType()
DATE: Final = T.DateType()
TIMESTAMP: Final = T.TimestampType()
STRINGS: Final = T.ArrayType(STRING)
TEXT_MAP: Final = T.MapType(STRING, STRING)
COUNTS: Final = T.MapType(STRING, LONG)
VECTOR: Final = T.ArrayType(FLOAT)

# The property that says after which declaration a table was made; one without it was made before there were any, and counts as 0.
SCHEMA_VERSION: Final = "nightfold.schema_version"
# How long a table remembers its old versions, and which files they were made of: nothing older can be promised to readers. Delta's
# own week would let a reader of a version two weeks old be refused.
HISTORY_DAYS: Final = 180

# Types for which Delta keeps min and max; anything else in the list of statistics columns is an error there.
_WITH_STATISTICS: Final = (
    T.IntegerType,
    T.LongType,
    T.FloatType,
    T.DoubleType,
    T.DateType,
    T.TimestampType,
    T.StringType,
)


@dataclass(frozen=True)
class Column:
    """One column: its unit stands in the comment; `private` keeps its values out of the table's statistics."""

    name: str
    type: T.DataType
    comment: str
    nullable: bool = False
    private: bool = False


@dataclass(frozen=True)
class Check:
    """A rule every row must keep, a SQL expression that Delta enforces on each write."""

    name: str
    sql: str


@dataclass(frozen=True)
class Rule:
    """A rule of a whole table, measured before a night is published: `sql` gives one number, which must lie in low..high.

    `sql` is an aggregate over the table's rows in the night's reach (`Table.reach`), or a query in brackets over any tables by their
    names, each limited to its own reach; `:last` is the night's date. NULL, where there is nothing to measure, passes.
    """

    name: str
    sql: str
    level: Literal["fail", "warn"] = "fail"
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Table:
    """One Delta table under the warehouse, in a folder of its name."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    # The command of jobs/ whose run writes the rows; None: every command appends its own.
    written_by: str | None
    partition_by: tuple[str, ...] = ()
    checks: tuple[Check, ...] = field(default=())
    rules: tuple[Rule, ...] = field(default=())
    append_only: bool = False
    # The date column by which the rules are limited to the rows a night can have touched; None: they measure the entire table.
    reach: str | None = None
    # How many days before the repair window the reach begins. An event may arrive on the day before its event_date, so events, and
    # what is counted with them, reach one day further back than their states.
    reach_days: int = 0
    # Whether its size decides what a night's session needs: all of it, or of a table partitioned by log_date the night's days.
    sizes_night: bool = False
    # Raised with every change of the declaration, so that no code meets a table it does not know; upgrade_tables brings tables up to it.
    schema_version: int = 1

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def spark_schema(self) -> T.StructType:
        return T.StructType(
            [T.StructField(c.name, c.type, c.nullable, {"comment": c.comment}) for c in self.columns]
        )

    def reach_predicate(self, first: date, window_days: int) -> str:
        """SQL for the rows that a night whose first day is `first` can have touched; `window_days` is the repair window."""
        if self.reach is None:
            return "true"
        return f"{self.reach} >= DATE'{first - timedelta(days=window_days + self.reach_days)}'"

    def properties(self) -> dict[str, str]:
        """Delta table properties: the checks, how long history is kept, and statistics for public scalar columns only."""
        statistics = [
            c.name
            for c in self.columns
            if isinstance(c.type, _WITH_STATISTICS) and not c.private and c.name not in self.partition_by
        ]
        properties = {
            "delta.dataSkippingStatsColumns": ",".join(statistics),
            SCHEMA_VERSION: str(self.schema_version),
        }
        properties |= dict.fromkeys(
            ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration"),
            f"interval {HISTORY_DAYS} days",
        )
        properties |= {f"delta.constraints.{check.name}": check.sql for check in self.checks}
        if self.append_only:
            properties["delta.appendOnly"] = "true"
        return properties

    def ddl(self, location: str) -> str:
        """The statement that creates this table at `location` (a path or URI) where it does not exist yet."""
        columns = ",\n".join(
            f"  {c.name} {c.type.simpleString()}{'' if c.nullable else ' NOT NULL'} COMMENT {_literal(c.comment)}"
            for c in self.columns
        )
        partitions = f"\nPARTITIONED BY ({', '.join(self.partition_by)})" if self.partition_by else ""
        properties = ",\n".join(f"  {_literal(k)} = {_literal(v)}" for k, v in self.properties().items())
        return (
            f"CREATE TABLE IF NOT EXISTS delta.`{location.replace('`', '``')}` (\n{columns}\n)\nUSING delta{partitions}\n"
            f"COMMENT {_literal(self.comment)}\nTBLPROPERTIES (\n{properties}\n)"
        )

    def markdown(self) -> str:
        """The table's section of docs/tables.md."""
        lines = [f"## {self.name}", "", self.comment, "", f"Key: {', '.join(f'`{k}`' for k in self.key)}."]
        if self.partition_by:
            lines[-1] += f" Partitioned by {', '.join(f'`{p}`' for p in self.partition_by)}."
        if self.append_only:
            lines[-1] += " Append only."
        lines[-1] += f" Written by {f'`{self.written_by}`' if self.written_by else 'every job'}."
        lines += ["", "| column | type | null | what it holds |", "|---|---|---|---|"]
        lines += [
            f"| {c.name} | {c.type.simpleString()} | {'yes' if c.nullable else ''} | {c.comment} |"
            for c in self.columns
        ]
        if self.checks:
            lines += ["", "Checked on every write:", ""]
            lines += [f"- {check.name}: `{check.sql}`" for check in self.checks]
        if self.rules:
            since = " + ".join(["fold.window_days", *([str(self.reach_days)] if self.reach_days else [])])
            bound = f", where `{self.reach}` is at most {since} days before the night" if self.reach else ""
            lines += ["", f"Checked before a night is published{bound}:", ""]
            lines += [
                f"- {r.name} ({r.level}s unless in {r.low:g}..{r.high:g}): `{r.sql}`" for r in self.rules
            ]
        return "\n".join(lines) + "\n"


def unique(*key: str) -> Rule:
    """The rule that no two rows have the same key."""
    return Rule("key_unique", f"count(*) - count(DISTINCT {', '.join(key)})")


def finite_vector(column: str = "vector") -> tuple[Check, ...]:
    """No NaN, infinite, missing or all-zero number gets into a table's vectors.

    Without lambdas, which cost a small night seconds: NaN is the greatest of all, and a search that meets a NULL and finds nothing
    is NULL, which is no pass.
    """
    nan = f"array_contains({column}, CAST('NaN' AS FLOAT))"
    return (
        Check(
            f"{column}_finite",
            f"NOT {nan} AND array_max({column}) < 3.0e38 AND array_min({column}) > -3.0e38",
        ),
        Check(f"{column}_not_zero", f"array_max({column}) <> 0 OR array_min({column}) <> 0"),
    )


def _literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
