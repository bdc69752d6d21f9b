"""The story of every job; its published rows say what readers see."""

from pyspark.sql.types import MapType

from schemas.table import COUNTS, DATE, DOUBLE, INT, STRING, TIMESTAMP, Check, Column, Rule, Table

FATES = "counts['folded'] + counts['zero_weight'] + counts['retract'] + counts['retracted'] + counts['without_vector']"


def _surplus(rows: str, day: str, job: str, counted: str) -> str:
    """How many more rows lie on the days of the job's newest record that is done than it counted; declared text alone goes in."""
    done = f"job = '{job}' AND status = 'done'"
    days = f"(SELECT max_by(from_date, ended) AS first, max_by(date, ended) AS last FROM pipeline_runs WHERE {done}) r"  # noqa: S608
    there = f"(SELECT count(*) FROM {rows} JOIN {days} ON {day} BETWEEN r.first AND r.last)"  # noqa: S608
    return f"{there} - (max_by({counted}, ended) FILTER (WHERE {done}))"


TABLE = Table(
    name="pipeline_runs",
    comment="Every job's story, append only. A published row names the version of every table of that night.",
    key=("run_id", "job", "attempt", "status"),
    written_by=None,
    reach="from_date",
    reach_days=1,
    append_only=True,
    columns=(
        Column("run_id", STRING, "names one run of one or more jobs"),
        Column("job", STRING, "the job"),
        Column("attempt", INT, "how often this job was begun under this run_id, from 1"),
        Column("status", STRING, "started, done, failed, published or undone"),
        Column("date", DATE, "the log day, or the last of a range"),
        Column("from_date", DATE, "first day of a range; equal to date for one day"),
        Column("started", TIMESTAMP, "when the job began, UTC"),
        Column("ended", TIMESTAMP, "when it ended, UTC", nullable=True),
        Column("input_versions", COUNTS, "Delta version of each table read"),
        Column(
            "output_versions",
            COUNTS,
            "Delta version of each table written or, in a published row, made visible",
        ),
        Column("counts", COUNTS, "rows, by what became of them"),
        Column("seconds", MapType(STRING, DOUBLE), "seconds by phase"),
        Column("code_version", STRING, "version of the code"),
        Column("fold_hash", STRING, "hash of what gives the fold its meaning", nullable=True),
        Column("config_hash", STRING, "hash of all settings"),
        Column("message", STRING, "one sentence, on failure why", nullable=True),
    ),
    checks=(Check("status_known", "status IN ('started', 'done', 'failed', 'published', 'undone')"),),
    # Nothing is lost or doubled: what the newest ingest and fold counted is in the tables, and every stored event has one fate.
    rules=(
        Rule(
            "stored_events_are_there",
            _surplus("behavior_events e", "e.log_date", "ingest_events", "counts['stored']"),
        ),
        Rule(
            "quarantined_are_there",
            _surplus("quarantined_events q", "q.log_date", "ingest_events", "counts['quarantined']"),
        ),
        Rule("events_have_one_fate", _surplus("behavior_events e", "e.event_date", "fold_profiles", FATES)),
    ),
)
