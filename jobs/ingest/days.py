"""Reads log days and writes events, item versions and quarantine.

Every record gets one fate, and the fates are counted.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.ingest import damage
from jobs.ingest.erased import hide_companions, mark_erased, without_content
from jobs.ingest.fates import (
    DUPLICATE,
    ERASED,
    FATES,
    QUARANTINED,
    STORED,
    compared_hashes,
    decide_fates,
    identified,
    known_identities,
    to_quarantine,
)
from jobs.ingest.fit import require_fit
from jobs.ingest.items import (
    SHOWN,
    catalogue_rows,
    delivered_items,
    item_candidates,
    item_versions,
    rejected_rows,
    renamed,
    with_stale_text,
)
from jobs.ingest.privacy import StoredForm, name_key, require_same_key, stored_form, text_key
from jobs.ingest.records import read_records
from jobs.ingest.texts import to_events, with_texts
from jobs.io.days import Days
from jobs.io.erased import ErasedUsers, refuse_unfinished_erasure
from jobs.io.logs import Logs, day_folders, items_folder, read_days, require_closed
from jobs.io.messages import JobError, say
from jobs.io.runs import Run
from jobs.io.versions import with_item
from jobs.io.warehouse import Warehouse, conformed, same_rows
from schemas import behavior_events, items, quarantined_events
from schemas.settings import Settings
from schemas.table import Table
from udfs.text import NORMAL_FORM

JOB = "ingest_events"
# Item versions that are broadcast: some ten megabytes.
FEW_VERSIONS = 100_000


@dataclass(frozen=True)
class Scope:
    """What an ingest works on, resolved once."""

    run: Run
    logs: Logs
    settings: Settings
    days: Days
    form: StoredForm
    erased: ErasedUsers | None
    # All item versions as they were, and those valid before the days.
    versions_before: DataFrame
    versions_kept: DataFrame


@dataclass(frozen=True)
class Judged:
    """Every record with its fate (jobs/ingest/fates.py DECIDED), the counts, and the catalogue's rows.

    refused: why the days can't be stored, in a sentence. is_rerun: whether an ingest of one of the days was
    ever started before. newest_later: the last later day with an ingest.
    """

    records: DataFrame
    counts: dict[str, int]
    refused: str | None
    catalogue: DataFrame | None
    is_rerun: bool
    newest_later: date | None

    @cached_property
    def stored(self) -> DataFrame:
        """The records that become events."""
        return self.records.where(F.col("fate") == STORED)


def ingest_days(run: Run, logs: Logs, settings: Settings, days: Days) -> None:
    """Reads closed log days, at most `most_days` of them, and writes each of the three tables in one commit.

    The order of the writes makes a killed ingest safe to rerun. Quarantine and items go first, in parallel; a
    day with too many bad records stops there, with its quarantine to look at. The warning about later events
    whose text is stale comes before the events: a rerun finds the items changed already and could not tell
    any more. The user key is named before the first event under it.
    """
    scope = open_scope(run, logs, settings, days)
    judged = judge(scope)
    run.counts |= judged.counts
    with run.phase("write"):
        versions = write_items_and_quarantine(scope, judged)
        if judged.newest_later is not None:
            run.counts["stale_texts"] = warn_of_stale_texts(scope, versions)
        write_events(scope, judged, versions)
    if gone := run.counts.get("withdrawn"):
        say(
            f"{JOB}: {gone} events that {days.first}..{days.last} held before are gone or changed; "
            f"the days up to {judged.newest_later} may repeat them, or refer to their items: "
            "ingest those days again"
        )


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
    form = stored_form(settings.privacy)
    require_same_key(run.warehouse, form.key_name)
    before = run.warehouse.read(items.TABLE)
    return Scope(
        run=run,
        logs=logs,
        settings=settings,
        days=days,
        form=form,
        erased=ErasedUsers.of(run.warehouse),
        versions_before=before,
        versions_kept=before.where(F.col("valid_from") < days.first),
    )


def judge(scope: Scope) -> Judged:
    """Reads the days and decides the fate of every record; nothing is written."""
    run, mapping = scope.run, scope.logs.mapping
    with run.phase("look"):
        max_expansion = scope.settings.ingest.max_expansion
        promised = damage.require_sound_days(run.spark, scope.logs, scope.days, max_expansion)
        catalogue = read_catalogue(run.warehouse, scope.logs, scope.settings, scope.days, scope.versions_kept)
    known = known_events(run.warehouse, scope.days, scope.settings.fold.window_days)
    with damage.readable():
        mapped = read_records(run.spark, scope.logs, scope.days)
    named = identified(mapped, scope.settings, scope.form)
    if scope.erased is not None:
        named = mark_erased(named, scope.erased)
    with run.phase("read"), damage.readable():
        # A checkpoint keeps rows as they are; persist would convert them to columns and back, a third of the
        # ingest.
        records = named.localCheckpoint(eager=False)
        if scope.erased is not None:
            records = hide_companions(records, scope.erased, scope.form)
        fated = decide_fates(records, known, not mapping.texts, scope.form.text)
        counted = F.count("*").alias("count"), F.count_if("cleaned").alias("cleaned")
        found = fated.groupBy("log_date", "fate", "reason").agg(*counted).collect()
        damage.require_promised(fated, promised, scope.logs.root)
        of_items = {} if catalogue is None else count_catalogue(catalogue)
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
    )


def known_events(warehouse: Warehouse, days: Days, window_days: int) -> DataFrame:
    """The identities of stored events near the days, but not on them.

    A repeat from further away is too late anyway.
    """
    near = days.widened(before=window_days + 1, after=window_days + 1)
    around = f"{near.sql('log_date')} AND NOT ({days.sql('log_date')})"
    return known_identities(warehouse.read(behavior_events.TABLE).where(around))


def read_catalogue(
    warehouse: Warehouse, logs: Logs, settings: Settings, days: Days, kept: DataFrame
) -> DataFrame | None:
    """The checkpointed rows of the catalogues in force on the days; None without a catalogue.

    kept: the item versions before the days. Raises JobError where a catalogue is corrupt.
    """
    source, spark = logs.mapping.items, warehouse.spark
    if source is None:
        return None
    is_dated, is_first = "valid_from" in source.fields, kept.isEmpty()
    # The first ingest takes every earlier delivery along.
    takes_earlier = is_dated or is_first
    delivered = [day for day in day_folders(spark, f"{logs.root}/items") if day <= days.last]
    folders = [items_folder(logs.root, day) for day in delivered if takes_earlier or day >= days.first]
    damage.require_sound(spark, source.source.format, folders, settings.ingest.max_expansion)
    rows = catalogue_rows(read_days(spark, source.source, folders, logs.root), source, settings.ingest)
    if is_dated and not is_first:
        # Of an earlier delivery only rows that count from now on: the others were read on their own day.
        begins = F.col("reason").isNull() & F.col("counts_from").between(days.first, days.last)
        rows = rows.where((F.col("delivered") >= days.first) | begins)
    return rows.localCheckpoint(eager=False)


# ---- counting


def count_fates(found: Sequence[Row]) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate + erased.

    cleaned: stored ones whose text or title lost characters that no eye sees. found: fate, reason, count,
    cleaned.
    """
    by_fate = {fate: sum(row["count"] for row in found if row["fate"] == fate) for fate in FATES}
    reasons: Counter[str] = Counter()
    for row in found:
        if row["fate"] == QUARANTINED:
            reasons[f"quarantined_{row['reason']}"] += row["count"]
    read = sum(by_fate[fate] for fate in (STORED, QUARANTINED, DUPLICATE, ERASED))
    cleaned = sum(row["cleaned"] for row in found if row["fate"] == STORED)
    return {"read": read, **by_fate, "cleaned": cleaned, **dict(sorted(reasons.items()))}


