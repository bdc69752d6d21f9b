"""From records as they were read to the fate of each: stored, quarantined, duplicate, filtered or erased.

A record's identity is the log's own event id, or a hash of its mapped content and its ordinal among equal records of its file; so a
file delivered again adds nothing, while two equal purchases in one file both count.
"""

from collections.abc import Callable, Sequence
from functools import reduce

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io import logs
from jobs.private_data import hide
from schemas.mapping import EVENT_FIELDS, LogMapping
from schemas.settings import IngestSettings, Settings
from udfs.privacy import RECORD_HELD

# Characters of a rejected record that are stored; more are held until private data is out of it.
RAW_LIMIT = 2000
# What two records of one event id must agree in. The text is compared apart: a stored one may come from the item.
PAYLOAD = [name for name in EVENT_FIELDS if name not in ("event_id", "title", "text", "attributes")]
SAME = ["same_hash", "same"]
COMPARED = ["payload", "payload_too", "text_hash"]
IDS = ["event_id", "user_id", "event_type", "item_id", "retracts_event_id", "session_id"]
REASONS = {
    "unreadable": "the record can't be parsed",
    "wrong_type": "a field is not of its declared type",
    "over_long": "it holds more than ingest.max_record_kb, or an id longer than ingest.max_id_chars",
    "missing_user": "it has no user",
    "control_characters": "it has control characters, or an id has bytes that are not of the source's encoding",
    "reserved_id": "its event id begins as only derived ones do",
    "bad_time": "its time is missing or can't be read",
    "future": "it happened more than a day after its log day",
    "too_late": "it came later than fold.window_days allows",
    "missing_type": "it has no event type",
    "unknown_type": "its event type is not one of fold.type_weights",
    "no_target": "it is a retraction without retracts_event_id",
    "no_text_no_item": "it has neither text nor item",
    "bad_rating": "its rating is outside rating_min..rating_max",
    "bad_number": "its value, lat or lon is not a finite number",
    "conflicting_id": "another record has its event id, and other content",
}
STORED, QUARANTINED, DUPLICATE, FILTERED, ERASED = FATES = "stored", "quarantined", "duplicate", "filtered", "erased"
DECIDED = ["log_date", "event_date", "fate", *EVENT_FIELDS, "text_key", "source_file", "ordinal", "reason", "record_hash", "raw"]
# What an id begins with that the log did not give, so that no log can give it too.
DERIVED, GIVEN = "~", "given "
# Records in doubt whose hashes are sent to every machine: a few megabytes.
FEW_DOUBTS = 200_000
# What a time begins with that is no time of today's: Spark would read '12:30' as such.
FULL_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
# Before the names of the source's own fields, which keeps them apart from ours.
AS_READ = "as read "
# Tabs and line ends are white space in a text, and nothing in an id; nor is what stands for bytes of another encoding, which would make
# one id of several.
NOT_IN_IDS, NOT_IN_TEXTS = "[\\x00-\\x1f\\x7f-\\x9f\ufffd]", r"[\x00-\x08\x0e-\x1b\x7f]"
# What normalise (udfs/text.py) takes for white space.
BLANKS = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def identified(records: DataFrame, erased: DataFrame, mapping: LogMapping, settings: Settings, key: bytes | None) -> DataFrame:
    """Every record with its event fields, why it can't be an event, and what identifies it; each by itself, without a shuffle.

    records: as jobs.io.logs.read_days gives them; erased: rows of erased_users.
    """
    mapped = map_records(records, mapping)
    reasoned = find_reasons(mapped, settings.fold.window_days, settings.ingest, list(settings.fold.type_weights))
    return identify(hide(reasoned, settings.privacy, key, erased))


