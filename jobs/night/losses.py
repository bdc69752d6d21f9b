"""Which commits the run records name and the tables no longer have, and so which days must run again.

A power loss, a restored backup or a copy made while a job ran can take a table's newest commits away. Delta
then takes an older version for the current one, and a night on top of it would publish the hole. Each record
names the versions that its job made and a hash of their commits; a later version than any recorded is what a
killed job leaves, and no loss. Where the records themselves are gone, the notes of commits tell of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from pyspark.sql import functions as F

from jobs.embed.days import JOB as EMBED
from jobs.fold.days import JOB as FOLD
from jobs.ingest.days import JOB as INGEST
from jobs.io.days import Days
from jobs.io.history import PUBLISHER, Record, standing
from jobs.io.messages import JobError
from jobs.io.runs import RunLog
from jobs.night.checks import JOB as CHECK
from jobs.night.guards import ERASURE, INGESTED, UnfinishedDays, recovery_command
from jobs.night.steps import CHAIN
from jobs.recommend.lists import JOB as RECOMMEND
from schemas import behavior_events, pipeline_runs, ranking_models
from schemas.all_tables import ALL_TABLES
from schemas.pipeline_runs import DONE, PUBLISHED, STARTED, UNDONE
from schemas.table import Table

RUNS = pipeline_runs.TABLE
TABLES = [table for table in ALL_TABLES if table is not RUNS]
# From which step on a night, or a rebuild, does everything again.
FIRST_OF_NIGHT, FIRST_OF_REBUILD = INGEST, EMBED
TRAIN = ranking_models.TABLE.written_by or ""
# The order in which jobs heal what no night must write; others follow.
LATER = (ERASURE, TRAIN, RECOMMEND)


@dataclass(frozen=True)
class Loss:
    """What a table lost: the job that wrote it, its run, and its days."""

    table: str
    job: str
    run_id: str
    days: Days


# ---- pure


def lost_outputs(
    ordered: Sequence[Record], present: Mapping[str, int], commit: Callable[[str, int], str | None]
) -> Iterator[Loss]:
    """What records say was written, and is not there.

    present: the tables' current versions. commit: the hash of a version's commit, None where its file is
    gone: then a checkpoint stands in for it, and nobody can tell.
    """
    for table in TABLES:
        lost = []
        for record in reversed([r for r in ordered if names_newest(r, table.name)]):
            if is_there(record, table.name, present, commit):
                break
            lost.append(record)
        for record, job in writers(table, lost, ordered):
            if not is_done_again(record, table, ordered):
                yield Loss(table.name, job, record.run_id, record.days)


def names_newest(record: Record, name: str) -> bool:
    """Whether the version of the table that a record names was the newest one then.

    A rollback names older ones, and so may a publication, of tables that were written after their check.
    """
    if record.status == UNDONE or name not in record.output_versions:
        return False
    return record.status != PUBLISHED or record.output_versions[name] >= record.input_versions.get(name, -1)


def is_there(
    record: Record, name: str, present: Mapping[str, int], commit: Callable[[str, int], str | None]
) -> bool:
    """Whether the table still has the version that the record names."""
    version = record.output_versions[name]
    if version > present.get(name, -1):
        return False
    found = commit(name, version)
    return found in (None, record.output_commits.get(name, found))


def writers(table: Table, lost: Sequence[Record], ordered: Sequence[Record]) -> list[tuple[Record, str]]:
    """Of the lost records those of the jobs that wrote the versions, with the job to run again.

    A composite names what its steps wrote, and a publication what was there. Only where no job says that it
    wrote a version, as after a kill, the days of its publication are what is known.
    """
    own_job = table.written_by or ""
    of_nights = {r.run_id for r in ordered if r.job in (*CHAIN, PUBLISHER)}
    own = [(r, own_job) for r in lost if r.job == own_job]
    others = [(r, r.job) for r in lost if r.run_id not in of_nights]
    return own + others or [(r, own_job) for r in lost]


def is_done_again(record: Record, table: Table, ordered: Sequence[Record]) -> bool:
    """Whether the table's own job, on what was left of it, has found nothing to write for the days."""
    name, version = table.name, record.output_versions[table.name]
    return any(
        r.job == table.written_by
        and r.status == DONE
        and r.sequence > record.sequence
        and does_again(r.job, r.days, record.days)
        and r.input_versions.get(name, -1) < version
        for r in ordered
    )


def does_again(job: str, own: Days, days: Days) -> bool:
    """Whether a run of the job on its own days does what one of these days did.

    A list of a later day takes the place of earlier ones.
    """
    return own.last >= days.last if job == RECOMMEND else own.covers(days)


