r"""A table is declared once, as a `Table`; its Spark schema, DDL and documentation are derived from it.

>>> visits = Table(
...     name="visits",
...     comment="Visits of each user and day.",
...     key=("day", "user_id"),
...     written_by="count_visits",
...     partition_by=("day",),
...     reach="day",
...     columns=(
...         Column("day", DATE, "UTC date of the visits"),
...         Column("user_id", STRING, "visiting user", private=True),
...         Column("pages", INT, "pages seen", nullable=True),
...     ),
...     checks=(Check("pages_positive", "pages > 0"),),
...     rules=(unique("day", "user_id"),),
... )
>>> print(visits.ddl("/warehouse/visits"))
CREATE TABLE IF NOT EXISTS delta.`/warehouse/visits` (
  day date NOT NULL COMMENT 'UTC date of the visits',
  user_id string NOT NULL COMMENT 'visiting user',
  pages int COMMENT 'pages seen'
)
USING delta
PARTITIONED BY (day)
COMMENT 'Visits of each user and day.'
TBLPROPERTIES (
  'delta.dataSkippingStatsColumns' = 'pages',
  'nightfold.schema_version' = '1',
  'delta.logRetentionDuration' = 'interval 180 days',
  'delta.deletedFileRetentionDuration' = 'interval 180 days',
  'delta.constraints.pages_positive' = 'pages > 0'
)
>>> print(visits.markdown().replace("\n\n", "\n"))
## visits
Visits of each user and day.
Key: `day`, `user_id`. Partitioned by `day`. Written by `count_visits`.
| column | type | null | meaning |
|---|---|---|---|
| day | date |  | UTC date of the visits |
| user_id | string |  | visiting user |
| pages | int | yes | pages seen |
Checked on every write:
- pages_positive: `pages > 0`
Checked before a night is published, over rows whose `day` is at most fold.window_days days before the night:
- key_unique (fails unless in 0..0): `count(*) - count(DISTINCT day, user_id)`
<BLANKLINE>
"""

from dataclasses import dataclass
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

# Table property: version of the declaration a table was created from; 0 without the property.
SCHEMA_VERSION: Final = "nightfold.schema_version"
# Table property: whether Delta refuses to change or delete rows.
APPEND_ONLY: Final = "delta.appendOnly"
# Retention of old versions and their files. Readers pin published versions, and under Delta's default of a
# week a reader of a version two weeks old would already fail.
HISTORY_DAYS: Final = 180

# Types with min and max statistics; Delta rejects any other type in the list of statistics columns.
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
    """One column. The comment states the unit; `private` keeps the values out of the table's statistics."""

    name: str
    type: T.DataType
    comment: str
    nullable: bool = False
    private: bool = False


@dataclass(frozen=True)
class Check:
    """A condition on every row, as a SQL expression that Delta enforces on each write."""

    name: str
    sql: str


