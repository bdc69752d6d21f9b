"""Measures the rules declared with each table (schemas/) over what a night can have touched, before it is
published.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.messages import JobError, say
from jobs.io.runs import Run
from schemas import check_results
from schemas.all_tables import ALL_TABLES
from schemas.settings import Settings
from schemas.table import Rule, Table

JOB = "check_tables"


def check_days(run: Run, settings: Settings, days: Days) -> None:
    """Measures every rule over the night and writes the outcomes.

    Raises JobError where a rule of level fail does not hold; one of level warn is reported and passes.
    """
    run.log.flush()  # the rules read the records of this very night
    tables = [table for table in ALL_TABLES if table.rules and run.warehouse.exists(table)]
    with run.phase("measure"):
        register_tables(run, settings, days)
        # In parallel: on small tables a query is mostly planning, which takes one core.
        with ThreadPoolExecutor(len(tables)) as pool:
            queries = [measuring_query(table, days.last) for table in tables]
            measured = list(pool.map(lambda query: run.spark.sql(query).collect()[0], queries))
    outcomes = [
        {
            "run_id": run.spec.run_id,
            "rule": f"{t.name}.{r.name}",
            "level": r.level,
            "value": v,
            "passed": holds(r, v),
        }
        for t, row in zip(tables, measured, strict=True)
        for r, v in zip(t.rules, row, strict=True)
    ]
    with run.phase("write"):
        rows = run.spark.createDataFrame(outcomes, check_results.TABLE.spark_schema())
        run.writer.append(check_results.TABLE, rows.coalesce(1))
    broken = [outcome for outcome in outcomes if not outcome["passed"]]
    failed = [outcome["rule"] for outcome in broken if outcome["level"] == "fail"]
    run.counts |= {"rules": len(outcomes), "warned": len(broken) - len(failed), "failed": len(failed)}
    for outcome in broken:
        say(f"{JOB} {outcome['level']}: {outcome['rule']} measures {outcome['value']:g}")
    if failed:
        raise JobError(
            f"{', '.join(failed)} failed; nothing is published, and check_results has the measures"
        )


def register_tables(run: Run, settings: Settings, days: Days) -> None:
    """Registers what is in reach of each table under the table's name, for the rules' SQL."""
    for table in ALL_TABLES:
        rows = in_reach(run.warehouse.read(table), table, days.first, settings.fold.window_days)
        rows.createOrReplaceTempView(table.name)


def in_reach(rows: DataFrame, table: Table, first: date, window_days: int) -> DataFrame:
    """The rows that a night from `first` on can have touched, so that a check does not grow with history.

    Events as far back as they are deduplicated; states and profiles of the repair window and later.
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
    """The query that measures a table's rules, one column each, in their order.

    Made of declared text and a date.
    """
    measures = ", ".join(f"CAST({rule.sql} AS DOUBLE)" for rule in table.rules)
    return f"SELECT {measures} FROM {table.name}".replace(":last", f"DATE'{last}'")  # noqa: S608


def holds(rule: Rule, value: float | None) -> bool:
    """NaN never holds; NULL, with nothing to measure, always does."""
    return value is None or rule.low <= value <= rule.high
