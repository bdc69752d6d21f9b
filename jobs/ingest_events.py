"""Turns log days into facts: events, item versions, and a quarantine for what can't be used.

Every record that is read gets one fate (stored, quarantined, duplicate, filtered, erased), and the fates are counted. A record's
identity is the log's own event id, or a hash of its mapped content and its ordinal among equal records of its file; so a file
delivered again adds nothing, while two equal purchases in one file both count.

    python -m jobs.ingest_events --logs DIR --date D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import reduce

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.functions import arrow_udf

from jobs.io import damage, delta, logs
from jobs.io.runs import Run, new_run_id, recorded, records
from jobs.io.shell import JobError, Parser, iso_day, job_parser, one_sentence, read_secret, run_main
from jobs.item_texts import item_candidates, item_versions, made_text, resolve_texts, to_events, with_item
from schemas import behavior_events, erased_users, items, quarantined_events
from schemas.mapping import EVENT_FIELDS, ITEM_FIELDS, ItemSource, LogMapping
from schemas.settings import IngestSettings, PrivacySettings, Settings
from schemas.table import Table
from udfs.privacy import KeyProblem, check_key, erased_user, key_id, keyed_record, keyed_user, scrub
from udfs.text import map_distinct, normalise

JOB = "ingest_events"
RAW_LIMIT = 2000
# What two records of one event id must agree in. The text is compared apart: a stored one may come from the item.
PAYLOAD = [name for name in EVENT_FIELDS if name not in ("event_id", "title", "text", "attributes")]
SAME = ["same_hash", "same"]
COMPARED = ["payload", "payload_too", "text_hash"]
IDS = ["event_id", "user_id", "event_type", "item_id", "retracts_event_id", "session_id"]
REASONS = {
    "unreadable": "the record can't be parsed",
    "wrong_type": "a field is not of its declared type",
    "over_long": "it has more text than ingest.max_record_kb, or an id longer than ingest.max_id_chars",
    "missing_user": "it has no user",
    "control_characters": "an id or a text has control characters",
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
# Versions of items that are sent to every machine: some ten megabytes.
FEW_VERSIONS = 100_000
# What an id begins with that the log did not give, so that no log can give it too.
DERIVED, GIVEN = "~", "given "
# The property of behavior_events that names the key of its user ids; without it they are as they came.
USER_KEY, PLAIN = "nightfold.user_key", "plain"
KEY_VARIABLE = "NIGHTFOLD_KEY"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


# ---- pure: records to fates


def fates_of(
    records: DataFrame, known: DataFrame, erased: DataFrame, mapping: LogMapping, settings: Settings, key: bytes | None
) -> DataFrame:
    """Every record as an event with its fate: rows of behavior_events but for their item's text, and of quarantined_events.

    records: as jobs.io.logs.read_days gives them; known: as known_events gives them; erased: rows of erased_users.
    """
    mapped = map_records(records, mapping, settings.privacy)
    reasoned = find_reasons(mapped, settings.fold.window_days, settings.ingest, list(settings.fold.type_weights))
    return decide_fates(identify(hide(reasoned, settings.privacy, key, erased)), known, compares_texts=not mapping.texts)


def map_records(records: DataFrame, mapping: LogMapping, privacy: PrivacySettings) -> DataFrame:
    """Every event field by the mapping's expressions, the text in its stored form; and whether the filter passes the record over."""
    fields = {name: _field(mapping.fields.get(name), type_) for name, type_ in EVENT_FIELDS.items()}
    if mapping.zone is not None:
        fields["utc_offset_min"] = _offset_minutes(fields["event_ts"], mapping.zone)
        fields["event_ts"] = F.to_utc_timestamp(fields["event_ts"], mapping.zone)
    fields |= {name: F.when(F.trim(fields[name]) != "", fields[name]) for name in IDS}
    # A retraction says nothing of its own: it takes its target away, and has no text.
    fields["text"] = normal_form(privacy)(F.when(fields["event_type"] != "retract", fields["text"]))
    scale = mapping.rating_max - mapping.rating_min
    fields["rating"] = (fields["rating"] - F.lit(mapping.rating_min)) / F.lit(scale)
    passed = F.coalesce(F.expr(mapping.filter), F.lit(False)) if mapping.filter is not None else F.lit(True)
    source = F.to_json(F.struct(*[F.col(f"`{name}`") for name in records.columns if name not in logs.ADDED]))
    return records.select(
        F.col(f"`{logs.LOG_DATE}`").alias("log_date"),
        F.col(f"`{logs.SOURCE_FILE}`").alias("source_file"),
        F.col(f"`{logs.UNREADABLE}`").alias("unreadable"),
        F.col(f"`{logs.WRONG_TYPE}`").alias("wrong_type"),
        source.alias("record"),
        (passed | F.col(f"`{logs.UNREADABLE}`").isNotNull()).alias("passed"),
        *[column.alias(name) for name, column in fields.items()],
    )