def map_records(records: DataFrame, mapping: LogMapping) -> DataFrame:
    """Every event field by the mapping's expressions, and whether the filter lets the record pass; with the source's own fields."""
    fields = {name: field(mapping.fields.get(name), type_) for name, type_ in EVENT_FIELDS.items()}
    fields |= times_of(records, mapping)
    fields |= {name: _unless_blank(fields[name]) for name in IDS}
    fields |= {name: once_each(fields[name]) for name in ("attributes", "extra")}
    # A retraction says nothing of its own: it takes its target away, and has no text.
    fields["text"] = F.when(fields["event_type"] != "retract", fields["text"])
    scale = mapping.rating_max - mapping.rating_min
    fields["rating"] = (fields["rating"] - F.lit(mapping.rating_min)) / F.lit(scale)
    unreadable = F.col(logs.quoted(logs.UNREADABLE))
    passed = F.coalesce(F.expr(mapping.filter), F.lit(False)) | unreadable.isNotNull() if mapping.filter is not None else F.lit(True)
    return records.select(
        F.col(logs.quoted(logs.LOG_DATE)).alias("log_date"),
        F.col(logs.quoted(logs.SOURCE_FILE)).alias("source_file"),
        unreadable.alias("unreadable"),
        F.col(logs.quoted(logs.WRONG_TYPE)).alias("wrong_type"),
        *[F.col(logs.quoted(name)).alias(f"{AS_READ}{name}") for name in records.columns if name not in logs.ADDED],
        passed.alias("passed"),
        *[column.alias(name) for name, column in fields.items()],
    )


def misfit(records: DataFrame, mapping: LogMapping) -> str:
    """The name of the first expression of the mapping that can't be asked of the records, as the beginning of a sentence."""
    for name, expression in {**mapping.fields, "filter": mapping.filter or "true"}.items():
        try:
            records.select(F.expr(expression))
        except AnalysisException:
            return f"{name}: "
    return ""


def field(expression: str | None, type_: T.DataType) -> Column:
    return (F.lit(None) if expression is None else F.expr(expression)).cast(type_)


def _unless_blank(text: Column) -> Column:
    # What begins with anything above a blank is not blank: comparing costs less than trimming every id.
    return F.when((text >= "!") | (F.trim(text) != ""), text)


def once_each(map_: Column) -> Column:
    """A map with each key once, the last of several (jobs/io/session.py): JSON's reader keeps all that there are."""
    return F.map_from_entries(F.map_entries(map_))


def can_be_seen(text: Column) -> Column:
    """Whether a text is more than white space. Most begin with a character of ASCII that can be seen, and are not searched."""
    return text.between("!", "~") | text.rlike(f"[^{BLANKS}]")


def times_of(records: DataFrame, mapping: LogMapping) -> dict[str, Column]:
    """event_ts as an instant, of whatever kind the mapping's expression is; and utc_offset_min where it follows from that or from the zone.

    A number is an instant; a time or a text without offset is local time of the zone, or of UTC without one.
    """
    time = F.expr(mapping.fields["event_ts"])
    kind = records.select(time).schema[0].dataType
    is_text, offset = isinstance(kind, T.StringType), None
    read = F.when(time.rlike(FULL_DATE), time).cast("timestamp") if is_text else time.cast("timestamp")
    if isinstance(kind, T.NumericType):
        instant = instant_of(time)
        if mapping.zone is not None:
            offset = _minutes_after(instant, F.from_utc_timestamp(instant, mapping.zone))
    elif mapping.zone is not None:
        instant = F.to_utc_timestamp(read, mapping.zone)
        offset = _minutes_after(instant, read)
    elif is_text:
        is_number = time.rlike(r"^[0-9]{9,16}([.][0-9]{1,9})?$")
        instant = F.when(is_number, instant_of(F.when(is_number, time).cast(T.DecimalType(25, 9)))).otherwise(read)
        offset = _offset_at_end(time)
    else:
        instant = read
    given = "utc_offset_min" in mapping.fields
    return {"event_ts": instant} if offset is None or given else {"event_ts": instant, "utc_offset_min": offset}


def instant_of(number: Column) -> Column:
    """The time that a number of seconds, milliseconds or microseconds since 1970 stands for; which it is, its size tells."""
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    millis, micros = F.timestamp_millis(number.cast("long")), F.timestamp_micros(number.cast("long"))
    return F.when(F.abs(number) < 1e11, seconds).when(F.abs(number) < 1e14, millis).otherwise(micros)


