"""The fate of every record: stored, quarantined, duplicate, filtered or erased.

A record's identity is its user with the log's own event id, or a hash of its mapped content and its ordinal
among equal records of its file. So a file delivered again adds nothing, while two equal purchases in one file
both count, and nobody's event can take the place of another user's.
"""

from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.names import own_title_key
from jobs.ingest.privacy import ColumnFunction, text_key
from jobs.ingest.reasons import ITEM_REASONS, REASONS
from jobs.ingest.records import DERIVED
from schemas.mapping import EVENT_FIELDS
from udfs.privacy import RECORD_HELD

FATES = STORED, QUARANTINED, DUPLICATE, FILTERED, ERASED = (
    "stored",
    "quarantined",
    "duplicate",
    "filtered",
    # Of an erased user; also the reason of such a record (jobs/ingest/erased.py).
    "erased",
)
# Characters of a rejected record that are stored; more are read until private data is removed.
RAW_LIMIT = 2000
# Fields in which two records of one event id must agree. The text is compared apart: a stored one may be the
# item's.
PAYLOAD = [name for name in EVENT_FIELDS if name not in ("event_id", "title", "text", "attributes")]
IDENTITY = ["same_hash", "same"]
COMPARED = ["payload_hash", "payload_hash_2", "text_hash"]
DECIDED = ["log_date", "event_date", "fate", *EVENT_FIELDS, "text_key", "source_file"]
DECIDED += ["ordinal", "reason", "cleaned", "record_hash", "raw", "held_on"]
# Prefix of the identities of records with an id of their own.
GIVEN = "given "
# Prefix of the identities of records that can't be events.
REJECTED = "rejected "
# Between user and event id; no id may hold it (jobs/ingest/records.py NOT_IN_IDS).
BETWEEN = "\t"
# Ambiguous records whose hashes are broadcast: a few megabytes.
FEW_AMBIGUOUS = 200_000


def identify(redacted: DataFrame) -> DataFrame:
    """Adds text_key and IDENTITY, without a shuffle.

    What equal records share, and its hash; NULL for records that are never compared. redacted: as
    jobs.ingest.reasons.find_reasons returns them, with texts and user ids in their stored form.
    """
    # Without title and attributes, which describe the item: two copies of a log may write them differently.
    content = F.sha2(F.to_json(F.struct("text", *[_ordered(name) for name in PAYLOAD])), 256)
    same = (
        F.when(~F.col("passed"), None)
        .when(F.col("reason").isNotNull(), F.concat(F.lit(REJECTED), "record_hash"))
        .when(F.col("event_id").isNotNull(), _given_identity())
        .otherwise(F.concat(F.lit(DERIVED), content))
    )
    # Spark's hash of NULL is a number.
    same_hash = F.when(F.col("same").isNotNull(), F.xxhash64("same"))
    named = redacted.withColumns({"same": same, "text_key": text_key(F.col("text"))})
    return named.withColumn("same_hash", same_hash)


def _given_identity() -> Column:
    return F.concat(F.lit(GIVEN), "user_id", F.lit(BETWEEN), "event_id")


def known_identities(stored: DataFrame) -> DataFrame:
    """(IDENTITY, known_place, known_ + COMPARED) of stored events, to find the records that repeat them.

    known_place: (ordinal, log_date), the ordinal NULL where the log gave the id.

    The ordinals of derived ids may have gaps: the days that are read again hold the others.
    """
    is_derived = F.startswith("event_id", F.lit(DERIVED))
    # A derived id is its content's hash and the ordinal.
    content = F.substring_index("event_id", "#", 1)
    same = F.when(is_derived, content).otherwise(_given_identity())
    ordinal = F.when(is_derived, F.substring_index("event_id", "#", -1).cast("int"))
    compared = compared_hashes(_stored_own_key())
    compared = {f"known_{name}": column for name, column in compared.items()}
    place = F.struct(ordinal.alias("ordinal"), "log_date")
    named = stored.withColumns({"same": same, "known_place": place, **compared})
    return named.withColumn("same_hash", F.xxhash64("same")).select(*IDENTITY, "known_place", *compared)


def _stored_own_key() -> Column:
    """The key of a stored event's own text, or else of its own title; NULL where it has neither."""
    own = F.when(F.col("own_text_key").isNull(), F.col("text_key")).otherwise(F.col("own_text_key"))
    return F.coalesce(F.nullif(own, F.lit("")), own_title_key())