def _field(expression: str | None, type_: T.DataType) -> Column:
    return (F.lit(None) if expression is None else F.expr(expression)).cast(type_)


def _offset_minutes(local: Column, zone: str) -> Column:
    """Local time less UTC: `local` reads as if the local clock showed UTC."""
    return ((F.unix_seconds(local) - F.unix_seconds(F.to_utc_timestamp(local, zone))) / 60).cast("int")


def find_reasons(mapped: DataFrame, window_days: int, ingest: IngestSettings, known_types: Sequence[str]) -> DataFrame:
    """Adds event_date and, for a record that can't be an event, the first reason why (REASONS), its hash and itself as it was read."""
    late = F.date_diff("log_date", "event_date")
    is_retraction = F.col("event_type") == "retract"
    # What is JSON and was not read has a field of another type; what is not JSON, or no text, can't be read at all.
    is_text = ~F.contains("unreadable", F.lit("\ufffd"))
    is_json = F.try_parse_json("unreadable").isNotNull() & F.json_object_keys("unreadable").isNotNull() & is_text
    size = sum((F.coalesce(F.octet_length(name), F.lit(0)) for name in ("title", "text", "place", "device", *IDS)), F.lit(0))
    longest = F.greatest(*[F.char_length(name) for name in IDS])
    # Tabs and line ends are white space in a text, and nothing in an id.
    control = F.concat_ws(" ", *IDS).rlike(r"[\x00-\x1f\x7f-\x9f]") | F.concat_ws(" ", "text", "title").rlike(r"[\x00-\x08\x0e-\x1b\x7f]")
    numbers = [F.isnan(name) | (F.abs(name) == float("inf")) for name in ("value", "lat", "lon")]
    found = {
        "unreadable": F.col("unreadable").isNotNull() & ~is_json,
        "wrong_type": F.col("unreadable").isNotNull() | F.col("wrong_type").isNotNull(),
        "over_long": (size > ingest.max_record_kb * 1024) | (longest > ingest.max_id_chars),
        "missing_user": F.col("user_id").isNull(),
        "control_characters": control,
        "reserved_id": F.col("event_id").startswith(DERIVED),
        "bad_time": F.col("event_ts").isNull(),
        "future": late < -1,
        "too_late": late > window_days,
        "missing_type": F.col("event_type").isNull(),
        "unknown_type": F.lit(ingest.unknown_types == "quarantine") & ~F.col("event_type").isin("retract", *known_types),
        "no_target": is_retraction & F.col("retracts_event_id").isNull(),
        "no_text_no_item": ~is_retraction & F.col("text").isNull() & F.col("item_id").isNull(),
        "bad_rating": F.isnan("rating") | ~F.col("rating").between(0, 1),
        "bad_number": reduce(Column.__or__, numbers),
    }
    reason = F.when(~F.col("passed"), None)
    for code, condition in found.items():
        reason = reason.when(condition, code)
    raw = F.when(F.col("reason").isNotNull(), F.coalesce("unreadable", "record"))
    reasoned = mapped.withColumn("event_date", F.to_date("event_ts")).withColumn("reason", reason)
    hashed = {"record_hash": F.sha2(raw, 256), "raw": F.substring(raw, 1, RAW_LIMIT)}
    return reasoned.withColumns(hashed).drop("record", "unreadable", "wrong_type")