def _minutes_after(utc: Column, local: Column) -> Column:
    """Local time less UTC, where `local` reads as if the local clock showed UTC."""
    return ((F.unix_seconds(local) - F.unix_seconds(utc)) / 60).cast("int")


def _offset_at_end(time: Column) -> Column:
    """The minutes of an ISO time's offset, as in +02:00, +0200 or Z; NULL without one."""
    hours, minutes = (F.regexp_extract(time, r"[T ][0-9:.]+[+-]([0-9]{2}):?([0-9]{2})$", group).cast("int") for group in (1, 2))
    sign = F.when(time.rlike(r"-[0-9]{2}:?[0-9]{2}$"), -1).otherwise(1)
    return F.when(time.endswith("Z"), 0).otherwise(sign * (60 * hours + minutes))


def find_reasons(mapped: DataFrame, window_days: int, ingest: IngestSettings, known_types: Sequence[str]) -> DataFrame:
    """Adds event_date and, for a record that can't be an event, the first reason why (REASONS), itself as it was read, and its hash."""
    late = F.date_diff("log_date", "event_date")
    is_retraction = F.col("event_type") == "retract"
    # What is JSON and was not read has a field of another type; what is not JSON, or no text, can't be read at all.
    is_text = ~F.contains("unreadable", F.lit("\ufffd"))
    is_json = F.try_parse_json("unreadable").isNotNull() & F.json_object_keys("unreadable").isNotNull() & is_text
    parts = [*IDS, "title", "text", "place", "device", "companions"]
    maps = [of(name) for name in ("attributes", "extra") for of in (F.map_keys, F.map_values)]
    everything = F.concat_ws(" ", *parts, *maps)
    size = F.octet_length(everything)
    # Bytes are counted sooner than characters, and are as many at least.
    too_long = [F.greatest(*[length(name) for name in IDS]) > ingest.max_id_chars for length in (F.octet_length, F.char_length)]
    # Few records have any of them: one look at all, then at each.
    control = everything.rlike(NOT_IN_IDS) & (F.concat_ws(" ", *IDS).rlike(NOT_IN_IDS) | everything.rlike(NOT_IN_TEXTS))
    no_text = ~F.coalesce(can_be_seen(F.col("text")), F.lit(False))
    numbers = [F.isnan(name) | (F.abs(name) == float("inf")) for name in ("value", "lat", "lon")]
    found = {
        "unreadable": F.col("unreadable").isNotNull() & ~is_json,
        "wrong_type": F.col("unreadable").isNotNull() | F.col("wrong_type").isNotNull(),
        "over_long": (size > ingest.max_record_kb * 1024) | (too_long[0] & too_long[1]),
        "missing_user": F.col("user_id").isNull(),
        "control_characters": control,
        "reserved_id": F.col("event_id").startswith(DERIVED),
        "bad_time": F.col("event_ts").isNull(),
        "future": late < -1,
        "too_late": late > window_days,
        "missing_type": F.col("event_type").isNull(),
        "unknown_type": F.lit(ingest.unknown_types == "quarantine") & ~F.col("event_type").isin("retract", *known_types),
        "no_target": is_retraction & F.col("retracts_event_id").isNull(),
        "no_text_no_item": ~is_retraction & F.col("item_id").isNull() & no_text,
        "bad_rating": F.isnan("rating") | ~F.col("rating").between(0, 1),
        "bad_number": reduce(Column.__or__, numbers),
    }
    reason = F.when(~F.col("passed"), None)
    for code, condition in found.items():
        reason = reason.when(condition, code)
    source = [F.col(logs.quoted(name)).alias(name.removeprefix(AS_READ)) for name in mapped.columns if name.startswith(AS_READ)]
    # What is not of its type is NULL among the source's fields.
    source.append(F.col("wrong_type").alias("not of its type"))
    raw = F.when(F.col("reason").isNotNull(), F.coalesce("unreadable", F.to_json(F.struct(*source))))
    reasoned = mapped.withColumn("event_date", F.to_date("event_ts")).withColumn("reason", reason).withColumn("raw", raw)
    # The text of a reject is not needed, and may be of any length.
    text = F.when(F.col("reason").isNull(), F.col("text"))
    kept = reasoned.withColumns({"record_hash": F.sha2("raw", 256), "raw": F.substring("raw", 1, RECORD_HELD), "text": text})
    return kept.select("log_date", "event_date", "source_file", "passed", "reason", "record_hash", "raw", *EVENT_FIELDS)


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
    return hidden.withColumns({"same": same, "text_key": F.sha2("text", 256)}).withColumn("same_hash", same_hash)