def decide_fates(records: DataFrame, known: DataFrame, stored_text: ColumnFunction) -> DataFrame:
    """Every record with its fate, and an event id where the log gives none: the columns DECIDED.

    held_on: the later day under which an event is stored already that, had the days come in order, would be
    this record; mostly NULL.

    records: as `identify` returns them, checkpointed, since they are read more than once. known: as
    known_identities returns them, of the events stored on other days nearby. stored_text: the stored form of
    a column of texts.

    Most records share their identity with no other, and decide for themselves. A shuffle of hashes alone
    finds the ambiguous ones, so that only those move as complete rows.
    """
    ambiguous = ambiguous_hashes(records, known).localCheckpoint(eager=False)
    count = ambiguous.count()
    if not count:
        return fates_alone(records)
    if count > FEW_AMBIGUOUS:
        alone, compared = records.where("same_hash IS NULL"), records.where("same_hash IS NOT NULL")
    else:
        few = F.broadcast(ambiguous)
        alone = records.join(few, "same_hash", "left_anti")
        compared = records.join(few, "same_hash", "left_semi")
        known = known.join(few, "same_hash", "left_semi")
    decided = fates_compared(compared, known, stored_text)
    return fates_alone(alone).unionByName(decided.localCheckpoint(eager=False))


def ambiguous_hashes(records: DataFrame, known: DataFrame) -> DataFrame:
    """(same_hash) of the records that another record or a stored event may be equal to."""
    ours = records.where("same_hash IS NOT NULL").select(
        "same_hash", F.lit(1).alias("ours"), F.lit(0).alias("theirs")
    )
    theirs = known.select("same_hash", F.lit(0), F.lit(1))
    sums = F.sum("ours").alias("ours"), F.max("theirs").alias("theirs")
    counted = ours.union(theirs).groupBy("same_hash").agg(*sums)
    return counted.where("ours > 1 OR ours = 1 AND theirs = 1").select("same_hash")


def fates_alone(records: DataFrame) -> DataFrame:
    """The fates of records that no other is equal to."""
    reason = F.col("reason")
    fate = F.when(~F.col("passed"), FILTERED).when(reason == ERASED, ERASED)
    fate = fate.when(reason.isNotNull(), QUARANTINED).otherwise(STORED)
    event_id = F.coalesce("event_id", F.concat("same", F.lit("#0")))
    alone = {"ordinal": F.lit(0), "fate": fate, "event_id": event_id, "held_on": F.lit(None).cast("date")}
    return records.withColumns(alone).select(*DECIDED)


def fates_compared(records: DataFrame, known: DataFrame, stored_text: ColumnFunction) -> DataFrame:
    """The fates of records with equals: of equal ids the first by (log_date, source_file, ordinal) is stored.

    All have an identity, so none is filtered.
    """
    joined = _with_known(_placed(records), known)
    # Equal records without ids in one file are separate events; those of a second file repeat them one by
    # one.
    has_id = F.col("event_id").isNotNull()
    places = F.filter("known_places", lambda place: has_id | (place["ordinal"] == F.col("ordinal")))
    is_known = F.coalesce(F.size(places) > 0, F.lit(False))
    later = F.array_max(F.transform(places, lambda place: place["log_date"]))
    is_first = F.col("reason").isNull() & ~F.col("repeats")
    held_on = F.when(is_first & (later > F.col("log_date")), later)
    again = is_known | F.col("repeats")
    differs = _differs(is_known, stored_text)
    conflicts = F.col("reason").isNull() & again & differs
    judged = joined.withColumns({"held_on": held_on, "repeats": again, "conflict": conflicts})
    conflict = F.col("conflict")
    fields = F.to_json(F.struct(*EVENT_FIELDS))
    fate = F.when(F.col("reason").isNotNull() | conflict, QUARANTINED).when(F.col("repeats"), DUPLICATE)
    decided = {
        "fate": fate.otherwise(STORED),
        "event_id": F.coalesce("event_id", F.concat("same", F.lit("#"), "ordinal")),
        "reason": F.when(conflict, "conflicting_id").otherwise(F.col("reason")),
        "record_hash": F.when(conflict, F.sha2(fields, 256)).otherwise(F.col("record_hash")),
        "raw": F.when(conflict, F.substring(fields, 1, RECORD_HELD)).otherwise(F.col("raw")),
    }
    return judged.withColumns(decided).select(*DECIDED)