# ---- pure: what is hidden


def hide(reasoned: DataFrame, privacy: PrivacySettings, key: bytes | None, erased: DataFrame) -> DataFrame:
    """User ids and what a rejected record gives away hidden as the settings say, erased users marked.

    Before identities are made, so that what is derived from a record is derived from what may be stored of it. erased: user_hmac.
    """
    hidden = reasoned.withColumn("raw", scrubbed(privacy)(F.col("raw")))
    if key is None:
        return hidden.withColumn("is_erased", F.lit(False))
    hmac = of_distinct(lambda user: erased_user(key, user))
    marks = erased.select("user_hmac").distinct().withColumn("is_erased", F.lit(True))
    marked = hidden.withColumn("user_hmac", hmac(F.col("user_id"))).join(marks, "user_hmac", "left").drop("user_hmac")
    marked = marked.withColumn("is_erased", F.coalesce("is_erased", F.lit(False)))
    if privacy.user_ids == "plain":
        return marked
    # A raw record names its user, and so might its hash.
    named = {"user_id": lambda user: keyed_user(key, user), "record_hash": lambda record: keyed_record(key, record)}
    keyed = {name: of_distinct(function)(F.col(name)) for name, function in named.items()}
    return marked.withColumns(keyed | {"raw": F.when(F.col("raw").isNotNull(), F.lit(""))})


def normal_form(privacy: PrivacySettings) -> Callable[[Column], Column]:
    """The stored form of a column of texts: scrubbed where that is asked for, and normal as udfs/text.py has it."""
    region, scrubs = privacy.phone_region, privacy.scrub_texts
    return of_distinct(lambda text: normalise(scrub(text, region) if scrubs else text) or None)


def scrubbed(privacy: PrivacySettings) -> Callable[[Column], Column]:
    """A column of texts that are stored as they came, without private data where that is asked for."""
    region = privacy.phone_region
    return of_distinct(lambda text: scrub(text, region)) if privacy.scrub_texts else lambda column: column


def of_distinct(function: Callable[[str], str | None]) -> Callable[[Column], Column]:
    """A function of one text as one of a column, computed in Python once for each distinct text of a batch."""

    def apply(texts: pa.Array) -> pa.Array:
        return map_distinct(texts, function)

    made: Callable[[Column], Column] = arrow_udf(apply, T.StringType())  # type: ignore[call-overload]
    return made


# ---- pure: hidden records to fates


def identify(hidden: DataFrame) -> DataFrame:
    """Adds text_key and, to tell records apart: same, what equal ones share; COMPARED, what those of one id must agree in; and ordinal,
    the place among equal records of the file.

    One shuffle and one sort serve all that compares records: by `same`, and within it by file, whose path begins with its log day. The
    hash before `same` is for the sort, which else would compare ids that begin alike letter by letter.
    """
    # Without title and attributes, which tell of the item: two copies of a log that write it differently hold the same events.
    content = F.sha2(F.to_json(F.struct("text", *[_ordered(name) for name in PAYLOAD])), 256)
    same = (
        F.when(~F.col("passed") | F.col("is_erased"), F.lit(""))
        .when(F.col("reason").isNotNull(), F.concat(F.lit("rejected "), "record_hash"))
        .when(F.col("event_id").isNotNull(), F.concat(F.lit(GIVEN), "event_id"))
        .otherwise(F.concat(F.lit(DERIVED), content))
    )
    keyed = hidden.withColumns({"same": same, "text_key": F.sha2("text", 256)}).withColumns(compared_hashes())
    together = keyed.withColumn("same_hash", F.xxhash64("same")).repartition(*SAME)
    in_file = Window.partitionBy(*SAME, "source_file").orderBy(*COMPARED, "title")
    return together.withColumn("ordinal", F.row_number().over(in_file) - 1)


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