def count_catalogue(catalogue: DataFrame) -> dict[str, int]:
    """Catalogue rows read, and unusable ones, also by reason."""
    found = {row["reason"]: row["count"] for row in catalogue.groupBy("reason").count().collect()}
    read, usable = sum(found.values()), found.pop(None, 0)
    by_reason = {reason.replace("item_", "items_", 1): count for reason, count in sorted(found.items())}
    return {"items_read": read, "items_unusable": read - usable, **by_reason}


def bad_day(found: Sequence[Row], allowed: float) -> str | None:
    """The first log day with a larger share of unusable records than allowed, as a sentence.

    None where there is none.

    found: log_date, fate, reason, count, cleaned.
    """
    for day in sorted({row["log_date"] for row in found}):
        of_day = [row for row in found if row["log_date"] == day]
        counts = count_fates(of_day)
        bad, read = counts["quarantined"], counts["read"]
        if bad > allowed * read:
            reasons = Counter({row["reason"]: row["count"] for row in of_day if row["fate"] == QUARANTINED})
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
            return (
                f"{bad} of {read} records of {day} can't be used ({shown}), "
                f"more than max_bad_share allows ({allowed:g})"
            )
    return None


# ---- writing


def write_items_and_quarantine(scope: Scope, judged: Judged) -> DataFrame:
    """Writes both tables in parallel, since a small commit mostly waits.

    Returns all item versions up to the last day.

    Raises JobError for a refused day, of which only the quarantine is written.
    """
    unusable, redact = scope.run.warehouse.no_rows(quarantined_events.TABLE), scope.form.redact_rejected
    if judged.counts["quarantined"]:
        rejected = judged.records.where(F.col("fate") == QUARANTINED)
        unusable = to_quarantine(rejected if scope.erased is None else without_content(rejected), redact)
    if judged.catalogue is not None and judged.counts["items_unusable"]:
        of_items = to_quarantine(rejected_rows(judged.catalogue, scope.days.first), redact)
        unusable = unusable.unionByName(of_items)
    with ThreadPoolExecutor(1) as pool:
        quarantine = pool.submit(replace_days, scope, judged, quarantined_events.TABLE, unusable, "log_date")
        versions = write_items(scope, judged) if judged.refused is None else None
        quarantine.result()
    if versions is None:
        raise JobError(f"{judged.refused}; only quarantined_events was written")
    return versions


