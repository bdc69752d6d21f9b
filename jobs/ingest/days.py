"""Reads log days and writes events, item versions and quarantine.

Every record gets one fate, and the fates are counted.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.ingest import damage
from jobs.ingest.counts import bad_day, count_catalogue, count_fates, filled, held_later
from jobs.ingest.erased import hide_companions, mark_erased, without_content
from jobs.ingest.fates import (
    QUARANTINED,
    compared_hashes,
    decide_fates,
    identify,
    known_identities,
    to_quarantine,
)
from jobs.ingest.fit import require_fit
from jobs.ingest.fixed import name_form, refuse_other_form
from jobs.ingest.items import Before, catalogue_rows, name_items, rejected_rows
from jobs.ingest.names import (
    FEW_ITEMS,
    SHOWN,
    few_sent,
    is_renamed,
    own_titles,
    with_own_titles,
    with_raw_key,
)
from jobs.ingest.privacy import stored_form
from jobs.ingest.reasons import find_reasons
from jobs.ingest.records import read_records
from jobs.ingest.scope import Judged, Names, Scope
from jobs.ingest.texts import to_events, with_texts
from jobs.ingest.torn import unchanged
from jobs.ingest.warn import say_held_later, say_unfilled, warn_of_renamed_items, warn_of_stale_texts
from jobs.io.days import Days
from jobs.io.erased import ErasedUsers, refuse_unfinished_erasure
from jobs.io.logs import Logs, day_folders, items_folder, read_days, require_closed
from jobs.io.messages import JobError, say
from jobs.io.runs import Run
from jobs.io.storage import Marks, file_marks
from jobs.io.versions import with_item
from jobs.io.warehouse import Warehouse, conformed, same_rows
from schemas import behavior_events, items, quarantined_events
from schemas.settings import Settings
from schemas.table import Table
from udfs.text import NORMAL_FORM

JOB = "ingest_events"


def ingest_days(run: Run, logs: Logs, settings: Settings, days: Days) -> None:
    """Reads closed log days, at most `most_days` of them, and writes each of the three tables in one commit.

    The order of the writes makes a killed ingest safe to rerun. Quarantine and items go first, in parallel; a
    day with too many bad records stops there, with its quarantine to look at. The warning about later events
    whose text is stale comes before the events: a rerun finds the items changed already and could not tell
    any more. What events are made with is named before the first one.
    """
    scope = open_scope(run, logs, settings, days)
    with unchanged(lambda: marks_of(scope)):
        judged = judge(scope)
    run.counts |= judged.counts
    with run.phase("write"):
        names = write_items_and_quarantine(scope, judged)
        warn_of_renamed_items(scope, judged, names)
        events = named_events(scope, judged, names)
        if judged.newest_later is not None:
            warn_of_stale_texts(scope, judged.newest_later, names, events)
        write_events(scope, judged, events)
    if gone := run.counts.get("withdrawn"):
        say(
            f"{JOB}: {gone} events that {days.first}..{days.last} held before are gone or changed; "
            f"the days up to {judged.newest_later} may repeat them, or refer to their items: "
            "ingest those days again"
        )
    if judged.held_later is not None:
        say_held_later(scope, judged.held_later, most_days(settings))


def most_days(settings: Settings) -> int:
    """Days read at once.

    The deduplication of one night reaches as far, so that a chunk decides like its nights.
    """
    return settings.fold.window_days + 2


# ---- reading


def open_scope(run: Run, logs: Logs, settings: Settings, days: Days) -> Scope:
    """Checks that the days can be read and stored under these settings."""
    if len(days) > most_days(settings):
        raise ValueError(f"{len(days)} days are more than deduplication covers at a time")
    require_closed(run.spark, logs.root, days)
    refuse_unfinished_erasure(run.warehouse)
    require_fit(run.warehouse, logs.mapping)
    form = stored_form(settings)
    refuse_other_form(run.warehouse, form)
    return Scope(
        run=run,
        logs=logs,
        settings=settings,
        days=days,
        form=form,
        erased=ErasedUsers.of(run.warehouse),
        versions_before=run.warehouse.read(items.TABLE),
        before=Before.of(run.warehouse, days, settings.fold.window_days),
    )


def marks_of(scope: Scope) -> Marks:
    """Every file that the days are read from, of all sources and catalogues, as it is now."""
    logs, spark = scope.logs, scope.run.spark
    folders = [folder for name in logs.mapping.sources for folder in logs.folders(scope.days, name)]
    folders += catalogue_folders(spark, logs, scope.days, scope.before)
    return {file: mark for folder in folders for file, mark in file_marks(spark, folder).items()}


def judge(scope: Scope) -> Judged:
    """Reads the days and decides the fate of every record; nothing is written."""
    run, mapping = scope.run, scope.logs.mapping
    with run.phase("look"):
        max_expansion = scope.settings.ingest.max_expansion
        promised = damage.require_sound_days(run.spark, scope.logs, scope.days, max_expansion)
        catalogue = read_catalogue(run.warehouse, scope.logs, scope.settings, scope.days, scope.before)
    known = known_events(run.warehouse, scope.days, scope.settings.fold.window_days)
    with damage.readable(run.warehouse.uri):
        mapped = read_records(run.spark, scope.logs, scope.days)
    named = identify(scope.form.redact(find_reasons(mapped, scope.settings)))
    if scope.erased is not None:
        named = mark_erased(named, scope.erased)
    with run.phase("read"), damage.readable(run.warehouse.uri):
        # A checkpoint keeps rows as they are; persist would convert them to columns and back, a third of the
        # ingest.
        records = named.localCheckpoint(eager=False)
        if scope.erased is not None:
            records = hide_companions(records, scope.erased, scope.form)
        fated = decide_fates(records, known, scope.form.text)
        counted = [F.count("*").alias("count"), F.count_if("cleaned").alias("cleaned")]
        counted += [F.count("held_on").alias("held_later"), F.max("held_on").alias("held_on")]
        counted += filled(mapping)
        found = fated.groupBy("log_date", "fate", "reason").agg(*counted).collect()
        damage.require_promised(fated, promised, scope.logs.root)
        of_items = {} if catalogue is None else count_catalogue(catalogue)
    say_unfilled(scope, found)
    allowed = mapping.max_bad_share
    refused = bad_day(found, scope.settings.ingest.max_bad_share if allowed is None else allowed)
    # Only now: to read the records waits for this run's own `started`, which is written during the reads.
    own = (run.spec.run_id, run.attempt)
    others = [r.days for r in run.log.records() if r.job == JOB and r.key != own]
    return Judged(
        records=fated,
        counts=count_fates(found) | of_items,
        refused=refused,
        catalogue=catalogue,
        is_rerun=any(other.overlaps(scope.days) for other in others),
        newest_later=max((other.last for other in others if other.last > scope.days.last), default=None),
        held_later=held_later(found),
    )


def known_events(warehouse: Warehouse, days: Days, window_days: int) -> DataFrame:
    """The identities of stored events near the days, but not on them.

    A repeat from further away is too late anyway.
    """
    near = days.widened(before=window_days + 1, after=window_days + 1)
    around = f"{near.sql('log_date')} AND NOT ({days.sql('log_date')})"
    return known_identities(warehouse.read(behavior_events.TABLE).where(around))


def read_catalogue(
    warehouse: Warehouse, logs: Logs, settings: Settings, days: Days, before: Before
) -> DataFrame | None:
    """The checkpointed rows of the catalogues in force on the days; None without a catalogue.

    Raises JobError where a catalogue is corrupt.
    """
    source, spark = logs.mapping.items, warehouse.spark
    if source is None:
        return None
    folders = catalogue_folders(spark, logs, days, before)
    damage.require_sound(spark, source.source.format, folders, settings.ingest.max_expansion)
    rows = catalogue_rows(read_days(spark, source.source, folders, logs.root), source, settings.ingest)
    if "valid_from" in source.fields and not before.is_first:
        # Of an earlier delivery only rows that count from now on: the others were read on their own day.
        begins = F.col("reason").isNull() & F.col("counts_from").between(days.first, days.last)
        rows = rows.where((F.col("delivered") >= days.first) | begins)
    return rows.localCheckpoint(eager=False)


def catalogue_folders(spark: SparkSession, logs: Logs, days: Days, before: Before) -> list[str]:
    """The folders of the catalogues to read for the days."""
    if logs.mapping.items is None:
        return []
    # The first ingest takes every earlier delivery along.
    takes_earlier = before.is_first or "valid_from" in logs.mapping.items.fields
    delivered = day_folders(spark, f"{logs.root}/items")
    return [
        items_folder(logs.root, day)
        for day in delivered
        if day <= days.last and (takes_earlier or day >= days.first)
    ]


# ---- writing


def write_items_and_quarantine(scope: Scope, judged: Judged) -> Names:
    """Writes both tables in parallel, since a small commit mostly waits; returns the items' names.

    Raises JobError for a refused day, of which only the quarantine is written.
    """
    unusable, redact = scope.run.warehouse.no_rows(quarantined_events.TABLE), scope.form.redact_rejected
    # A key hides as much.
    if scope.erased is not None and scope.form.key is None:
        redact = partial(without_content, erased=scope.erased)
    if judged.counts["quarantined"]:
        rejected = judged.records.where(F.col("fate") == QUARANTINED)
        unusable = to_quarantine(rejected, redact)
    if judged.catalogue is not None and judged.counts["items_unusable"]:
        of_items = to_quarantine(rejected_rows(judged.catalogue, scope.days.first), redact)
        unusable = unusable.unionByName(of_items)
    with ThreadPoolExecutor(1) as pool:
        quarantine = pool.submit(replace_days, scope, judged, quarantined_events.TABLE, unusable, "log_date")
        names = write_items(scope, judged) if judged.refused is None else None
        quarantine.result()
    if names is None:
        raise JobError(f"{judged.refused}; only quarantined_events was written")
    return names


def write_items(scope: Scope, judged: Judged) -> Names:
    """Writes the days' item versions, and counts those by which titles of events rename an item."""
    named = name_items(judged.stored, judged.catalogue, scope.before, scope.form, scope.days)
    named = replace(named, fresh=named.fresh.localCheckpoint(eager=False))
    replace_days(scope, judged, items.TABLE, named.fresh, "valid_from")
    own = own_titles(named.faces, named.versions, scope.form).localCheckpoint(eager=False)
    kept, odd = scope.before.versions, own.count()
    new, renamed = named.fresh.agg(F.count("*"), F.count_if(is_renamed())).collect()[0]
    # A broadcast spares a shuffle of the events.
    versions = few_sent(kept.unionByName(named.fresh), kept.limit(FEW_ITEMS + 1).count() + new)
    scope.run.counts["renamed_items"] = renamed
    return Names(named.fresh, versions, few_sent(own, odd) if odd else None)