def known_identities(stored: DataFrame) -> DataFrame:
    """(SAME, known_ordinal, COMPARED with known_ before): what stored events share with records that repeat them.

    The ordinals of derived ids need not be all up to the greatest: the days that are read anew hold the others.
    """
    is_derived = F.startswith("event_id", F.lit(DERIVED))
    # A derived id is the content it was derived from, and the ordinal.
    same = F.when(is_derived, F.substring_index("event_id", "#", 1)).otherwise(F.concat(F.lit(GIVEN), "event_id"))
    ordinal = F.when(is_derived, F.substring_index("event_id", "#", -1).cast("int"))
    compared = {f"known_{name}": column for name, column in compared_hashes().items()}
    named = stored.withColumns({"same": same, "known_ordinal": ordinal, **compared}).withColumn("same_hash", F.xxhash64("same"))
    return named.select(*SAME, "known_ordinal", *compared)


def decide_fates(records: DataFrame, known: DataFrame, compares_texts: bool, normal: Callable[[Column], Column]) -> DataFrame:
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
        alone, doubted = records.join(few, "same_hash", "left_anti"), records.join(few, "same_hash", "left_semi")
        known = known.join(few, "same_hash", "left_semi")
    return fates_alone(alone).unionByName(fates_compared(doubted, known, compares_texts, normal).localCheckpoint(eager=False))


def doubtful_hashes(records: DataFrame, known: DataFrame) -> DataFrame:
    """(same_hash) of the records that another record or a stored event may be equal to."""
    ours = records.where("same_hash IS NOT NULL").select("same_hash", F.lit(1).alias("ours"), F.lit(0).alias("theirs"))
    theirs = known.select("same_hash", F.lit(0), F.lit(1))
    counted = ours.union(theirs).groupBy("same_hash").agg(F.sum("ours").alias("ours"), F.max("theirs").alias("theirs"))
    return counted.where("ours > 1 OR ours = 1 AND theirs = 1").select("same_hash")


def fates_alone(records: DataFrame) -> DataFrame:
    """The fates of records that no other is equal to."""
    fate = (
        F.when(~F.col("passed"), FILTERED).when(F.col("is_erased"), ERASED).when(F.col("reason").isNotNull(), QUARANTINED).otherwise(STORED)
    )
    told = {"ordinal": F.lit(0), "fate": fate, "event_id": F.coalesce("event_id", F.concat("same", F.lit("#0")))}
    return records.withColumns(told).select(*DECIDED)


