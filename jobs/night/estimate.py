"""A dry run: what a backfill or a rebuild would read, embed and write, and how long it would take."""

from dataclasses import dataclass
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.embed.days import JOB as EMBED
from jobs.embed.days import missing_texts, wanted_texts
from jobs.fold.days import JOB as FOLD
from jobs.fold.meaning import FoldMeaning
from jobs.fold.ranges import stale_facets
from jobs.ingest.days import JOB as INGEST
from jobs.ingest.days import read_catalogue
from jobs.ingest.erased import mark_erased
from jobs.ingest.fates import identify
from jobs.ingest.fit import require_fit
from jobs.ingest.fixed import require_same_buckets
from jobs.ingest.items import Before, name_items
from jobs.ingest.names import SHOWN, own_titles, with_own_titles, with_raw_key
from jobs.ingest.privacy import StoredForm
from jobs.ingest.reasons import find_reasons
from jobs.ingest.records import read_records
from jobs.ingest.texts import with_texts
from jobs.io.days import Days
from jobs.io.erased import ErasedUsers
from jobs.io.logs import Logs, read_days
from jobs.io.messages import say
from jobs.io.runs import RunLog
from jobs.io.storage import data_files, file_size
from jobs.io.versions import with_item
from jobs.io.warehouse import Warehouse
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, user_profiles
from schemas.pipeline_runs import DONE
from schemas.settings import Settings

# Records, texts and events a second on two cores, where the warehouse has no run of its own to go by.
USUAL_SPEED = {INGEST: 15_000.0, EMBED: 350.0, FOLD: 40_000.0}
# Minutes of every run: Java's start, plans, checks.
OVERHEAD_MINUTES = 1.0
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Work:
    """Records to ingest, texts to embed and events to fold."""

    records: int = 0
    texts: int = 0
    events: int = 0

    def minutes(self, speeds: dict[str, float]) -> float:
        """How long it takes at these speeds, a second.

        >>> Work(records=1_800_000).minutes({"ingest_events": 15_000, "embed_texts": 1, "fold_profiles": 1})
        3.0
        """
        amounts = {INGEST: self.records, EMBED: self.texts, FOLD: self.events}
        return OVERHEAD_MINUTES + sum(amount / speeds[job] for job, amount in amounts.items()) / 60


def tell_range(log: RunLog, settings: Settings, logs: Logs, days: Days, ingested: list[Days]) -> None:
    """Says what a backfill of the days would do. ingested: chunks that a stopped run has done."""
    warehouse = log.warehouse
    require_fit(warehouse, logs.mapping)
    require_same_buckets(warehouse, settings.store.user_buckets)
    spark, folders = warehouse.spark, logs.folders(days)
    files = [file for folder in folders for file in data_files(spark, folder)]
    size = sum(file_size(spark, file) for file in files)
    count = sum(
        read_days(spark, one.source, logs.folders(days, name), logs.root).count()
        for name, one in logs.mapping.sources.items()
    )
    say(f"read: {len(days)} days, {len(files)} files, {size / 1e6:,.1f} MB, {count:,} records")
    if ingested:
        say(f"  of them {sum(map(len, ingested))} days are ingested already, by a run that was stopped")
    texts, of_items, tokens = count_missing(warehouse, settings, logs, days)
    say(f"embed: {texts:,} texts without a vector, {of_items:,} of items alone, about {tokens:,} tokens")
    replayed = tell_writes(warehouse, settings, days)
    work = Work(count, texts, count + replayed)
    say(f"expected: about {work.minutes(measured_speeds(log)):,.0f} minutes")


def count_missing(warehouse: Warehouse, settings: Settings, logs: Logs, days: Days) -> tuple[int, int, int]:
    """Texts without a vector, how many of them no event has, and about how many tokens they have."""
    missing = missing_in_logs(warehouse, settings, logs, days)
    length = F.ceil(F.length("text") / CHARACTERS_PER_TOKEN)
    tokens = F.coalesce(F.sum(F.least(length, F.lit(settings.engine.max_tokens))), F.lit(0))
    texts, of_items, total = missing.agg(F.count("*"), F.count_if(~F.col("of_event")), tokens).collect()[0]
    return texts, of_items, total