@dataclass(frozen=True)
class Rule:
    """A condition on a table, measured before a night is published: `sql` gives a number in low..high.

    `sql` is an aggregate over the table's rows within reach (`Table.reach`), or a parenthesised query over
    tables by name, each limited to its own reach. `:last` is the date of the night. NULL passes: there was
    nothing to measure.
    """

    name: str
    sql: str
    level: Literal["fail", "warn"] = "fail"
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Table:
    """One Delta table, in the warehouse folder of its name."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    # The command of jobs/ whose runs write the rows; None: every command writes its own.
    written_by: str | None
    partition_by: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    rules: tuple[Rule, ...] = ()
    append_only: bool = False
    # Date column that limits the rules to rows a night may have changed; None: all rows are measured.
    reach: str | None = None
    # Days by which the reach starts before the repair window. An event may arrive the day before its
    # event_date, so events (and what is counted with them) need a day more than the states folded from them.
    reach_margin_days: int = 0
    # Whether its size determines the resources of a night's session: the full table, or only the night's days
    # if it is partitioned by log_date.
    sizes_night: bool = False
    # How an erasure finds what a table without a column user_id holds of a user: by a search of its texts for
    # the id, as text that nobody else needs, as an item that only the user's events name, in a model that was
    # fitted to all users, in messages alone, or not at all.
    erasure: Literal["search", "text", "item", "model", "message", "nothing"] | None = None
    # Incremented with every released change of the declaration, so that code never meets an unknown layout;
    # upgrade_tables brings stored tables to this version.
    schema_version: int = 1

    @property
    def names(self) -> list[str]:
        """The column names, in order."""
        return [column.name for column in self.columns]

    @property
    def erased_by(self) -> str | None:
        """How an erasure finds a user's rows: `user` where they name the user, else as declared."""
        return "user" if "user_id" in self.names else self.erasure

    def spark_schema(self) -> T.StructType:
        """The Spark schema, with comments and nullability as declared."""
        return T.StructType(
            [T.StructField(c.name, c.type, c.nullable, {"comment": c.comment}) for c in self.columns]
        )

    def reach_predicate(self, first: date, window_days: int) -> str:
        """SQL predicate for the rows that a night (or range of nights) beginning on `first` may have changed.

        >>> table = Table("t", "T.", (), (), None, reach="log_date", reach_margin_days=1)
        >>> table.reach_predicate(date(2025, 3, 20), window_days=7)
        "log_date >= DATE'2025-03-12'"
        """
        if self.reach is None:
            return "true"
        return f"{self.reach} >= DATE'{first - timedelta(days=window_days + self.reach_margin_days)}'"

    def properties(self) -> dict[str, str]:
        """Delta table properties: checks, retention, and statistics of the scalar columns that are public."""
        statistics = [
            c.name
            for c in self.columns
            if isinstance(c.type, _WITH_STATISTICS) and not c.private and c.name not in self.partition_by
        ]
        properties = {
            "delta.dataSkippingStatsColumns": ",".join(statistics),
            SCHEMA_VERSION: str(self.schema_version),
            "delta.logRetentionDuration": f"interval {HISTORY_DAYS} days",
            "delta.deletedFileRetentionDuration": f"interval {HISTORY_DAYS} days",
        }
        properties |= {f"delta.constraints.{check.name}": check.sql for check in self.checks}
        if self.append_only:
            properties[APPEND_ONLY] = "true"
        return properties

    def ddl(self, location: str) -> str:
        """The statement that creates the table at `location` (a path or URI) unless it exists."""
        columns = ",\n".join(
            f"  {c.name} {c.type.simpleString()}{'' if c.nullable else ' NOT NULL'}"
            f" COMMENT {_literal(c.comment)}"
            for c in self.columns
        )
        partitions = f"\nPARTITIONED BY ({', '.join(self.partition_by)})" if self.partition_by else ""
        properties = ",\n".join(f"  {_literal(k)} = {_literal(v)}" for k, v in self.properties().items())
        return (
            f"CREATE TABLE IF NOT EXISTS delta.`{location.replace('`', '``')}` (\n{columns}\n)\n"
            f"USING delta{partitions}\nCOMMENT {_literal(self.comment)}\nTBLPROPERTIES (\n{properties}\n)"
        )

    def markdown(self) -> str:
        """The table's section of docs/tables.md."""
        facts = [f"Key: {_code(*self.key)}."]
        if self.partition_by:
            facts.append(f"Partitioned by {_code(*self.partition_by)}.")
        if self.append_only:
            facts.append("Append only.")
        facts.append(f"Written by {_code(self.written_by) if self.written_by else 'every job'}.")
        lines = [f"## {self.name}", "", self.comment, "", " ".join(facts)]
        lines += ["", "| column | type | null | meaning |", "|---|---|---|---|"]
        lines += [
            f"| {c.name} | {c.type.simpleString()} | {'yes' if c.nullable else ''} | {c.comment} |"
            for c in self.columns
        ]
        if self.checks:
            lines += ["", "Checked on every write:", ""]
            lines += [f"- {check.name}: `{check.sql}`" for check in self.checks]
        if self.rules:
            lines += ["", f"Checked before a night is published{self._bound()}:", ""]
            lines += [
                f"- {r.name} ({r.level}s unless in {r.low:g}..{r.high:g}): `{r.sql}`" for r in self.rules
            ]
        return "\n".join(lines) + "\n"

    def _bound(self) -> str:
        """The reach of the rules, in words."""
        if self.reach is None:
            return ""
        margin = f" + {self.reach_margin_days}" if self.reach_margin_days else ""
        return f", over rows whose `{self.reach}` is at most fold.window_days{margin} days before the night"


def unique(*key: str) -> Rule:
    """The rule that no two rows have the same key."""
    return Rule("key_unique", f"count(*) - count(DISTINCT {', '.join(key)})")


def finite_vector(column: str = "vector") -> tuple[Check, ...]:
    """Checks that a vector has no NaN, infinite or missing element, and not only zeros.

    Lambdas are avoided: they cost a small night seconds. Spark orders NaN above every other number;
    array_contains gives NULL, which fails a check, if an array with a NULL lacks the element.
    """
    nan = f"array_contains({column}, CAST('NaN' AS FLOAT))"
    return (
        Check(
            f"{column}_finite",
            f"NOT {nan} AND array_max({column}) < 3.0e38 AND array_min({column}) > -3.0e38",
        ),
        Check(f"{column}_not_zero", f"array_max({column}) <> 0 OR array_min({column}) <> 0"),
    )


def _code(*names: str) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
