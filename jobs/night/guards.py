"""May this day be begun? Rules over the days' states."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from jobs.fold.days import JOB as FOLD
from jobs.ingest.days import JOB as INGEST
from jobs.io.history import DONE, PUBLISHED, PUBLISHER, STARTED, UNDONE, Record, first_hole, standing
from jobs.io.logs import days_between
from jobs.io.messages import JobError
from schemas import profile_states
from schemas.settings import Settings

# What an ingest writes that readers of profiles must find folded.
INGESTED = {"behavior_events", "items"}
MAINTENANCE = "maintain_tables"
ONE_DAY, NEVER = timedelta(days=1), datetime.min.replace(tzinfo=UTC)


class LooseEnd(NamedTuple):
    """Days, the first and the last of them, that readers would be shown half done, and what to tell of them."""

    first: date
    last: date
    told: str
    then: str
    by_rebuild: bool = False


def unfinished_ingests(ordered: Sequence[Record]) -> list[Record]:
    """The ingests that may have changed events or items and that no publication of their days followed; the oldest days first."""
    # Of each attempt what it ended with; one that was killed, or is at work, has only begun.
    begun = {(r.run_id, r.attempt): r for r in ordered if r.job == INGEST}
    changed = [r for r in begun.values() if r.status == STARTED or r.output_versions.keys() & INGESTED]
    # The oldest publications come first, so that the newest of a day stays.
    newest = {day: p.ended for p in standing(ordered) if p.ended for day in days_between(p.first, p.last)}
    unfinished = [
        r
        for r in changed
        if any(newest.get(day, NEVER) <= r.started for day in days_between(r.first, r.last))
    ]
    return sorted(unfinished, key=lambda r: r.first)


def loose_ends(ordered: Sequence[Record], first: date, last: date, whole_from: date) -> Iterator[LooseEnd]:
    """What the publication of first..last would show of other days that were folded, taken back or ingested, and not published since.

    The events of a log day may be late and lie a window before it; a night's fold compares events from a window before the night on. So
    all events are compared of the log days from the night's own on, `whole_from`, and of any day before it some may not be.
    """
    published, own = (
        standing(ordered),
        Record("", PUBLISHER, 1, PUBLISHED, first, last, datetime.now(UTC), None, {}, {}),
    )
    ingesting = {r.run_id for r in ordered if r.job == INGEST}
    for r in ordered:
        if r.job == FOLD and r.last > last:
            since, told, then = (
                published,
                "was folded and is not published, and its states would show",
                ", which publishes both",
            )
        elif r.status == UNDONE and r.ended:
            since = [p for p in published if p.ended and p.ended > r.ended]
            told, then = "was taken back and not run since, and its rows would show", " first"
        else:
            continue
        if first_hole([*since, own], r.first, r.last):
            by_rebuild = r.status == UNDONE and r.first < r.last and r.run_id not in ingesting
            yield LooseEnd(first_hole(since, r.first, r.last) or r.first, r.last, told, then, by_rebuild)
    yield from ingested_ends(ordered, whole_from)


def ingested_ends(ordered: Sequence[Record], until: date) -> Iterator[LooseEnd]:
    """The ingests of days before `until` that were not finished; a step of a range is finished by the range."""
    for r in unfinished_ingests(ordered):
        if r.first < until:
            around = [o for o in ordered if o.run_id == r.run_id and o.first <= r.first and r.last <= o.last]
            whole = max(around, key=lambda o: o.last - o.first)
            yield LooseEnd(whole.first, whole.last, "was ingested and not finished since", " first")


def way_out(ordered: Sequence[Record], end: LooseEnd) -> str:
    """What to run so that the days are published: all of them that are in each other's way, so that it is not refused in its turn."""
    published = standing(ordered)
    begin, newest = (
        min((p.first for p in published), default=end.first),
        max((p.last for p in published), default=end.last),
    )
    if end.by_rebuild and not any(loose_ends(ordered, begin, newest, newest)):
        return "backfill_profiles --rebuild"
    # Up to the history: a hole would be refused.
    first, last = min(end.first, newest + ONE_DAY), max(end.last, begin - ONE_DAY)
    for other in loose_ends(ordered, first, last, first):
        first, last = min(first, other.first), max(last, other.last)
    return "that day" if first == last else f"backfill_profiles --start {first} --end {last}"


def refuse_unfinished(
    ordered: Sequence[Record], first: date, last: date, whole_from: date | None = None
) -> None:
    """Stops, with names and what to run, where the publication of first..last would show readers other days half done."""
    refuse_first(ordered, loose_ends(ordered, first, last, whole_from or first))


def refuse_begun(ordered: Sequence[Record], day: date) -> None:
    """The same before the day's ingest alone: later days may be ingested ahead, and published ones one after the other."""
    shown = [p.last for p in standing(ordered)]
    refuse_first(
        ordered,
        loose_ends(ordered, day, day, max(shown) + ONE_DAY if shown and day > max(shown) else date.min),
    )


def refuse_first(ordered: Sequence[Record], ends: Iterator[LooseEnd]) -> None:
    """Stops with the first of the loose ends, if there is one, and with what to run."""
    end = next(ends, None)
    if end is not None:
        days = str(end.last) if end.first == end.last else f"the range {end.first}..{end.last}"
        raise JobError(f"{days} {end.told}; run {way_out(ordered, end)}{end.then}")


# ---- pure


def thin_before(day: date, settings: Settings) -> date:
    """The first day whose states are all kept: the nights up to `day`, run again, look no further back for what they repair."""
    return day - timedelta(days=settings.fold.window_days + settings.maintenance.thin_after_days)


def runnable_from(day: date, settings: Settings) -> date:
    """The first day that can be run again after states were thinned out as of `day`: its night compares a window before it."""
    return thin_before(day, settings) + timedelta(days=settings.fold.window_days)


def refuse_thinned(ordered: Sequence[Record], settings: Settings, first: date) -> None:
    """Stops before published days are ingested whose states were thinned out: they could not be folded, and so not be finished."""
    thinned = [
        r.last
        for r in ordered
        if r.job == MAINTENANCE and r.status == DONE and profile_states.TABLE.name in r.output_versions
    ]
    kept = runnable_from(max(thinned), settings) if thinned else first
    if first < kept and first_hole(standing(ordered), first, first) is None:
        raise JobError(
            f"{first} can't be run again: maintain_tables has thinned out states that its fold would have to compare; "
            f"run days from {kept} on, or backfill into a new warehouse"
        )
