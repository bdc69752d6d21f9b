"""Measures the rules declared with each table (schemas/) over what a night can have touched."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

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
    """Registers the rows within each table's reach under the table's name, for the rules' SQL."""
    for table in ALL_TABLES:
        rows = run.warehouse.read(table).where(table.reach_predicate(days.first, settings.fold.window_days))
        rows.createOrReplaceTempView(table.name)


def measuring_query(table: Table, last: date) -> str:
    """The query that measures a table's rules, one column each, in their order.

    Made of declared text and a date.
    """
    measures = ", ".join(f"CAST({rule.sql} AS DOUBLE)" for rule in table.rules)
    return f"SELECT {measures} FROM {table.name}".replace(":last", f"DATE'{last}'")  # noqa: S608


def holds(rule: Rule, value: float | None) -> bool:
    """NaN never holds; NULL, with nothing to measure, always does."""
    return value is None or rule.low <= value <= rule.high
