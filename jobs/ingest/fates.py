"""From records as they were read to the fate of each: stored, quarantined, duplicate, filtered or erased.

A record's identity is the log's own event id, or a hash of its mapped content and its ordinal among equal records of its file; so a
file delivered again adds nothing, while two equal purchases in one file both count.
"""

from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.privacy import hide
from jobs.ingest.reasons import REASONS, find_reasons
from jobs.ingest.records import DERIVED, GIVEN, map_records
from schemas.mapping import EVENT_FIELDS, LogMapping
from schemas.settings import Settings
from udfs.privacy import RECORD_HELD

# Characters of a rejected record that are stored; more are held until private data is out of it.
RAW_LIMIT = 2000
# What two records of one event id must agree in. The text is compared apart: a stored one may come from the item.
PAYLOAD = [name for name in EVENT_FIELDS if name not in ("event_id", "title", "text", "attributes")]
SAME = ["same_hash", "same"]
COMPARED = ["payload", "payload_too", "text_hash"]
STORED, QUARANTINED, DUPLICATE, FILTERED, ERASED = FATES = (
    "stored",
    "quarantined",
    "duplicate",
    "filtered",
    "erased",
)
DECIDED = [
    "log_date",
    "event_date",
    "fate",
    *EVENT_FIELDS,
    "text_key",
    "source_file",
    "ordinal",
    "reason",
    "record_hash",
    "raw",
]
# Records in doubt whose hashes are sent to every machine: a few megabytes.
FEW_DOUBTS = 200_000


def identified(
    records: DataFrame, erased: DataFrame, mapping: LogMapping, settings: Settings, key: bytes | None
) -> DataFrame:
    """Every record with its event fields, why it can't be an event, and what identifies it; each by itself, without a shuffle.

    records: as jobs.io.logs.read_days gives them; erased: rows of erased_users.
    """
    mapped = map_records(records, mapping)
    reasoned = find_reasons(
        mapped, settings.fold.window_days, settings.ingest, list(settings.fold.type_weights)
    )
    return identify(hide(reasoned, settings.privacy, key, erased))


def identify(hidden: DataFrame) -> DataFrame:
    """Adds text_key and SAME, what equal records share: a text, and its hash, NULL where nothing asks for equals."""
    # Without title and attributes, which tell of the item: two copies of a log that write it differently hold the same events.
    content = F.sha2(F.to_json(F.struct("text", *[_ordered(name) for name in PAYLOAD])), 256)
    same = (
        F.when(~F.col("passed") | F.col("is_erased"), None)
        .when(F.col("reason").isNotNull(), F.concat(F.lit("rejected "), "record_hash"))
        .when(F.col("event_id").isNotNull(), F.concat(F.lit(GIVEN), "event_id"))
        .otherwise(F.concat(F.lit(DERIVED), content))
    )
    # Spark's hash of nothing is a number.
    same_hash = F.when(F.col("same").isNotNull(), F.xxhash64("same"))
    return hidden.withColumns({"same": same, "text_key": F.sha2("text", 256)}).withColumn(
        "same_hash", same_hash
    )


def known_identities(stored: DataFrame) -> DataFrame:
    """(SAME, known_ordinal, COMPARED with known_ before): what stored events share with records that repeat them.

    The ordinals of derived ids need not be all up to the greatest: the days that are read anew hold the others.
    """
    is_derived = F.startswith("event_id", F.lit(DERIVED))
    # A derived id is the content it was derived from, and the ordinal.
    same = F.when(is_derived, F.substring_index("event_id", "#", 1)).otherwise(
        F.concat(F.lit(GIVEN), "event_id")
    )
    ordinal = F.when(is_derived, F.substring_index("event_id", "#", -1).cast("int"))
    compared = {f"known_{name}": column for name, column in compared_hashes().items()}
    named = stored.withColumns({"same": same, "known_ordinal": ordinal, **compared}).withColumn(
        "same_hash", F.xxhash64("same")
    )
    return named.select(*SAME, "known_ordinal", *compared)