def missing_in_logs(warehouse: Warehouse, settings: Settings, logs: Logs, days: Days) -> DataFrame:
    """(text_key, text, of_event) of the texts of the days' events and of items that the model has not seen.

    As the ingest would store them, but for records that repeat another one: those are not compared.
    """
    # Without the key of user ids, which a dry run does not need: under a key erased users are counted too.
    privacy = settings.privacy
    form = StoredForm(privacy.scrub_texts, privacy.phone_region, None, settings.store.user_buckets)
    named = identify(form.redact(find_reasons(read_records(warehouse.spark, logs, days), settings)))
    if (erased := ErasedUsers.of(warehouse)) is not None:
        named = mark_erased(named, erased)
    # Not checkpointed: the records of years would fill the disk.
    usable = named.where("passed AND reason IS NULL")
    stored = usable.withColumn("event_id", F.coalesce("event_id", "same"))
    before = Before.of(warehouse, days, settings.fold.window_days)
    catalogue = read_catalogue(warehouse, logs, settings, days, before)
    names = name_items(stored, catalogue, before, form, days)
    versions = before.versions.unionByName(names.fresh)
    of_item = with_item(with_raw_key(stored), versions, SHOWN)
    of_item = with_own_titles(of_item, own_titles(names.faces, names.versions, form))
    events = with_texts(of_item, logs.mapping.texts, form.text).where("text_key IS NOT NULL")
    of_model = F.col("model_key") == FoldMeaning.of(settings).model_key
    known = [warehouse.read(table).where(of_model) for table in (text_embeddings.TABLE, rejected_texts.TABLE)]
    return missing_texts(wanted_texts(settings.engine, events, versions), *known)


def tell_writes(warehouse: Warehouse, settings: Settings, days: Days) -> int:
    """Says which partitions a backfill would write; returns the events of later days that it replays."""
    window_start = days.first - timedelta(days=settings.fold.window_days)
    day, states = F.col("as_of_date"), warehouse.read(profile_states.TABLE)
    is_near, is_later = (day >= window_start) & (day < days.first), day > days.last
    partitions = [F.count_distinct(F.when(condition, day)) for condition in (is_near, is_later)]
    near, later = states.agg(*partitions).collect()[0]
    events = warehouse.read(behavior_events.TABLE).where(F.col("event_date") > days.last)
    replayed = events.count() if later else 0
    say(f"write: behavior_events, {len(days)} partitions of log_date: the events of the days")
    say(f"write: profile_states, up to {len(days)} partitions of as_of_date: the states of the days")
    if near:
        say(f"write: profile_states, up to {near} partitions before {days.first}: late events repair them")
    if later:
        replay = f"users are replayed to the end, {replayed:,} events"
        say(f"write: profile_states, up to {later} partitions after {days.last}: {replay}")
    say("write: user_profiles, the partitions of the users whose latest state changes")
    return replayed


def tell_rebuild(log: RunLog, settings: Settings, days: Days) -> None:
    """Says which facets a rebuild would fold, and what it would write."""
    warehouse = log.warehouse
    profiles = warehouse.read(user_profiles.TABLE)
    wanted, dropped = stale_facets(warehouse, FoldMeaning.of(settings), profiles)
    if not wanted and not dropped:
        say(f"nothing to rebuild: all facets of {days.first} to {days.last} were folded under these settings")
        return
    events = warehouse.read(behavior_events.TABLE).where(days.sql("event_date")).count()
    facets, span = ", ".join([*wanted, *dropped]), f"{days.first} to {days.last}"
    say(f"fold: {', '.join(wanted) or 'nothing'}, from the {events:,} stored events of {span}")
    say(f"write: profile_states and user_profiles, facets {facets}: one commit each; old versions stay")
    work = Work(events=events if wanted else 0)
    say(f"expected: about {work.minutes(measured_speeds(log)):,.0f} minutes")


def measured_speeds(log: RunLog) -> dict[str, float]:
    """Records, texts and events a second of the newest runs here, USUAL_SPEED where there is none."""
    seconds = F.aggregate(F.map_values("seconds"), F.lit(0.0), lambda total, s: total + s)
    counts = F.col("counts")
    counted = F.coalesce(counts["read"], counts["embedded"], counts["events_folded"])
    is_measure = (F.col("status") == DONE) & (counted > 0) & (seconds > 0) & F.col("job").isin(*USUAL_SPEED)
    newest = log.rows().where(is_measure).groupBy("job").agg(F.max_by(counted / seconds, "sequence"))
    return USUAL_SPEED | {row[0]: row[1] for row in newest.collect()}
