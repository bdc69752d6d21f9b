"""Folds long ranges in chunks that commit, and rebuilds facets whose settings changed."""

import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.fold.days import JOB, fold_days
from jobs.fold.meaning import FoldMeaning
from jobs.fold.note import FoldNote
from jobs.fold.tables import sound_profiles
from jobs.io.days import Days
from jobs.io.messages import progress, say
from jobs.io.runs import Run
from jobs.io.session import release_checkpoints
from jobs.io.storage import remove_folder
from jobs.io.warehouse import Warehouse, Writer
from schemas import behavior_events, profile_states, user_profiles
from schemas.pipeline_runs import EVENT_FATES
from schemas.settings import Settings

# Events of a chunk of a range: what a stopped backfill may have to fold again.
CHUNK_EVENTS = 20_000_000
# Folder of a rebuild in the warehouse.
SHADOW = "_rebuild"


def fold_range(run: Run, settings: Settings, days: Days, **where: Any) -> None:
    """Folds a range of days in chunks that each commit.

    Rerun after a stop, it compares the finished ones and goes on.

    In one chunk where later days exist: users are replayed to the end, which must not happen once for each
    chunk. where: as in fold_days.
    """
    into = where.get("into") or run.writer
    newest = into.warehouse.read(user_profiles.TABLE).agg(F.max("as_of_date")).collect()[0][0]
    events = run.warehouse.read(behavior_events.TABLE).where(days.sql("event_date"))
    counts = {row[0]: row[1] for row in events.groupBy("event_date").count().collect()}
    is_last = newest is None or newest <= days.last
    began, chunks = time.monotonic(), day_chunks(days, counts) if is_last else [days]
    for chunk in chunks:
        with release_checkpoints(run.spark):
            fold_days(run, settings, chunk, **where)
        if len(chunks) > 1:
            folded = sum(count for day, count in counts.items() if day <= chunk.last)
            done = len(Days(days.first, chunk.last))
            say(f"{JOB}: {progress(done, len(days), folded, time.monotonic() - began)}")


def day_chunks(days: Days, counts: Mapping[date, int]) -> list[Days]:
    """The days in spans of at most CHUNK_EVENTS events, or of one day. counts: events by day."""
    spans, size = [Days.only(days.first)], counts.get(days.first, 0)
    for day in list(days)[1:]:
        size += counts.get(day, 0)
        if size > CHUNK_EVENTS:
            spans.append(Days.only(day))
            size = counts.get(day, 0)
        spans[-1] = Days(spans[-1].first, day)
    return spans


def rebuild_days(run: Run, settings: Settings, days: Days) -> None:
    """Folds the facets whose meaning changed in a shadow folder and swaps them in, one commit a table.

    Rerun after a stop, it goes on with what the shadow holds; once profile_states is swapped, the rest is as
    after a killed fold. Then the days are counted, and the last day's window is compared as on any night; the
    states of older days may have been thinned out.
    """
    states = run.warehouse.read(profile_states.TABLE)
    meaning = FoldMeaning.of(settings)
    wanted, dropped = stale_facets(run.warehouse, meaning, sound_profiles(run.writer, states))
    if wanted or dropped:
        run.fold_hash = meaning.fold_hash
        shadow = run.writer.folder(f"{SHADOW}/{run.fold_hash}")
        fold_range(run, settings, days, into=shadow, facets=wanted)
        with run.phase("swap"):
            swap_facets(run.writer, shadow.warehouse, [*wanted, *dropped], meaning)
        # The window's comparison below counts all days once more.
        for fate in ("stored", *EVENT_FATES):
            run.counts.pop(fate, None)
    window_start = days.last - timedelta(days=settings.fold.window_days)
    fold_range(run, settings, days, compared_from=window_start)
    remove_folder(run.spark, f"{run.warehouse.uri}/{SHADOW}")


def swap_facets(writer: Writer, shadow: Warehouse, facets: Sequence[str], meaning: FoldMeaning) -> None:
    """Replaces the facets' rows by the shadow's."""
    replaced = f"facet IN ({', '.join(repr(facet) for facet in facets)})"
    note = FoldNote(facet_hashes=meaning.facet_hashes)
    for table in (profile_states.TABLE, user_profiles.TABLE):
        with writer.noting({}, content=note.to_json()):
            writer.replace(table, shadow.read(table), replaced)
        note = note.beside_states(writer.warehouse.same_since(profile_states.TABLE))
    if FoldNote.of(writer.warehouse, user_profiles.TABLE).facet_hashes != note.facet_hashes:
        # Replacing no rows by no rows makes no commit; the facets' new meaning is noted all the same.
        with writer.noting({}, content=note.to_json()):
            writer.declare(user_profiles.TABLE, writer.warehouse.properties(user_profiles.TABLE))


def stale_facets(
    warehouse: Warehouse, meaning: FoldMeaning, profiles: DataFrame
) -> tuple[list[str], list[str]]:
    """Facets to fold again under these settings, and folded ones that are not in the settings any more."""
    hashes = meaning.facet_hashes
    there = {(row[0], row[1]) for row in profiles.select("facet", "fold_hash").distinct().collect()}
    # A facet without rows is new, or no event ever entered it: then the last commit's note knows it.
    known = FoldNote.of(warehouse, user_profiles.TABLE).facet_hashes or {}
    found = {facet: {h for f, h in there if f == facet} or {known.get(facet)} for facet in hashes}
    sound = {facet for facet, own in hashes.items() if found[facet] == {own}}
    names = {facet for facet, _ in there} | set(known)
    return sorted(hashes.keys() - sound), sorted(names - hashes.keys())
