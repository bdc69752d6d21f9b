"""Measures the rules that stand beside each table before a night is published."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io import delta
from jobs.io.messages import JobError, say
from jobs.io.runs import Run, finish_writing
from schemas import check_results
from schemas.all_tables import ALL_TABLES
from schemas.settings import Settings
from schemas.table import Rule, Table

JOB = "check_tables"


def in_reach(rows: DataFrame, table: Table, first: date, last: date, window_days: int) -> DataFrame:
    """The table's rows that a night of first..last can have touched, so that a check does not grow with history.

    Events as far back as doubles are looked for; states and profiles of the repair window and later; quarantine and records like events.
    """
    near, window = first - timedelta(days=window_days + 1), first - timedelta(days=window_days)
    bounds = {
        "behavior_events": F.col("log_date") >= F.lit(near),
        "quarantined_events": F.col("log_date") >= F.lit(near),
        "items": F.col("valid_from") >= F.lit(window),
        "profile_states": F.col("as_of_date") >= F.lit(window),
        "user_profiles": F.col("as_of_date") >= F.lit(window),
        "pipeline_runs": F.col("from_date") >= F.lit(near),
    }
    return rows.where(bounds[table.name]) if table.name in bounds else rows


def measuring_query(table: Table, last: date) -> str:
    """The query that measures a table's rules, one column each, in their order; made of declared text and a date."""
    measures = ", ".join(f"CAST({rule.sql} AS DOUBLE)" for rule in table.rules)
    return f"SELECT {measures} FROM {table.name}".replace(":last", f"DATE'{last}'")  # noqa: S608


def holds(rule: Rule, value: float | None) -> bool:
    """NaN never holds; nothing to measure always does."""
    return value is None or rule.low <= value <= rule.high


# ---- the edges


def check_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, first: date, last: date
) -> None:
    """Measures every rule over the night first..last and writes the outcomes; raises JobError where one of level fail does not hold."""
    finish_writing(warehouse)  # the rules read the records of this very night
    tables = [table for table in ALL_TABLES if table.rules and delta.table_exists(spark, warehouse, table)]
    with run.phase("measure"):
        show_tables(spark, warehouse, settings, first, last)
        # Side by side: on small tables a query is mostly planning, and that takes one core.
        with ThreadPoolExecutor(len(tables)) as pool:
            measured = list(
                pool.map(lambda table: spark.sql(measuring_query(table, last)).collect()[0], tables)
            )
    outcomes = [
        {
            "run_id": run.run_id,
            "rule": f"{t.name}.{r.name}",
            "level": r.level,
            "value": v,
            "passed": holds(r, v),
        }
        for t, row in zip(tables, measured, strict=True)
        for r, v in zip(t.rules, row, strict=True)
    ]
    with run.phase("write"):
        delta.append(
            spark,
            warehouse,
            check_results.TABLE,
            spark.createDataFrame(outcomes, check_results.TABLE.spark_schema()).coalesce(1),
        )
    broken = [outcome for outcome in outcomes if not outcome["passed"]]
    failed = [outcome["rule"] for outcome in broken if outcome["level"] == "fail"]
    run.counts |= {"rules": len(outcomes), "warned": len(broken) - len(failed), "failed": len(failed)}
    for outcome in broken:
        say(f"{JOB} {outcome['level']}: {outcome['rule']} measures {outcome['value']:g}")
    if failed:
        raise JobError(
            f"{', '.join(failed)} failed; nothing is published, and check_results has the measures"
        )


def show_tables(spark: SparkSession, warehouse: str, settings: Settings, first: date, last: date) -> None:
    """Puts the parts of the tables that are in reach under the tables' names, for the rules."""
    for table in ALL_TABLES:
        rows = delta.read_table(spark, warehouse, table)
        in_reach(rows, table, first, last, settings.fold.window_days).createOrReplaceTempView(table.name)
