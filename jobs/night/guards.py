"""May these days be run, and may they be published? Rules over the days' states.

A day is `ingested` from its ingest on, `folded` from its fold on, `published` once a publication covers it,
and `undone` once that was rolled back. A publication shows readers the tables as they are, and so every day
that others left unfinished: the rules (`is_shown`) name the unfinished days that it would show, and what to
run for them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from jobs.io.days import Days
from jobs.io.history import ONE_DAY, PUBLISHER, Record, first_hole, history_of, standing
from jobs.io.messages import JobError
from schemas import behavior_events, profile_states
from schemas.pipeline_runs import PUBLISHED, STARTED, UNDONE
from schemas.settings import Settings

INGESTED, FOLDED = "ingested", "folded"
INGEST, FOLD = behavior_events.TABLE.written_by, profile_states.TABLE.written_by
# Tables of an ingest whose changes must be folded before readers see them.
READ_BY_FOLD = {"behavior_events", "items"}
MAINTENANCE = "maintain_tables"
ERASURE = "erase_users"
# Before the first record.
NEVER = -1


@dataclass(frozen=True)
class UnfinishedDays:
    """Days in a state that a publication must settle.

    days: what to run, and what messages name; of_record: the days of the record itself; since: the number of
    the record with which its job started, or by which they were rolled back; settled_by: publications that
    settle some of them already; by_rebuild: whether a rebuild left them.
    """

    state: str
    days: Days
    of_record: Days
    since: int
    settled_by: tuple[Record, ...] = ()
    by_rebuild: bool = False


# ---- the states


def unfinished_days(ordered: Sequence[Record]) -> Iterator[UnfinishedDays]:
    """All unfinished days.

    Folded or undone ones in the order of their records, then ingested ones by their day.
    """
    published = standing(ordered)
    shown = {day for p in published for day in p.days}
    ingesting = {r.run_id for r in ordered if r.job == INGEST}
    began = starts(ordered)
    for r in ordered:
        if r.job == FOLD:
            state, since, settled = FOLDED, began[r.job, r.key], published
        elif r.status == UNDONE:
            state, since = UNDONE, r.sequence
            settled = [p for p in published if p.sequence > r.sequence]
        else:
            continue
        # A set, since a long history has a fold record for each of its days.
        covered = shown if r.job == FOLD else {day for p in settled for day in p.days}
        hole = next((day for day in r.days if day not in covered), None)
        if hole is not None:
            by_rebuild = state == UNDONE and len(r.days) > 1 and r.run_id not in ingesting
            yield UnfinishedDays(state, Days(hole, r.days.last), r.days, since, tuple(settled), by_rebuild)
    yield from ingested_days(ordered)


def ingested_days(ordered: Sequence[Record]) -> Iterator[UnfinishedDays]:
    """Days whose ingest no publication followed; a step of a range is finished by the range."""
    began = starts(ordered)
    for r in unfinished_ingests(ordered):
        around = [o.days for o in ordered if o.run_id == r.run_id and o.days.covers(r.days)]
        yield UnfinishedDays(INGESTED, max(around, key=len), r.days, began[r.job, r.key])


def starts(ordered: Sequence[Record]) -> dict[tuple[str, tuple[str, int]], int]:
    """The number of each attempt's first record, by job and key."""
    # The oldest records come last, and so stay.
    return {(r.job, r.key): r.sequence for r in reversed(ordered)}


def unfinished_ingests(ordered: Sequence[Record]) -> list[Record]:
    """Ingests that may have changed events or items and that no publication followed, by their day."""
    # Of each attempt its last record; one that was killed, or is running, has only started.
    last = {r.key: r for r in ordered if r.job == INGEST}
    changed = [r for r in last.values() if r.status == STARTED or r.output_versions.keys() & READ_BY_FOLD]
    # The oldest publications come first, so that the newest of a day stays.
    newest = {day: p.sequence for p in standing(ordered) for day in p.days}
    began = starts(ordered)
    unfinished = [r for r in changed if any(newest.get(day, NEVER) <= began[r.job, r.key] for day in r.days)]
    return sorted(unfinished, key=lambda r: r.days.first)


def day_states(ordered: Sequence[Record]) -> dict[date, str]:
    """The state of every day that was ever ingested, folded or published, in order."""
    states = {day: PUBLISHED for p in standing(ordered) for day in p.days}
    for found in sorted(unfinished_days(ordered), key=lambda found: found.since):
        settled = {day for p in found.settled_by for day in p.days}
        states |= {day: found.state for day in found.of_record if day not in settled}
    return dict(sorted(states.items()))


# ---- the rules