def known_identities(stored: DataFrame) -> DataFrame:
    """(SAME, known_ordinal, COMPARED with known_ before): what stored events share with records that repeat them."""
    is_derived = F.startswith("event_id", F.lit(DERIVED))
    # A derived id is the content it was derived from, and the ordinal.
    same = F.when(is_derived, F.substring_index("event_id", "#", 1)).otherwise(F.concat(F.lit(GIVEN), "event_id"))
    ordinal = F.when(is_derived, F.substring_index("event_id", "#", -1).cast("int"))
    named = stored.withColumns({"same": same, "known_ordinal": ordinal, **compared_hashes()}).withColumn("same_hash", F.xxhash64("same"))
    return named.groupBy(*SAME).agg(F.max("known_ordinal").alias("known_ordinal"), *[F.max(n).alias(f"known_{n}") for n in COMPARED])


def decide_fates(identified: DataFrame, known: DataFrame, compares_texts: bool) -> DataFrame:
    """Adds the fate of every record, and the event id where the log gives none: of equal ids the first by (log_date, source_file,
    ordinal) is stored.

    `known`: known_identities of the events stored on other days near by. Texts of theirs that a mapping made of several fields are not
    compared.
    """
    order = Window.partitionBy(*SAME).orderBy("source_file", *COMPARED)
    earlier = F.max("ordinal").over(order.rowsBetween(Window.unboundedPreceding, -1))
    has_id = F.col("event_id").isNotNull()
    # Without ids, equal records of one file are events of their own, and those of a second file repeat them one by one.
    repeats = F.when(has_id, F.row_number().over(order) > 1).otherwise(F.coalesce(earlier >= F.col("ordinal"), F.lit(False)))
    placed = identified.withColumns({"repeats": repeats, **{f"first_{name}": F.first(name).over(order) for name in COMPARED}})
    joined = placed.join(known, [*SAME], "left")
    counted = F.coalesce(F.col("known_ordinal") >= F.col("ordinal"), F.lit(False))
    is_known = F.when(has_id, F.col("known_payload").isNotNull()).otherwise(counted)
    other = {name: F.when(is_known, F.col(f"known_{name}")).otherwise(F.col(f"first_{name}")) for name in COMPARED}
    # A record without text of its own can't contradict one: a stored text may be the item's.
    other_text = F.col("text_hash").isNotNull() & ~F.col("text_hash").eqNullSafe(other["text_hash"])
    if not compares_texts:
        other_text = other_text & ~is_known
    differs = (F.col("payload") != other["payload"]) | (F.col("payload_too") != other["payload_too"]) | other_text
    usable = F.col("passed") & ~F.col("is_erased") & F.col("reason").isNull()
    told = joined.withColumns({"repeats": is_known | F.col("repeats"), "conflict": usable & (is_known | F.col("repeats")) & differs})
    conflict = F.col("conflict")
    fate = (
        F.when(~F.col("passed"), FILTERED)
        .when(F.col("is_erased"), ERASED)
        .when(F.col("reason").isNotNull() | conflict, QUARANTINED)
        .when(F.col("repeats"), DUPLICATE)
        .otherwise(STORED)
    )
    fields = F.to_json(F.struct(*EVENT_FIELDS))
    decided = told.withColumns(
        {
            "fate": fate,
            "event_id": F.coalesce("event_id", F.concat("same", F.lit("#"), "ordinal")),
            "reason": F.when(conflict, "conflicting_id").otherwise(F.col("reason")),
            "record_hash": F.when(conflict, F.sha2(fields, 256)).otherwise(F.col("record_hash")),
            "raw": F.when(conflict, F.substring(fields, 1, RAW_LIMIT)).otherwise(F.col("raw")),
        }
    )
    shown = ["log_date", "event_date", "fate", *EVENT_FIELDS, "text_key", "source_file", "ordinal", "reason", "record_hash", "raw"]
    return decided.select(*shown)