def unrecorded(
    ordered: Sequence[Record], present: Mapping[str, int], note: Callable[[Table], Mapping[str, Any]]
) -> Iterator[Loss]:
    """Runs that wrote tables and have no record: pipeline_runs has lost its newest commits.

    A job records its start before it writes. note: what the newest commit of a table says of its run.
    """
    known = {
        name: version for r in ordered if r.status != UNDONE for name, version in r.output_versions.items()
    }
    runs = {r.run_id for r in ordered}
    for table in TABLES:
        version = present.get(table.name, -1)
        if version <= known.get(table.name, -1):
            continue
        found = note(table)
        if "run_id" not in found or found["run_id"] in runs:
            continue
        days = Days(date.fromisoformat(found["from_date"]), date.fromisoformat(found["date"]))
        if not any(
            r.job == found["job"]
            and r.status == DONE
            and does_again(r.job, r.days, days)
            # It began on this version, and so saw what the run without a record wrote.
            and r.input_versions.get(table.name) == version
            for r in ordered
        ):
            yield Loss(RUNS.name, found["job"], found["run_id"], days)


def is_made_good(loss: Loss, job: str, own: Days) -> bool:
    """Whether a run that begins with the step `job`, or is the job, writes on its days what was lost."""
    if loss.job == RECOMMEND == job:
        return does_again(job, own, loss.days)
    if loss.job not in CHAIN or job not in CHAIN:
        return loss.job == job
    return CHAIN.index(job) <= CHAIN.index(loss.job) and own.covers(loss.days)


def first_to_heal(losses: Sequence[Loss]) -> list[Loss]:
    """The losses to be made good first, by one command; the others wait, and refuse no run that does it.

    The night's first, since later jobs have worked on its tables, with the lists that it makes again; then
    those of one job after the other.
    """
    if any(loss.job in CHAIN and loss.job != RECOMMEND for loss in losses):
        return [loss for loss in losses if loss.job in CHAIN]
    job = next(iter(sorted({loss.job for loss in losses}, key=_turn)), None)
    return [loss for loss in losses if loss.job == job]


def _turn(job: str) -> tuple[int, str]:
    """A job's turn after the night: users go again first, and lists wait for their model."""
    return (LATER.index(job) if job in LATER else len(LATER)), job


def refusal(losses: Sequence[Loss], ordered: Sequence[Record]) -> str:
    """The refusal in one sentence with the command to run."""
    named = first_to_heal(losses)
    tables = ", ".join(dict.fromkeys(loss.table for loss in named))
    days = Days(min(loss.days.first for loss in named), max(loss.days.last for loss in named))
    run = command(named, days, ordered)
    after = sorted({o.job for o in losses} - {o.job for o in named}, key=_turn)
    return (
        f"{tables}: what was written for {days} is gone or was replaced, since newest commits are missing; "
        f"run {run}{''.join(f', then {job} again' for job in after)} first"
    )


def command(named: Sequence[Loss], days: Days, ordered: Sequence[Record]) -> str:
    """The command that makes these losses good (first_to_heal)."""
    job = named[0].job
    if any(loss.job != RECOMMEND and loss.job in CHAIN for loss in named):
        return night_command(named, days, ordered)
    if job == RECOMMEND:
        # Of all users: nobody can tell any more whose lists they were.
        return f"{job} --date {days.last} --all"
    newest = named[0].days
    return f"{job} --start {newest.first} --end {newest.last}" if job == TRAIN else f"{job} again"


def night_command(losses: Sequence[Loss], days: Days, ordered: Sequence[Record]) -> str:
    """The command that writes the days again, with all others that would make it refuse."""
    ingesting = {r.run_id for r in ordered if r.job == INGEST}
    is_rebuild = len(days) > 1 and all(
        o.job in (FOLD, RECOMMEND, CHECK) and o.table != RUNS.name and o.run_id not in ingesting
        for o in losses
    )
    if is_rebuild:
        return recovery_command(ordered, UnfinishedDays(UNDONE, days, days, 0, by_rebuild=True))
    newest = ordered[-1].sequence + 1 if ordered else 0
    # As if the days' ingest had been killed: the range that is named covers them, and is not refused.
    mark = Record("", INGEST, 1, STARTED, days, newest, datetime.min.replace(tzinfo=UTC), {}, {}, {})
    command = recovery_command([*ordered, mark], UnfinishedDays(INGESTED, days, days, newest))
    return f"run_night --date {days.last}" if command == "that day" else command


# ---- the edges


def refuse_losses(log: RunLog, job: str, own: Days) -> list[Loss]:
    """Raises JobError where a run of these days that begins with `job` is not what heals next.

    Returns what was lost.
    """
    losses = find_losses(log)
    if not all(is_made_good(loss, job, own) for loss in first_to_heal(losses)):
        raise JobError(refusal(losses, log.records()))
    return losses


def find_losses(log: RunLog) -> list[Loss]:
    """What the tables lost, by the records and the notes of commits."""
    warehouse, ordered = log.warehouse, log.records()
    present = warehouse.versions()
    losses = [*lost_outputs(ordered, present, cache(warehouse.commit))]
    unknown = [*unrecorded(ordered, present, warehouse.note)]
    if unknown and not standing(ordered):
        # No history is left to begin from: it starts with the first day that is stored.
        first = warehouse.read(behavior_events.TABLE).agg(F.min("log_date")).collect()[0][0]
        unknown = [
            Loss(o.table, o.job, o.run_id, Days(min(first or o.days.first, o.days.first), o.days.last))
            for o in unknown
        ]
    return losses + unknown