def _placed(records: DataFrame) -> DataFrame:
    """Adds the ordinal in the file, whether the record repeats one before, and the first one's fields.

    One shuffle and one sort serve every comparison: by identity, and within it by file, whose path begins
    with its log day. The hash comes first in the sort: identities begin alike and would be compared letter by
    letter.
    """
    rest = F.to_json(F.struct("title", _ordered("attributes")))
    together = records.withColumns(compared_hashes() | {"rest": rest}).repartition(*IDENTITY)
    in_file = Window.partitionBy(*IDENTITY, "source_file").orderBy(*COMPARED, "rest")
    placed = together.withColumn("ordinal", F.row_number().over(in_file) - 1)
    order = Window.partitionBy(*IDENTITY).orderBy("source_file", *COMPARED, "rest")
    earlier = F.max("ordinal").over(order.rowsBetween(Window.unboundedPreceding, -1))
    seen_before = F.coalesce(earlier >= F.col("ordinal"), F.lit(False))
    has_id = F.col("event_id").isNotNull()
    repeats = F.when(has_id, F.row_number().over(order) > 1).otherwise(seen_before)
    of_first = {f"first_{name}": F.first(name).over(order) for name in (*COMPARED, "title", "log_date")}
    return placed.withColumns({"repeats": repeats} | of_first)


def _with_known(placed: DataFrame, known: DataFrame) -> DataFrame:
    """With the stored events of the same identity; equal stored events differ in their place only."""
    stored = [F.max(f"known_{name}").alias(f"known_{name}") for name in COMPARED]
    places = F.collect_set("known_place").alias("known_places")
    return placed.join(known.groupBy(*IDENTITY).agg(places, *stored), [*IDENTITY], "left")


def _differs(is_known: Column, stored_text: ColumnFunction) -> Column:
    """Whether a repeated record has other content than the one it repeats.

    Across days a record without a text of its own contradicts none, and another is compared with the own text
    of the first, or else with its own title. A night finds their keys with the stored event; days that are
    read together must judge alike.
    """
    other = {
        name: F.when(is_known, F.col(f"known_{name}")).otherwise(F.col(f"first_{name}")) for name in COMPARED
    }
    same_day = ~is_known & (F.col("first_log_date") == F.col("log_date"))
    no_text = ~is_known & F.col("first_text_hash").isNull()
    titled = F.when(no_text, stored_text(F.col("first_title")))
    stored_hash = F.coalesce(other["text_hash"], F.when(titled.isNotNull(), F.xxhash64(text_key(titled))))
    contradicts = stored_hash.isNotNull() & (F.col("text_hash") != stored_hash)
    same_day_differs = ~F.col("text_hash").eqNullSafe(other["text_hash"])
    text_differs = F.when(same_day, same_day_differs).otherwise(contradicts)
    payload_differs = [F.col(name) != other[name] for name in ("payload_hash", "payload_hash_2")]
    return payload_differs[0] | payload_differs[1] | (F.col("text_hash").isNotNull() & text_differs)


def compared_hashes(key: Column | None = None) -> dict[str, Column]:
    """COMPARED: two independently seeded 64-bit hashes of an event's payload, and one of its text.

    key: of the text to compare; text_key without it.
    """
    key = F.col("text_key") if key is None else key
    fields = [_ordered(name) for name in PAYLOAD]
    # With a flag for NULL, which Spark's hash skips.
    parts = [part for column in fields for part in (column, F.isnull(column))]
    text_hash = F.when(key.isNotNull(), F.xxhash64(key))
    hashes = F.xxhash64(*parts), F.xxhash64(F.lit("too"), *parts), text_hash
    return dict(zip(COMPARED, hashes, strict=True))


def _ordered(name: str) -> Column:
    """A field independent of a map's order and with a time's full precision: JSON has milliseconds only."""
    if isinstance(EVENT_FIELDS[name], T.MapType):
        return F.array_sort(F.map_entries(name)).alias(name)
    is_time = isinstance(EVENT_FIELDS[name], T.TimestampType)
    return F.unix_micros(name).alias(name) if is_time else F.col(name)


def to_quarantine(rejected: DataFrame, redact: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """The rows of quarantined_events. redact: removes private data from raw and record_hash."""
    sentences = REASONS | ITEM_REASONS
    message = reduce(
        lambda so_far, code: so_far.when(F.col("reason") == code, sentences[code]),
        sentences,
        F.when(F.lit(False), ""),
    )
    rows = redact(rejected)
    columns = ["log_date", "source_file", "record_hash", "ordinal", "raw", "reason", "message"]
    return rows.withColumns({"message": message, "raw": F.substring("raw", 1, RAW_LIMIT)}).select(*columns)
