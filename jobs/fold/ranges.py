"""Folds long ranges of days in chunks that commit, and folds facets whose settings changed anew beside the tables."""

import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.fold.days import JOB, fold_days
from jobs.fold.marks import FATES
from jobs.fold.tables import sound_profiles
from jobs.io import delta
from jobs.io.messages import progress, say
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from jobs.io.session import letting_go
from jobs.io.storage import remove_folder
from schemas import behavior_events, profile_states, user_profiles
from schemas.settings import Settings

# Events of a chunk of a range: what a stopped backfill may have to fold again.
CHUNK_EVENTS = 20_000_000
# Folder of a rebuild, beside the tables.
SHADOW = "_rebuild"


def fold_range(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, first: date, last: date, **where: Any
) -> None:
    """Folds a range of days in chunks that each commit: stopped and begun again it compares the finished ones and goes on.

    All at once where days after the range are there: its users are replayed to the end, and must not be once for each chunk.
    """
    into = where.get("into") or warehouse
    newest = delta.read_table(spark, into, user_profiles.TABLE).agg(F.max("as_of_date")).collect()[0][0]
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(
        F.col("event_date").between(first, last)
    )
    counts = {row[0]: row[1] for row in events.groupBy("event_date").count().collect()}
    began, parts = (
        time.monotonic(),
        day_chunks(first, last, counts if newest is None or newest <= last else {}),
    )
    for days in parts:
        with letting_go(spark):
            fold_days(spark, warehouse, settings, run, days[0], days[-1], **where)
        if len(parts) > 1:
            done, whole = (days[-1] - first).days + 1, (last - first).days + 1
            folded = sum(count for day, count in counts.items() if day <= days[-1])
            say(f"{JOB}: {progress(done, whole, folded, time.monotonic() - began)}")


def day_chunks(first: date, last: date, counts: Mapping[date, int]) -> list[tuple[date, date]]:
    """The days first..last in spans with at most CHUNK_EVENTS events, or of one day."""
    spans, day, held = [(first, first)], first, counts.get(first, 0)
    while (day := day + timedelta(days=1)) <= last:
        held += counts.get(day, 0)
        if held > CHUNK_EVENTS:
            spans.append((day, day))
            held = counts.get(day, 0)
        spans[-1] = (spans[-1][0], day)
    return spans


def rebuild_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, first: date, last: date
) -> None:
    """Folds the facets whose meaning changed beside the tables and then puts them in their place, in one commit for each table.

    Stopped and begun again it goes on with what lies in the shadow. Once profile_states has it, the rest is as after a killed fold. Then
    the days are counted, and the last one's window is compared as on any night: older days' states may have been thinned out.
    """
    profiles = sound_profiles(spark, warehouse, delta.read_table(spark, warehouse, profile_states.TABLE))
    wanted, dropped = stale_facets(spark, warehouse, settings, profiles)
    if wanted or dropped:
        run.fold_hash = settings.fold_hash(model_key_of(settings.engine))
        shadow = f"{warehouse}/{SHADOW}/{run.fold_hash}"
        fold_range(spark, warehouse, settings, run, first, last, into=shadow, facets=wanted)
        with run.phase("swap"):
            note: dict[str, object] = {"facet_hashes": settings.facet_hashes(model_key_of(settings.engine))}
            swap_facets(spark, warehouse, shadow, [*wanted, *dropped], note)
        for fate in ("stored", *FATES):
            run.counts.pop(fate, None)
    fold_range(
        spark,
        warehouse,
        settings,
        run,
        first,
        last,
        compared_from=last - timedelta(days=settings.fold.window_days),
    )
    remove_folder(spark, f"{warehouse}/{SHADOW}")


def swap_facets(
    spark: SparkSession, warehouse: str, shadow: str, facets: Sequence[str], note: dict[str, object]
) -> None:
    """Puts the shadow's rows in the place of the facets' rows."""
    replaced = f"facet IN ({', '.join(repr(facet) for facet in facets)})"
    for table in (profile_states.TABLE, user_profiles.TABLE):
        with delta.noting(spark, note):
            delta.overwrite_where(spark, warehouse, table, delta.read_table(spark, shadow, table), replaced)
        note = note | {"profile_states": delta.same_since(spark, warehouse, profile_states.TABLE)}
    if delta.commit_note(spark, warehouse, user_profiles.TABLE).get("facet_hashes") != note["facet_hashes"]:
        # Nothing was replaced by nothing, which is no commit; what is known of the facets is noted all the same.
        with delta.noting(spark, note):
            delta.declare_again(
                spark, warehouse, user_profiles.TABLE, delta.properties(spark, warehouse, user_profiles.TABLE)
            )


def stale_facets(
    spark: SparkSession, warehouse: str, settings: Settings, profiles: DataFrame
) -> tuple[list[str], list[str]]:
    """Facets that must be folded for these settings, and those that were folded and are not in the settings any more."""
    hashes = settings.facet_hashes(model_key_of(settings.engine))
    there = {(row[0], row[1]) for row in profiles.select("facet", "fold_hash").distinct().collect()}
    # A facet without a row may be new, or one that no event ever entered: then the last commit knew it.
    known = delta.commit_note(spark, warehouse, user_profiles.TABLE).get("facet_hashes", {})
    names = {facet for facet, _ in there} | set(known)
    found = {facet: {h for f, h in there if f == facet} or {known.get(facet)} for facet in hashes}
    sound = {facet for facet, own in hashes.items() if found[facet] == {own}}
    return sorted(hashes.keys() - sound), sorted(names - hashes.keys())