def fates_compared(records: DataFrame, known: DataFrame, compares_texts: bool, normal: Callable[[Column], Column]) -> DataFrame:
    """The fates of records among which there are equals: of equal ids the first by (log_date, source_file, ordinal) is stored.

    All have an identity, so none is filtered or erased.

    One shuffle and one sort serve all that compares records: by `same`, and within it by file, whose path begins with its log day. The
    hash before `same` is for the sort, which else would compare ids that begin alike letter by letter.
    """
    together = records.withColumns(compared_hashes() | {"rest": F.to_json(F.struct("title", _ordered("attributes")))}).repartition(*SAME)
    in_file = Window.partitionBy(*SAME, "source_file").orderBy(*COMPARED, "rest")
    placed = together.withColumn("ordinal", F.row_number().over(in_file) - 1)
    order = Window.partitionBy(*SAME).orderBy("source_file", *COMPARED, "rest")
    earlier = F.max("ordinal").over(order.rowsBetween(Window.unboundedPreceding, -1))
    has_id = F.col("event_id").isNotNull()
    # Without ids, equal records of one file are events of their own, and those of a second file repeat them one by one.
    repeats = F.when(has_id, F.row_number().over(order) > 1).otherwise(F.coalesce(earlier >= F.col("ordinal"), F.lit(False)))
    of_first = {f"first_{name}": F.first(name).over(order) for name in (*COMPARED, "title", "log_date")}
    placed = placed.withColumns({"repeats": repeats} | of_first)
    # Equal stored events differ in their ordinal only.
    stored = [F.max(f"known_{name}").alias(f"known_{name}") for name in COMPARED]
    joined = placed.join(known.groupBy(*SAME).agg(F.collect_set("known_ordinal").alias("known_ordinals"), *stored), [*SAME], "left")
    counted = F.coalesce(F.array_contains("known_ordinals", F.col("ordinal")), F.lit(False))
    is_known = F.when(has_id, F.col("known_payload").isNotNull()).otherwise(counted)
    other = {name: F.when(is_known, F.col(f"known_{name}")).otherwise(F.col(f"first_{name}")) for name in COMPARED}
    # A record without text of its own can't contradict one: a stored text may be the item's. Of an event of another day a night knows
    # what was stored, so days that are read together look at that too: its own text, or else what its title makes of it.
    same_day = ~is_known & (F.col("first_log_date") == F.col("log_date"))
    named = F.when(~is_known & F.col("first_text_hash").isNull(), normal(F.col("first_title")))
    that_day = F.coalesce(other["text_hash"], F.when(named.isNotNull(), F.xxhash64(F.sha2(named, 256))))
    other_text = F.when(same_day, ~F.col("text_hash").eqNullSafe(other["text_hash"])).otherwise(
        F.lit(compares_texts) & that_day.isNotNull() & (F.col("text_hash") != that_day)
    )
    other_text = F.col("text_hash").isNotNull() & other_text
    differs = (F.col("payload") != other["payload"]) | (F.col("payload_too") != other["payload_too"]) | other_text
    again = is_known | F.col("repeats")
    told = joined.withColumns({"repeats": again, "conflict": F.col("reason").isNull() & again & differs})
    conflict = F.col("conflict")
    fields = F.to_json(F.struct(*EVENT_FIELDS))
    decided = {
        "fate": F.when(F.col("reason").isNotNull() | conflict, QUARANTINED).when(F.col("repeats"), DUPLICATE).otherwise(STORED),
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
    hashes = F.xxhash64(*shown), F.xxhash64(F.lit("too"), *shown), F.when(F.col("text_key").isNotNull(), F.xxhash64("text_key"))
    return dict(zip(COMPARED, hashes, strict=True))


def _ordered(name: str) -> Column:
    """A field in a form that says the same whatever the order of a map's entries, and all of a time: as JSON it has milliseconds."""
    if isinstance(EVENT_FIELDS[name], T.MapType):
        return F.array_sort(F.map_entries(name)).alias(name)
    return F.unix_micros(name).alias(name) if isinstance(EVENT_FIELDS[name], T.TimestampType) else F.col(name)


def to_quarantine(fated: DataFrame, hide_record: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """The rows of quarantined_events. hide_record: what private data there is in raw and record_hash hides it."""
    message = reduce(lambda told, code: told.when(F.col("reason") == code, REASONS[code]), REASONS, F.when(F.lit(False), ""))
    rows = hide_record(fated.where(F.col("fate") == QUARANTINED))
    told = {"line": F.lit(None).cast("int"), "message": message, "raw": F.substring("raw", 1, RAW_LIMIT)}
    return rows.withColumns(told).select("log_date", "source_file", "record_hash", "ordinal", "raw", "line", "reason", "message")
