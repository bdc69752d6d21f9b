"""Publishes a night, or rolls its publication back.

One row in pipeline_runs that names the version of every table.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from jobs.io.days import Days
from jobs.io.disk import sync_tables
from jobs.io.erased import refuse_unfinished_erasure
from jobs.io.history import ONE_DAY, PUBLISHER, Record, first_hole, history_of, standing
from jobs.io.messages import JobError, say
from jobs.io.runs import Run, RunLog, RunSpec, recorded
from jobs.io.warehouse import Writer, open_writer
from jobs.night.guards import ERASURE, refuse_unfinished
from schemas import check_results, pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.pipeline_runs import DONE, FAILED, PUBLISHED, UNDONE

JOB = PUBLISHER
# Tables that the check itself writes, or that are written during it.
NOT_CHECKED = (check_results.TABLE.name, pipeline_runs.TABLE.name)


class Publication(NamedTuple):
    """What is published.

    spec: names the run and its days; chain: the jobs that must have done them, the check last; compared_from:
    the first log day of which the fold has compared every event, None: the first of the days.
    """

    spec: RunSpec
    chain: Sequence[str]
    compared_from: date | None = None


def publish(log: RunLog, writer: Writer, publication: Publication) -> None:
    """Makes the checked versions of all tables the published ones, for the publication's days."""
    refuse_unfinished_erasure(log.warehouse)
    ordered, days = log.records(), publication.spec.days
    versions = checked_versions(ordered, publication.chain, log.warehouse.versions(), days)
    refuse_unfinished(ordered, days, publication.compared_from)
    show(log, writer, publication.spec, versions)


def show(log: RunLog, writer: Writer, spec: RunSpec, versions: Mapping[str, int] | None = None) -> None:
    """Records the versions of all tables that readers see from now on, once their files are on the disk.

    versions: by default the current ones.
    """
    shown = log.publications()
    with recorded(log, spec, PUBLISHED, writer=writer) as run:
        run.output_versions = run.input_versions if versions is None else dict(versions)
        with run.phase("sync"):
            since = shown[-1].output_versions if shown else {}
            sync_tables(log.warehouse.uri, run.output_versions, since)


def refuse_erasure(ordered: Sequence[Record]) -> None:
    """Raises JobError where the publication of an erasure would show readers unfinished days."""
    if history := history_of(standing(ordered)):
        refuse_unfinished(ordered, history, history.last + ONE_DAY)


def publish_erasure(erasure: Run) -> None:
    """Makes the tables without the erased users what readers see, for all published days.

    No check before it: rows only went, and the versions before will be gone.
    """
    if history := history_of(erasure.log.publications()):
        show(erasure.log, erasure.writer, erasure.spec.renamed(JOB, history))


def checked_versions(
    ordered: Sequence[Record], chain: Sequence[str], now: Mapping[str, int], days: Days
) -> dict[str, int]:
    """The versions to publish: of all tables those that the check of the days has read.

    What other jobs wrote since, such as a training, waits for the next night, but readers never go back
    behind the newest publication, as an erasure may have made one. Raises JobError where a job of the chain
    has not done a day, or its tables changed since the check. now: the current versions of all tables.
    """
    newest = {}
    for job in chain:
        ended = [r for r in ordered if r.job == job and r.status in (DONE, FAILED)]
        hole = first_hole([r for r in ended if r.status == DONE], days)
        if hole is not None:
            raise JobError(f"{job} has not done {hole}; run it first")
        newest[job] = next(r for r in reversed(ended) if days.last in r.days)
        if newest[job].status == FAILED:
            raise JobError(f"{job} failed on {days.last} the last time; run it again first")
    checked = newest[chain[-1]].input_versions
    of_night = {table.name for table in ALL_TABLES if table.written_by in chain} - {*NOT_CHECKED}
    changed = sorted(n for n, v in now.items() if n in of_night and checked.get(n) != v)
    if changed:
        raise JobError(
            f"{', '.join(changed)} changed after the tables were checked for {days.last}; "
            "run check_tables first"
        )
    shown = standing(ordered)
    before = shown[-1].output_versions if shown else {}
    # Commits that were lost and made good may be fewer than before.
    others = {
        n: min(now[n], max(checked.get(n, -1), before.get(n, -1)))
        for n in now.keys() - of_night - {*NOT_CHECKED}
    }
    own = {n: v for n, v in now.items() if n in of_night or n == check_results.TABLE.name}
    return own | {n: v for n, v in others.items() if v >= 0}


def undo(log: RunLog, config_hash: str, day: date) -> None:
    """Rolls the newest publication back, which must be the day's.

    The row names the versions that readers see now.
    """
    with open_writer(log.warehouse, f"{JOB} --undo {day}", any_schema=True) as writer:
        # What is rolled back must not return with the publication that finishes the erasure.
        refuse_unfinished_erasure(log.warehouse)
        published = log.publications()
        if not published or published[-1].days.last != day:
            reason = "nothing is published"
            if published:
                newest = published[-1].days.last
                reason = f"the newest publication is that of {newest}; undo that one first"
            raise JobError(f"{day} can't be undone: {reason}")
        gone, rest = published[-1], published[:-1]
        if any(r.job == ERASURE and r.run_id == gone.run_id for r in log.records()):
            raise JobError(
                f"{day} can't be undone: users were erased since, and the tables as they were before are gone"
            )
        run = Run(log, writer, RunSpec(JOB, gone.run_id, gone.days, config_hash), attempt=gone.attempt)
        run.output_versions = rest[-1].output_versions if rest else {}
        log.write(writer, run.row(UNDONE))
    shown = f"the night of {rest[-1].days.last}" if rest else "nothing"
    say(f"{JOB}: {day} is undone; readers see {shown}")
