"""The run records: every job's story in pipeline_runs, and which days are published."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io import delta
from jobs.io.shell import JobError, one_sentence, say
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.settings import CODE_VERSION, Settings
from schemas.table import Table

PUBLISHER = "publish_run"


@dataclass
class Run:
    """One attempt of one job, filled in while it works."""

    run_id: str
    job: str
    from_date: date
    date: date
    config_hash: str
    attempt: int = 1
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    fold_hash: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    input_versions: dict[str, int] = field(default_factory=dict)
    output_versions: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of the job under its name."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


def new_run_id(job: str, day: date) -> str:
    """A name for a run begun now; a name that must be the same after a crash is the caller's to give."""
    return f"{job}-{day}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"


@contextmanager
def recorded(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    job: str,
    run_id: str,
    first: date,
    last: date,
    status: str = "done",
    any_schema: bool = False,
) -> Iterator[Run]:
    """Writes `started` before the body and `status` (or `failed`, with why) after it; commits inside carry the run's name."""
    if not any_schema:
        refuse_other_schema(spark, warehouse)
    run = Run(run_id, job, first, last, settings.config_hash())
    earlier = runs_table(spark, warehouse).where((F.col("run_id") == run_id) & (F.col("job") == job))
    run.attempt = 1 + earlier.where("status = 'started'").count()
    write_row(spark, warehouse, run, "started")
    before = versions(spark, warehouse)
    run.input_versions = {name: version for name, version in before.items() if name != pipeline_runs.TABLE.name}
    note = {"job": job, "date": last, "run_id": run_id, "code_version": CODE_VERSION, "config_hash": run.config_hash}
    try:
        with delta.noting(spark, note):
            yield run
    except BaseException as error:
        write_row(spark, warehouse, run, "failed", one_sentence(error))
        raise
    if not run.output_versions:
        after = versions(spark, warehouse)
        run.output_versions = {n: v for n, v in after.items() if v != before.get(n) and n != pipeline_runs.TABLE.name}
    write_row(spark, warehouse, run, status)
    spent = (datetime.now(UTC) - run.started).total_seconds()
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in run.counts.items())
    say(f"{job} {_span(first, last)}: {told or status} ({spent:.1f} s)")


def refuse_other_schema(spark: SparkSession, warehouse: str) -> None:
    """Stops where a table was made by an older or a newer declaration than this code's."""
    for table in ALL_TABLES:
        found = delta.schema_version(spark, warehouse, table)
        if found is not None and found < table.schema_version:
            raise JobError(
                f"{table.name} has schema version {found} and this code writes {table.schema_version}; "
                "run upgrade_tables on this warehouse first"
            )
        if found is not None and found > table.schema_version:
            raise JobError(newer_schema(table, found))


def newer_schema(table: Table, found: int) -> str:
    return f"{table.name} has schema version {found}, but this code knows only {table.schema_version}; use the newer code"


def write_row(spark: SparkSession, warehouse: str, run: Run, status: str, message: str | None = None) -> None:
    row = {
        "run_id": run.run_id,
        "job": run.job,
        "attempt": run.attempt,
        "status": status,
        "date": run.date,
        "from_date": run.from_date,
        "started": run.started,
        "ended": None if status == "started" else datetime.now(UTC),
        "input_versions": run.input_versions,
        "output_versions": run.output_versions,
        "counts": run.counts,
        "seconds": run.seconds,
        "code_version": CODE_VERSION,
        "fold_hash": run.fold_hash,
        "config_hash": run.config_hash,
        "message": message,
    }
    delta.append(spark, warehouse, pipeline_runs.TABLE, spark.createDataFrame([row], pipeline_runs.TABLE.spark_schema()))


def runs_table(spark: SparkSession, warehouse: str) -> DataFrame:
    return delta.read_table(spark, warehouse, pipeline_runs.TABLE)


def versions(spark: SparkSession, warehouse: str) -> dict[str, int]:
    """The current version of every table there is."""
    found = {table.name: delta.table_version(spark, warehouse, table) for table in ALL_TABLES}
    return {name: version for name, version in found.items() if version is not None}


@dataclass(frozen=True)
class Span:
    """The days a record covers, and the versions it names."""

    run_id: str
    first: date
    last: date
    output_versions: dict[str, int]


def recorded_spans(spark: SparkSession, warehouse: str, job: str, status: str) -> list[Span]:
    """The job's records of that status, oldest first. A few rows a night: small enough for the driver."""
    rows = runs_table(spark, warehouse).where((F.col("job") == job) & (F.col("status") == status)).orderBy("ended", "run_id").collect()
    return [Span(r["run_id"], r["from_date"], r["date"], dict(r["output_versions"])) for r in rows]


def publications(spark: SparkSession, warehouse: str) -> list[Span]:
    """What is published, oldest publication first."""
    return recorded_spans(spark, warehouse, PUBLISHER, "published")


def first_hole(covered: Sequence[Span], first: date, last: date) -> date | None:
    """The first day of first..last that nothing covers."""
    day = first
    while day <= last:
        reach = [span.last for span in covered if span.first <= day <= span.last]
        if not reach:
            return day
        day = max(reach) + timedelta(days=1)
    return None


def require_done(spark: SparkSession, warehouse: str, jobs: Sequence[str], first: date, last: date) -> None:
    """Stops, with names, where a job has no record of having done one of the days."""
    for job in jobs:
        hole = first_hole(recorded_spans(spark, warehouse, job, "done"), first, last)
        if hole is not None:
            raise JobError(f"{job} has not done {hole}; run it first")


def refuse_holes(published: Sequence[Span], first: date, last: date, bootstrap: bool, first_day: date | None) -> None:
    """Days fold onto a history without holes: stops, with the missing day's name, where first..last would leave one."""
    if not published:
        if bootstrap or first_day == first:
            return
        raise JobError(
            f"nothing before {first} is published in this warehouse; begin its history with --bootstrap, fold.first_day or a backfill"
        )
    begin, end = min(p.first for p in published), max(p.last for p in published)
    if first > end:
        hole = first_hole(published, end + timedelta(days=1), first - timedelta(days=1))
    elif last < begin:
        hole = first_hole(published, last + timedelta(days=1), begin - timedelta(days=1))
    else:
        hole = None
    if hole is not None:
        raise JobError(f"{hole} is not published; run that day first (or backfill from it), so that {first} folds onto a whole history")


def _span(first: date, last: date) -> str:
    return str(last) if first == last else f"{first}..{last}"