def named_events(scope: Scope, judged: Judged, names: Names) -> DataFrame:
    """The days' events with their texts, as they will be stored."""
    of_item = with_item(with_raw_key(judged.stored), names.versions, SHOWN)
    titled = with_own_titles(of_item, names.own)
    resolved = with_texts(titled, scope.logs.mapping.texts, scope.form.text)
    return to_events(resolved, scope.form.user_buckets)


def write_events(scope: Scope, judged: Judged, events: DataFrame) -> None:
    """Writes the days' events, after the names of what they are made with."""
    name_form(scope.run.writer, scope.form)
    if judged.is_rerun and judged.newest_later is not None:
        scope.run.counts["withdrawn"] = count_withdrawn(scope, events)
    # Whoever compares text keys of two nights can tell which form their texts had.
    with scope.run.writer.noting({}, content={"normal_form": NORMAL_FORM}):
        replace_days(scope, judged, behavior_events.TABLE, events, "log_date")


def count_withdrawn(scope: Scope, events: DataFrame) -> int:
    """Stored events of the days that will be gone after the write, or have other content or text."""
    stored = scope.run.warehouse.read(behavior_events.TABLE).where(scope.days.sql("log_date"))
    hashes = [column.alias(name) for name, column in compared_hashes().items()]
    old, new = (rows.select("event_id", *hashes) for rows in (stored, events))
    same = [old[name].eqNullSafe(new[name]) for name in old.columns]
    return old.join(new, same, "left_anti").count()


def replace_days(scope: Scope, judged: Judged, table: Table, rows: DataFrame, column: str) -> None:
    """Replaces the rows whose date column lies on the days.

    Without a commit where a rerun finds the same rows stored.
    """
    warehouse, days = scope.run.warehouse, scope.days.sql(column)
    if judged.is_rerun and warehouse.exists(table):
        stored = warehouse.read(table).where(days)
        if same_rows(stored, conformed(rows, table), table.names):
            return
    scope.run.writer.replace(table, rows, days)