def decide_fates(
    records: DataFrame, known: DataFrame, compares_texts: bool, normal: Callable[[Column], Column]
) -> DataFrame:
    """Every record with its fate, and an event id where the log gives none: the columns DECIDED.

    records: as `identified` gives them, held, since they are read more than once; known: as known_identities gives them, of the
    events stored on other days near by. Texts of theirs that a mapping made of several fields are not compared. normal: the stored form of
    a column of texts.

    Most records are alone with their identity, and their fate is their own. Which are not, a shuffle of hashes alone finds; so that
    of whole records only those move that have to be compared.
    """
    # Held by the first look at it.
    doubtful = doubtful_hashes(records, known).localCheckpoint(eager=False)
    doubts = doubtful.count()
    if not doubts:
        return fates_alone(records)
    if doubts > FEW_DOUBTS:
        alone, doubted = records.where("same_hash IS NULL"), records.where("same_hash IS NOT NULL")
    else:
        few = F.broadcast(doubtful)
        alone, doubted = (
            records.join(few, "same_hash", "left_anti"),
            records.join(few, "same_hash", "left_semi"),
        )
        known = known.join(few, "same_hash", "left_semi")
    return fates_alone(alone).unionByName(
        fates_compared(doubted, known, compares_texts, normal).localCheckpoint(eager=False)
    )


def doubtful_hashes(records: DataFrame, known: DataFrame) -> DataFrame:
    """(same_hash) of the records that another record or a stored event may be equal to."""
    ours = records.where("same_hash IS NOT NULL").select(
        "same_hash", F.lit(1).alias("ours"), F.lit(0).alias("theirs")
    )
    theirs = known.select("same_hash", F.lit(0), F.lit(1))
    counted = (
        ours.union(theirs)
        .groupBy("same_hash")
        .agg(F.sum("ours").alias("ours"), F.max("theirs").alias("theirs"))
    )
    return counted.where("ours > 1 OR ours = 1 AND theirs = 1").select("same_hash")


def fates_alone(records: DataFrame) -> DataFrame:
    """The fates of records that no other is equal to."""
    fate = (
        F.when(~F.col("passed"), FILTERED)
        .when(F.col("is_erased"), ERASED)
        .when(F.col("reason").isNotNull(), QUARANTINED)
        .otherwise(STORED)
    )
    told = {
        "ordinal": F.lit(0),
        "fate": fate,
        "event_id": F.coalesce("event_id", F.concat("same", F.lit("#0"))),
    }
    return records.withColumns(told).select(*DECIDED)


