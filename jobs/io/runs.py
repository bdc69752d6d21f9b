"""Run records: every job writes to pipeline_runs when it starts and how it ended."""

import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from jobs.io import faults
from jobs.io.days import Days
from jobs.io.disk import sync_tables
from jobs.io.failures import failure_sentence
from jobs.io.history import Record, in_order, record_of, standing
from jobs.io.messages import LONGEST, count_list, one_sentence, say
from jobs.io.session import fit_to_size, release_checkpoints
from jobs.io.warehouse import Warehouse, Writer, open_writer
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.pipeline_runs import DONE, FAILED, STARTED
from schemas.settings import CODE_VERSION

# Days before a night whose events it reads too, by default: the repair window and a day.
NEAR_DAYS = 8
_COLUMNS = ["run_id", "job", "attempt", "status", "sequence", "from_date", "date", "started", "ended"]
_COLUMNS += ["input_versions", "output_versions", "output_commits"]
# A clock this far behind the newest record is told: machines that keep their time differ by far less.
CLOCK_BEHIND = timedelta(minutes=5)


class RunLog:
    """pipeline_runs of an open warehouse, with what was read of it and what is about to be written."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        # The records read so far, and the version of the table that holds them.
        self._cached: tuple[int, list[Record]] | None = None
        # Rows of an open composite job, written with the next row: a commit for each would be most of the
        # overhead.
        self._pending: list[dict[str, Any]] | None = None
        # The number of the last row, known since the records were read under the lease: only its holder
        # writes rows, so that no clock is needed to order them.
        self._last = 0
        # A `started` row is written during the job's first reads: a session's first commit takes seconds.
        self._thread = ThreadPoolExecutor(1, "run records")
        self._commit: Future[None] | None = None

    @property
    def has_open_composite(self) -> bool:
        """Whether a job of several steps is open: jobs recorded now are its steps."""
        return self._pending is not None

    def records(self) -> list[Record]:
        """All records in their order. A few rows a night fit on the driver."""
        self.flush()
        version = self.warehouse.version(pipeline_runs.TABLE)
        if version is None:
            self._cached = (-1, [])
        elif self._cached is None or self._cached[0] != version:
            rows = self.warehouse.read_version(pipeline_runs.TABLE, version).select(*_COLUMNS).collect()
            self._cached = (version, [record_of(row.asDict()) for row in rows])
        found = in_order([*self._cached[1], *map(record_of, self._pending or [])])
        self._last = found[-1].sequence if found else 0
        return found

    def publications(self) -> list[Record]:
        """The publications in force, oldest first."""
        return standing(self.records())

    def rows(self) -> DataFrame:
        """The table, with every row written so far."""
        self.flush()
        return self.warehouse.read(pipeline_runs.TABLE)

    def flush(self) -> None:
        """Waits until every row is in the table. Raises the error that kept one out."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            commit.result()

    def write(self, writer: Writer, row: Mapping[str, Any], defer: bool = False) -> None:
        """Appends a row and the pending ones before it; with `defer` it becomes a pending one itself.

        The records must have been read since the writer holds the lease.
        """
        self._last += 1
        numbered = dict(row) | {"sequence": self._last}
        if defer and self._pending is not None:
            self._pending.append(numbered)
            return
        self.flush()
        rows = [*(self._pending or []), numbered]
        # Here, and not in the thread: creating a table sets the session's commit note.
        writer.create(pipeline_runs.TABLE)
        if self._pending is not None:
            self._pending = []
        self._commit = self._thread.submit(self._append, writer, rows)
        if row["status"] != STARTED:
            self.flush()

    def _append(self, writer: Writer, rows: list[dict[str, Any]]) -> None:
        frame = self.warehouse.spark.createDataFrame(rows, pipeline_runs.TABLE.spark_schema()).coalesce(1)
        with faults.around(f"record.{rows[-1]['job']}.{rows[-1]['status']}"):
            writer.append(pipeline_runs.TABLE, frame)
        name, version = pipeline_runs.TABLE.name, self.warehouse.version(pipeline_runs.TABLE)
        assert version is not None
        sync_tables(self.warehouse.uri, {name: version}, since={name: version - 1})
        if self._cached is not None:
            version, known = self._cached
            self._cached = (version + 1, [*known, *map(record_of, rows)])

    @contextmanager
    def composite(self) -> Iterator[None]:
        """Inside, a job of several steps is open."""
        self._pending = []
        try:
            yield
        finally:
            self._pending = None


@dataclass(frozen=True)
class RunSpec:
    """What names a run before it starts: the job, the run it is part of, its days and its settings."""

    job: str
    run_id: str
    days: Days
    config_hash: str

    @classmethod
    def of(cls, args: Namespace, job: str, days: Days) -> "RunSpec":
        """By a job's arguments."""
        return cls(job, args.run_id or new_run_id(job, days.last), days, args.config.config_hash())

    def renamed(self, job: str, days: Days | None = None) -> "RunSpec":
        """The same run for one of its steps."""
        return replace(self, job=job, days=days or self.days)


def new_run_id(job: str, day: date) -> str:
    """A name for a run started now; a name that must be the same after a crash comes from the caller."""
    return f"{job}-{day}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"