def to_quarantine(fated: DataFrame) -> DataFrame:
    message = reduce(lambda told, code: told.when(F.col("reason") == code, REASONS[code]), REASONS, F.when(F.lit(False), ""))
    rows = fated.where(F.col("fate") == QUARANTINED).withColumns({"line": F.lit(None).cast("int"), "message": message})
    return rows.select(*quarantined_events.TABLE.names)


# ---- the edges


def ingest_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, logs_root: str, mapping: LogMapping, days: Sequence[date]
) -> None:
    """Reads the closed log days, at most `most_days` in a row, and writes each of the three tables in one commit."""
    privacy = settings.privacy
    if len(days) > most_days(settings):
        raise ValueError(f"{len(days)} days are more than the look-back for doubles covers at a time")
    logs.require_closed(spark, logs_root, days)
    first, last = days[0], days[-1]
    folders = [logs.day_folder(logs_root, day) for day in days]
    erased = delta.read_table(spark, warehouse, erased_users.TABLE)
    key = user_key(privacy, is_needed=privacy.user_ids == "keyed" or not erased.isEmpty())
    keys_name = key_id(key) if key is not None and privacy.user_ids == "keyed" else PLAIN
    require_same_key(spark, warehouse, keys_name)
    with run.phase("look"):
        promised = damage.require_whole(spark, mapping.source.format, folders, settings.ingest.max_expansion)
    known = known_events(spark, warehouse, first, last, settings.fold.window_days)
    try:
        fated = fates_of(logs.read_days(spark, mapping.source, folders, logs_root), known, erased, mapping, settings, key)
    except AnalysisException as error:
        raise JobError(f"the mapping does not fit the logs: {one_sentence(error)}") from error
    with run.phase("read"), damage.named():
        # Rows as they are, where persist would turn them into columns and back: a third of the whole ingest.
        fated = fated.localCheckpoint()
        found = fated.groupBy("log_date", "fate", "reason").count().collect()
        damage.require_promised(fated, promised, logs_root)
    run.counts |= count_fates(found)
    most = settings.ingest.max_bad_share if mapping.max_bad_share is None else mapping.max_bad_share
    refused = bad_day(found, most)
    is_again = was_ingested(spark, warehouse, run, first, last)
    stored = fated.where(F.col("fate") == STORED)
    with run.phase("write"):
        # Beside the items: a small commit is mostly waiting.
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(replace_days, spark, warehouse, quarantined_events.TABLE, to_quarantine(fated), first, last, is_again)
            versions = None
            if refused is None:
                versions = write_items(spark, warehouse, logs_root, mapping, privacy, stored, first, last, is_again)
            beside.result()
        if versions is None:
            raise JobError(f"{refused}; only quarantined_events was written")
        resolved = with_texts(with_item(stored, versions), mapping, privacy)
        name_key(spark, warehouse, keys_name)
        events = to_events(resolved, settings.store.user_buckets)
        replace_days(spark, warehouse, behavior_events.TABLE, events, first, last, is_again)


def with_texts(of_item: DataFrame, mapping: LogMapping, privacy: PrivacySettings) -> DataFrame:
    """The events with their text: what the mapping's texts make of them, else their own, else their item's."""
    if not mapping.texts:
        return resolve_texts(of_item)
    try:
        made = of_item.withColumn("made", made_text(mapping.texts))
    except AnalysisException as error:
        raise JobError(f"the mapping's texts do not fit: {one_sentence(error)}") from error
    made = made.withColumn("made", normal_form(privacy)(F.col("made")))
    return resolve_texts(made.withColumns({"text": F.coalesce("made", "text"), "text_key": F.coalesce(F.sha2("made", 256), "text_key")}))


