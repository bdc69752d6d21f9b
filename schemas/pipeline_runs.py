"""Run records: what every job did. Published rows determine which table versions readers see."""

from typing import Final

from pyspark.sql.types import MapType

from schemas import behavior_events, erased_users, profile_states, quarantined_events
from schemas.table import (
    COUNTS,
    DATE,
    DOUBLE,
    INT,
    LONG,
    STRING,
    TEXT_MAP,
    TIMESTAMP,
    Check,
    Column,
    Rule,
    Table,
)

# A job writes a row when it starts and one when it ends; an undone row rolls a published one back.
STATUSES: Final = ("started", "done", "failed", "published", "undone")
STARTED, DONE, FAILED, PUBLISHED, UNDONE = STATUSES

# Fates of a stored event in the fold, exactly one per event; each is also a key of `counts`.
EVENT_FATES: Final = ("folded", "zero_weight", "retract", "retracted", "without_vector")


def _surplus(
    table: Table, day: str, job: str | None, counts: tuple[str, ...], only: str | None = None
) -> str:
    """SQL for the rows stored on the days of the job's newest finished run, minus what that run counted.

    `day` is the table's date column; only: of the rows to count. The SQL is built from declared names only.
    """
    done = f"job = '{job}' AND status = '{DONE}'"
    span = "max_by(from_date, sequence) AS first, max_by(date, sequence) AS last"
    days = f"SELECT {span} FROM pipeline_runs WHERE {done}"  # noqa: S608
    stored = f"SELECT count(*) FROM {table.name} JOIN ({days}) r ON {day} BETWEEN r.first AND r.last"  # noqa: S608
    if only is not None:
        stored += f" WHERE {only}"
    counted = " + ".join(f"counts['{name}']" for name in counts)
    surplus = f"({stored}) - (max_by({counted}, sequence) FILTER (WHERE {done}))"
    # Rows that an erasure took since were counted before: nothing to measure until the job's next run.
    erasure = f"job = '{erased_users.TABLE.written_by}'"
    is_older = f"max(sequence) FILTER (WHERE {erasure}) > max(sequence) FILTER (WHERE {done})"
    return f"if(coalesce({is_older}, FALSE), NULL, {surplus})"


TABLE = Table(
    name="pipeline_runs",
    comment="Run records of every job. A published row names the version of every table of that night.",
    key=("run_id", "job", "attempt", "status"),
    written_by=None,
    erasure="message",
    reach="from_date",
    reach_margin_days=1,
    append_only=True,
    columns=(
        Column("run_id", STRING, "run of one or more jobs; the steps of a night share it"),
        Column("job", STRING, "name of the job"),
        Column("attempt", INT, "number of this job's start under this run_id, from 1"),
        Column("status", STRING, ", ".join(STATUSES)),
        Column(
            "sequence",
            LONG,
            "place of the row among all of them, from 1: their order, whatever the clocks said",
        ),
        Column("date", DATE, "log day, or the last one of a range"),
        Column("from_date", DATE, "first day of a range; equal to date for one day"),
        Column("started", TIMESTAMP, "when the job began by its machine's clock, UTC"),
        Column(
            "ended",
            TIMESTAMP,
            "when the job ended by its machine's clock, UTC; null in a started row",
            nullable=True,
        ),
        Column("input_versions", COUNTS, "Delta version of each table read"),
        Column(
            "output_versions",
            COUNTS,
            "Delta version of each table written; in a published row, of each table made visible",
        ),
        Column(
            "output_commits",
            TEXT_MAP,
            "of each table in output_versions, a hash of the commit that made the version",
        ),
        Column("counts", COUNTS, "rows by fate, and other counts of the job"),
        Column("seconds", MapType(STRING, DOUBLE), "wall-clock seconds by phase"),
        Column("code_version", STRING, "version of the code"),
        Column("fold_hash", STRING, "hash of everything that determines the fold's results", nullable=True),
        Column("config_hash", STRING, "hash of all settings"),
        # Private, since it may name a file of the log: no erasure reaches the statistics in the table's log.
        Column("message", STRING, "reason of a failure, one sentence", nullable=True, private=True),
    ),
    checks=(Check("status_known", f"status IN ({', '.join(repr(status) for status in STATUSES)})"),),
    # Nothing is lost or duplicated: the tables hold the rows the newest ingest counted, and every event has
    # one fate in the newest fold.
    rules=(
        Rule(
            "stored_events_are_there",
            _surplus(behavior_events.TABLE, "log_date", behavior_events.TABLE.written_by, ("stored",)),
        ),
        Rule(
            "quarantined_are_there",
            _surplus(
                quarantined_events.TABLE,
                "log_date",
                quarantined_events.TABLE.written_by,
                ("quarantined",),
                # Rows of a catalogue are counted apart.
                only="NOT startswith(reason, 'item_')",
            ),
        ),
        Rule(
            "events_have_one_fate",
            _surplus(behavior_events.TABLE, "event_date", profile_states.TABLE.written_by, EVENT_FATES),
        ),
    ),
)