@dataclass
class Run:
    """One attempt of a job, filled in while it works."""

    log: RunLog
    writer: Writer
    spec: RunSpec
    attempt: int = 1
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    fold_hash: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    input_versions: dict[str, int] = field(default_factory=dict)
    output_versions: dict[str, int] = field(default_factory=dict)
    output_commits: dict[str, str] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse that is written."""
        return self.writer.warehouse

    @property
    def spark(self) -> SparkSession:
        """The warehouse's session."""
        return self.writer.warehouse.spark

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of the job under its name."""
        began = time.monotonic()
        try:
            with faults.around(f"{self.spec.job}.{name}"):
                yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Adds to the counts: a range may be worked on in several parts."""
        self.counts |= {name: self.counts.get(name, 0) + count for name, count in counts.items()}

    def row(self, status: str, message: str | None = None) -> dict[str, Any]:
        """The run as a row of pipeline_runs, copied: it may be written while the job goes on."""
        return {
            "run_id": self.spec.run_id,
            "job": self.spec.job,
            "attempt": self.attempt,
            "status": status,
            "date": self.spec.days.last,
            "from_date": self.spec.days.first,
            "started": self.started,
            "ended": None if status == STARTED else datetime.now(UTC),
            "input_versions": dict(self.input_versions),
            "output_versions": dict(self.output_versions),
            "output_commits": dict(self.output_commits),
            "counts": dict(self.counts),
            "seconds": dict(self.seconds),
            "code_version": CODE_VERSION,
            "fold_hash": self.fold_hash,
            "config_hash": self.spec.config_hash,
            "message": message,
        }


@contextmanager
def recorded(
    log: RunLog,
    spec: RunSpec,
    status: str = DONE,
    has_steps: bool = False,
    reads: Sequence[str] = (),
    writer: Writer | None = None,
) -> Iterator[Run]:
    """Takes the warehouse's lease, and records a run around the body.

    `started` is written before it (for a job that `has_steps` with its first step's), `status` after it, or
    `failed` with the reason. Commits inside carry the run's name.

    reads: folders outside the warehouse that the job reads; the session is fitted to their size and the
    tables'. writer: to be given where the caller holds the lease: a second one is refused.
    """
    owner = f"{spec.job} of {spec.days}"
    with nullcontext(writer) if writer else open_writer(log.warehouse, owner) as granted:
        run, is_step = _begin(log, granted, spec), log.has_open_composite
        if not is_step:
            tell_clock_behind(log.records(), run.started)
            fit_to_size(granted.warehouse.spark, [*reads, *_tables_read(granted.warehouse, spec.days)])
        with log.composite() if has_steps else nullcontext():
            log.write(granted, run.row(STARTED), defer=has_steps)
            with _outcome_recorded(run, status, is_step):
                yield run
        spent = time.monotonic() - run._began
        say(f"{spec.job} {spec.days}: {count_list(run.counts) or status} ({spent:.1f} s)")


@contextmanager
def step(parent: Run, job: str, days: Days | None = None) -> Iterator[Run]:
    """A step of a composite job, recorded under the same run."""
    with recorded(parent.log, parent.spec.renamed(job, days), writer=parent.writer) as run:
        yield run


def tell_clock_behind(ordered: Sequence[Record], now: datetime) -> None:
    """Says so where this machine's clock is behind the newest record; no order rests on either."""
    behind = ordered[-1].written - now if ordered else timedelta()
    if behind > CLOCK_BEHIND:
        say(
            f"the clock of this machine is {behind} behind that of the newest run record: "
            "one of the two is wrong; runs are ordered by their records, not by clocks"
        )


def _begin(log: RunLog, writer: Writer, spec: RunSpec) -> Run:
    attempts = [r.attempt for r in log.records() if (r.run_id, r.job) == (spec.run_id, spec.job)]
    run = Run(log, writer, spec, attempt=1 + max(attempts, default=0))
    versions = writer.warehouse.versions()
    run.input_versions = {n: v for n, v in versions.items() if n != pipeline_runs.TABLE.name}
    return run


@contextmanager
def _outcome_recorded(run: Run, status: str, is_step: bool) -> Iterator[None]:
    """Writes how the body ended, and the versions of the tables it changed."""
    spec = run.spec
    note = {"job": spec.job, "from_date": spec.days.first, "date": spec.days.last, "run_id": spec.run_id}
    note |= {"code_version": CODE_VERSION, "config_hash": spec.config_hash}
    try:
        with run.writer.noting(note), release_checkpoints(run.spark):
            yield
    except BaseException as error:
        try:
            run.log.flush()  # no row may be under way once the lease is released
            # If this fails, nobody knows what the job wrote: leave the run as `started`, like a killed one.
            _name_outputs(run, _changed(run))
            told = failure_sentence(error) or one_sentence(error)
            run.log.write(run.writer, run.row(FAILED, told[:LONGEST]))
        except Exception as unwritten:  # noqa: BLE001 - the body's own error is the one to report
            say(f"{spec.job}: its failure could not be recorded: {one_sentence(unwritten)}")
        raise
    _name_outputs(run, run.output_versions or _changed(run))
    with run.phase("sync"):
        # What a record says was written stays written.
        sync_tables(run.warehouse.uri, run.output_versions, run.input_versions)
    # A night's publication and its end are one commit: neither can be lost alone.
    run.log.write(run.writer, run.row(status), defer=is_step)


def _name_outputs(run: Run, versions: dict[str, int]) -> None:
    run.output_versions, run.output_commits = versions, run.warehouse.commits(versions)


def _changed(run: Run) -> dict[str, int]:
    """The tables the run changed, with their new versions."""
    after = run.warehouse.versions()
    return {
        n: v for n, v in after.items() if v != run.input_versions.get(n) and n != pipeline_runs.TABLE.name
    }


def _tables_read(warehouse: Warehouse, days: Days) -> list[str]:
    """Folders of the tables whose size makes a night large, or their partitions near the days."""
    near, folders = days.widened(before=NEAR_DAYS), []
    for table in ALL_TABLES:
        if table.sizes_night:
            path = warehouse.path(table)
            by_day = table.partition_by == ("log_date",)
            folders += [f"{path}/log_date={day}" for day in near] if by_day else [path]
    return folders