def user_key(privacy: PrivacySettings, is_needed: bool) -> bytes | None:
    """The secret key, where something asks for it."""
    if not is_needed:
        return None
    try:
        return check_key(read_secret(privacy.key_file, KEY_VARIABLE))
    except KeyProblem as error:
        raise JobError(str(error)) from error


def require_same_key(spark: SparkSession, warehouse: str, name: str) -> None:
    """Stops where the stored user ids were made by another key, or by none: a user would get a second profile."""
    if not delta.table_exists(spark, warehouse, behavior_events.TABLE):
        return
    stored = delta.properties(spark, warehouse, behavior_events.TABLE).get(USER_KEY, PLAIN)
    if stored != name:
        shown = {PLAIN: "as they came"}
        raise JobError(
            f"this warehouse holds user ids {shown.get(stored, f'keyed by key {stored}')}, and the settings ask for ids "
            f"{shown.get(name, f'keyed by key {name}')}; the two never mix: use a new warehouse"
        )


def name_key(spark: SparkSession, warehouse: str, name: str) -> None:
    """Notes the key of user ids in the table that holds them first."""
    if name != PLAIN and not delta.table_exists(spark, warehouse, behavior_events.TABLE):
        delta.open_table(spark, warehouse, behavior_events.TABLE)
        delta.set_property(spark, warehouse, behavior_events.TABLE, USER_KEY, name)


def bad_day(found: Sequence[Row], most: float) -> str | None:
    """What is wrong with the first log day with too many unusable records, None where there is none. found: log_date, fate, count."""
    for day in sorted({row["log_date"] for row in found}):
        of_day = [row for row in found if row["log_date"] == day and row["fate"] in (STORED, QUARANTINED, DUPLICATE)]
        read, bad = sum(row["count"] for row in of_day), sum(row["count"] for row in of_day if row["fate"] == QUARANTINED)
        if bad > most * read:
            return f"{bad} of {read} records of {day} can't be used, more than ingest.max_bad_share allows ({most:g})"
    return None


def was_ingested(spark: SparkSession, warehouse: str, run: Run, first: date, last: date) -> bool:
    """Whether an ingest of one of the days was ever begun before this one."""
    others = [r for r in records(spark, warehouse) if r.job == JOB and (r.run_id, r.attempt) != (run.run_id, run.attempt)]
    return any(r.first <= last and first <= r.last for r in others)


def most_days(settings: Settings) -> int:
    """Days read at once: doubles are looked for just as far in one night, so that a chunk decides like the nights in it."""
    return settings.fold.window_days + 2


def known_events(spark: SparkSession, warehouse: str, first: date, last: date, window: int) -> DataFrame:
    """What identifies the stored events near the days but not of them; a double can't come from further off, or it is too late."""
    reach = timedelta(days=window + 1)
    log_date = F.col("log_date")
    near = log_date.between(first - reach, last + reach) & ~log_date.between(first, last)
    return known_identities(delta.read_table(spark, warehouse, behavior_events.TABLE).where(near))