def is_shown(found: UnfinishedDays, own: Days, compared_from: date) -> bool:
    """Whether a publication of the days `own` would show readers these unfinished days.

    The events of a log day may be late and lie a window before it, and a night's fold compares events from a
    window before the night on. So the fold has seen all events of log days from compared_from on, and of any
    day before it some may be unseen.
    """
    if found.state == INGESTED:
        return found.of_record.first < compared_from
    if found.state == FOLDED and found.of_record.last <= own.last:
        return False
    return first_hole([*found.settled_by, _publication_of(own)], found.of_record) is not None


def _publication_of(days: Days) -> Record:
    return Record("", PUBLISHER, 1, PUBLISHED, days, NEVER, datetime.min.replace(tzinfo=UTC), {}, {}, {})


def shown_days(ordered: Sequence[Record], own: Days, compared_from: date) -> Iterator[UnfinishedDays]:
    """The unfinished days that a publication of the days `own` would show."""
    return (found for found in unfinished_days(ordered) if is_shown(found, own, compared_from))


def refuse_unfinished(ordered: Sequence[Record], own: Days, compared_from: date | None = None) -> None:
    """Raises JobError where a publication of the days would show readers other days unfinished.

    compared_from: the first log day of which the fold compares every event, by default the first of the days.
    """
    _refuse_first(ordered, shown_days(ordered, own, compared_from or own.first))


def refuse_ingest(ordered: Sequence[Record], day: date) -> None:
    """Raises JobError where the night that this ingest begins could not be published.

    Later days may be ingested ahead, and published days again one after the other.
    """
    history = history_of(standing(ordered))
    is_ahead = history is not None and day > history.last
    compared_from = history.last + ONE_DAY if history is not None and is_ahead else date.min
    _refuse_first(ordered, shown_days(ordered, Days.only(day), compared_from))


def refuse_maintenance(ordered: Sequence[Record], day: date, settings: Settings) -> None:
    """Raises JobError where thinning as of the day would leave an ingested day that can't be finished."""
    until = runnable_from(day, settings)
    _refuse_first(ordered, (found for found in ingested_days(ordered) if found.of_record.first < until))


def refuse_thinned(ordered: Sequence[Record], settings: Settings, first: date) -> None:
    """Raises JobError before a published day is ingested whose states were thinned out.

    Its fold could not finish.
    """
    # Of each attempt its last record: one that failed or was killed may have thinned before it ended.
    last = {r.key: r for r in ordered if r.job == MAINTENANCE}.values()
    states = profile_states.TABLE.name
    thinned = [r.days.last for r in last if r.status == STARTED or states in r.output_versions]
    kept = runnable_from(max(thinned), settings) if thinned else first
    if first < kept and first_hole(standing(ordered), Days.only(first)) is None:
        raise JobError(
            f"{first} can't be run again: maintain_tables has thinned out states that its fold would have to "
            f"compare; run days from {kept} on, or backfill into a new warehouse"
        )


def thin_before(day: date, settings: Settings) -> date:
    """The first day whose states are all kept: reruns of nights up to `day` look no further back."""
    return day - timedelta(days=settings.fold.window_days + settings.maintenance.thin_after_days)


def runnable_from(day: date, settings: Settings) -> date:
    """The first day that can be rerun after thinning as of `day`: its night compares a window before it."""
    return thin_before(day, settings) + timedelta(days=settings.fold.window_days)


# ---- the message


def _refuse_first(ordered: Sequence[Record], found: Iterable[UnfinishedDays]) -> None:
    first = next(iter(found), None)
    if first is not None:
        raise JobError(_refusal(first, recovery_command(ordered, first)))


def _refusal(found: UnfinishedDays, command: str) -> str:
    """The refusal in one sentence with the command to run."""
    days = str(found.days) if len(found.days) == 1 else f"the range {found.days}"
    if found.state == FOLDED:
        return (
            f"{days} was folded and is not published, and its states would show; "
            f"run {command}, which publishes both"
        )
    if found.state == UNDONE:
        return f"{days} was rolled back and not run since, and its rows would show; run {command} first"
    return f"{days} was ingested and not finished since; run {command} first"


def recovery_command(ordered: Sequence[Record], found: UnfinishedDays) -> str:
    """The command that publishes the unfinished days, with all others that would make it refuse."""
    history = history_of(standing(ordered)) or found.days
    if found.by_rebuild and not any(shown_days(ordered, history, history.last)):
        return "backfill_profiles --rebuild"
    # Up to the history: a gap would be refused.
    first, last = min(found.days.first, history.last + ONE_DAY), max(found.days.last, history.first - ONE_DAY)
    for other in list(shown_days(ordered, Days(first, last), first)):
        first, last = min(first, other.days.first), max(last, other.days.last)
    return "that day" if first == last else f"backfill_profiles --start {first} --end {last}"