def write_items(scope: Scope, judged: Judged) -> DataFrame:
    """Writes the days' item versions; returns all versions up to the last day."""
    named = named_items(judged.stored, judged.catalogue, scope.form, scope.days)
    fresh = item_versions(named, scope.versions_kept).persist()
    replace_days(scope, judged, items.TABLE, fresh, "valid_from")
    versions = scope.versions_kept.unionByName(fresh)
    # A broadcast spares a shuffle of the events; Spark can't estimate the size beforehand.
    fits = scope.versions_kept.limit(FEW_VERSIONS + 1).count() + fresh.count() <= FEW_VERSIONS
    return F.broadcast(versions) if fits else versions


def named_items(stored: DataFrame, catalogue: DataFrame | None, form: StoredForm, days: Days) -> DataFrame:
    """(item_id, log_date, SHOWN): what the days' events and catalogues call each item on each day."""
    candidates = item_candidates(stored).withColumn("text", F.col("title"))
    if catalogue is not None:
        delivered = delivered_items(catalogue.where("reason IS NULL"), days)
        # On the day from which it counts a catalogue wins over the titles of events.
        candidates = candidates.join(delivered, ["item_id", "log_date"], "left_anti").unionByName(delivered)
    shown = candidates.withColumns({"title": form.title(F.col("title")), "text": form.text(F.col("text"))})
    return shown.withColumn("text_key", text_key(F.col("text")))


def warn_of_stale_texts(scope: Scope, versions: DataFrame) -> int:
    """Counts stored events of later days whose text would be different now.

    Says which days to ingest again.
    """
    changed = renamed(scope.versions_before, versions, scope.days).localCheckpoint(eager=False)
    # A rerun of an older day mostly renames nothing; then later days are not read.
    if changed.isEmpty():
        return 0
    events = scope.run.warehouse.read(behavior_events.TABLE)
    later = events.where(F.col("log_date") > scope.days.last)
    stale = with_stale_text(later, changed, are_made=bool(scope.logs.mapping.texts))
    count, until = stale.agg(F.count("*"), F.max("log_date")).collect()[0]
    if count:
        # From the very next day: it may name an item as the day before did, and so have no version of its
        # own.
        begin = scope.days.last + timedelta(days=1)
        say(
            f"{JOB}: {count} events of later days would have another text, because {scope.days.first}.."
            f"{scope.days.last} name their items differently: ingest {begin}..{until} again, in order"
        )
    return int(count)


def write_events(scope: Scope, judged: Judged, versions: DataFrame) -> None:
    """Writes the days' events with their texts, after the name of the user key."""
    of_item = with_item(judged.stored, versions, SHOWN)
    resolved = with_texts(of_item, scope.logs.mapping.texts, scope.form.text)
    name_key(scope.run.writer, scope.form.key_name)
    events = to_events(resolved, scope.settings.store.user_buckets)
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