def write_items(
    spark: SparkSession,
    warehouse: str,
    logs_root: str,
    mapping: LogMapping,
    privacy: PrivacySettings,
    stored: DataFrame,
    first: date,
    last: date,
    is_again: bool,
) -> DataFrame:
    """Writes the days' item versions; returns all versions up to the last day."""
    kept = delta.read_table(spark, warehouse, items.TABLE).where(F.col("valid_from") < first)
    candidates = item_candidates(stored).withColumn("text", F.col("title"))
    if mapping.items is not None:
        delivered = delivered_items(spark, logs_root, mapping.items, first, last, all_before=kept.isEmpty())
        # A catalogue knows its items better than the titles of events do.
        candidates = candidates.join(delivered, ["item_id", "log_date"], "left_anti").unionByName(delivered)
    shown = candidates.withColumns({"title": scrubbed(privacy)(F.col("title")), "text": normal_form(privacy)(F.col("text"))})
    fresh = item_versions(shown.withColumn("text_key", F.sha2("text", 256)), kept).persist()
    replace(spark, warehouse, items.TABLE, fresh, f"valid_from >= DATE'{first}' AND valid_from <= DATE'{last}'", is_again)
    versions = kept.unionByName(fresh)
    # Where they fit on every machine, the events need not be moved to meet them; Spark can't tell beforehand.
    fits = kept.limit(FEW_VERSIONS + 1).count() + fresh.count() <= FEW_VERSIONS
    return F.broadcast(versions) if fits else versions


def delivered_items(spark: SparkSession, logs_root: str, source: ItemSource, first: date, last: date, all_before: bool) -> DataFrame:
    """(item_id, log_date, title, attributes, text) of the item source; with `all_before`, earlier deliveries count as of the first day."""
    days = [day for day in logs.day_folders(spark, f"{logs_root}/items") if (all_before or first <= day) and day <= last]
    records = logs.read_days(spark, source.source, [logs.items_folder(logs_root, day) for day in days], logs_root)
    fields = {name: _field(source.fields.get(name), type_) for name, type_ in ITEM_FIELDS.items()}
    named = records.select(F.col(f"`{logs.LOG_DATE}`").alias("delivered"), *[column.alias(name) for name, column in fields.items()])
    texts = named.where("item_id IS NOT NULL").withColumn("text", F.coalesce("text", "title"))
    # A file's order is no order: of several rows for an item in one delivery the greatest counts.
    last_row = F.max(F.struct("delivered", "title", "text", F.to_json("attributes").alias("attributes"))).alias("row")
    chosen = texts.groupBy("item_id", F.greatest("delivered", F.lit(first)).alias("log_date")).agg(last_row)
    attributes = F.from_json("row.attributes", ITEM_FIELDS["attributes"].simpleString()).alias("attributes")
    return chosen.select("item_id", "log_date", "row.title", attributes, "row.text")


def replace_days(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, first: date, last: date, is_again: bool) -> None:
    replace(spark, warehouse, table, rows, f"log_date >= DATE'{first}' AND log_date <= DATE'{last}'", is_again)


def replace(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, predicate: str, is_again: bool) -> None:
    """Puts rows in the place of the stored ones; where they are the same rows already, no commit is made."""
    if is_again:
        stored = delta.read_table(spark, warehouse, table).where(predicate)
        if delta.table_exists(spark, warehouse, table) and delta.same_rows(stored, delta.conformed(rows, table), table.names):
            return
    delta.overwrite_where(spark, warehouse, table, rows, predicate)


def count_fates(found: Sequence[Row]) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate (law 2). found: fate, reason, count."""
    by_fate = {fate: sum(row["count"] for row in found if row["fate"] == fate) for fate in FATES}
    reasons = Counter({f"quarantined_{row['reason']}": 0 for row in found if row["fate"] == QUARANTINED})
    for row in found:
        if row["fate"] == QUARANTINED:
            reasons[f"quarantined_{row['reason']}"] += row["count"]
    return {"read": sum(by_fate[fate] for fate in (STORED, QUARANTINED, DUPLICATE)), **by_fate, **dict(sorted(reasons.items()))}


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    logs.require_closed(spark, args.logs, [args.date])
    run_id, folder = args.run_id or new_run_id(JOB, args.date), logs.day_folder(args.logs, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date, reads=[folder]) as record:
        ingest_days(spark, args.warehouse, args.config, record, args.logs, args.mapping, [args.date])


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