def fates_compared(
    records: DataFrame, known: DataFrame, compares_texts: bool, normal: Callable[[Column], Column]
) -> DataFrame:
    """The fates of records among which there are equals: of equal ids the first by (log_date, source_file, ordinal) is stored.

    All have an identity, so none is filtered or erased.

    One shuffle and one sort serve all that compares records: by `same`, and within it by file, whose path begins with its log day. The
    hash before `same` is for the sort, which else would compare ids that begin alike letter by letter.
    """
    together = records.withColumns(
        compared_hashes() | {"rest": F.to_json(F.struct("title", _ordered("attributes")))}
    ).repartition(*SAME)
    in_file = Window.partitionBy(*SAME, "source_file").orderBy(*COMPARED, "rest")
    placed = together.withColumn("ordinal", F.row_number().over(in_file) - 1)
    order = Window.partitionBy(*SAME).orderBy("source_file", *COMPARED, "rest")
    earlier = F.max("ordinal").over(order.rowsBetween(Window.unboundedPreceding, -1))
    has_id = F.col("event_id").isNotNull()
    # Without ids, equal records of one file are events of their own, and those of a second file repeat them one by one.
    repeats = F.when(has_id, F.row_number().over(order) > 1).otherwise(
        F.coalesce(earlier >= F.col("ordinal"), F.lit(False))
    )
    of_first = {f"first_{name}": F.first(name).over(order) for name in (*COMPARED, "title", "log_date")}
    placed = placed.withColumns({"repeats": repeats} | of_first)
    # Equal stored events differ in their ordinal only.
    stored = [F.max(f"known_{name}").alias(f"known_{name}") for name in COMPARED]
    joined = placed.join(
        known.groupBy(*SAME).agg(F.collect_set("known_ordinal").alias("known_ordinals"), *stored),
        [*SAME],
        "left",
    )
    counted = F.coalesce(F.array_contains("known_ordinals", F.col("ordinal")), F.lit(False))
    is_known = F.when(has_id, F.col("known_payload").isNotNull()).otherwise(counted)
    other = {
        name: F.when(is_known, F.col(f"known_{name}")).otherwise(F.col(f"first_{name}")) for name in COMPARED
    }
    # A record without text of its own can't contradict one: a stored text may be the item's. Of an event of another day a night knows
    # what was stored, so days that are read together look at that too: its own text, or else what its title makes of it.
    same_day = ~is_known & (F.col("first_log_date") == F.col("log_date"))
    named = F.when(~is_known & F.col("first_text_hash").isNull(), normal(F.col("first_title")))
    that_day = F.coalesce(other["text_hash"], F.when(named.isNotNull(), F.xxhash64(F.sha2(named, 256))))
    other_text = F.when(same_day, ~F.col("text_hash").eqNullSafe(other["text_hash"])).otherwise(
        F.lit(compares_texts) & that_day.isNotNull() & (F.col("text_hash") != that_day)
    )
    other_text = F.col("text_hash").isNotNull() & other_text
    differs = (
        (F.col("payload") != other["payload"]) | (F.col("payload_too") != other["payload_too"]) | other_text
    )
    again = is_known | F.col("repeats")
    told = joined.withColumns({"repeats": again, "conflict": F.col("reason").isNull() & again & differs})
    conflict = F.col("conflict")
    fields = F.to_json(F.struct(*EVENT_FIELDS))
    decided = {
        "fate": F.when(F.col("reason").isNotNull() | conflict, QUARANTINED)
        .when(F.col("repeats"), DUPLICATE)
        .otherwise(STORED),
        "event_id": F.coalesce("event_id", F.concat("same", F.lit("#"), "ordinal")),
        "reason": F.when(conflict, "conflicting_id").otherwise(F.col("reason")),
        "record_hash": F.when(conflict, F.sha2(fields, 256)).otherwise(F.col("record_hash")),
        "raw": F.when(conflict, F.substring(fields, 1, RECORD_HELD)).otherwise(F.col("raw")),
    }
    return told.withColumns(decided).select(*DECIDED)


def compared_hashes() -> dict[str, Column]:
    """Two independent 64-bit hashes of an event's payload, and one of its text."""
    brought = [_ordered(name) for name in PAYLOAD]
    shown = [part for column in brought for part in (column, F.isnull(column))]
    hashes = (
        F.xxhash64(*shown),
        F.xxhash64(F.lit("too"), *shown),
        F.when(F.col("text_key").isNotNull(), F.xxhash64("text_key")),
    )
    return dict(zip(COMPARED, hashes, strict=True))


def _ordered(name: str) -> Column:
    """A field in a form that says the same whatever the order of a map's entries, and all of a time: as JSON it has milliseconds."""
    if isinstance(EVENT_FIELDS[name], T.MapType):
        return F.array_sort(F.map_entries(name)).alias(name)
    return F.unix_micros(name).alias(name) if isinstance(EVENT_FIELDS[name], T.TimestampType) else F.col(name)


def to_quarantine(fated: DataFrame, hide_record: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """The rows of quarantined_events. hide_record: what private data there is in raw and record_hash hides it."""
    message = reduce(
        lambda told, code: told.when(F.col("reason") == code, REASONS[code]),
        REASONS,
        F.when(F.lit(False), ""),
    )
    rows = hide_record(fated.where(F.col("fate") == QUARANTINED))
    told = {"line": F.lit(None).cast("int"), "message": message, "raw": F.substring("raw", 1, RAW_LIMIT)}
    return rows.withColumns(told).select(
        "log_date", "source_file", "record_hash", "ordinal", "raw", "line", "reason", "message"
    )
