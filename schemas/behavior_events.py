"""The facts: one row for each accepted event of the logs."""

from schemas.table import (
    DATE,
    DOUBLE,
    INT,
    STRING,
    STRINGS,
    TEXT_MAP,
    TIMESTAMP,
    Check,
    Column,
    Rule,
    Table,
    unique,
)

TABLE = Table(
    name="behavior_events",
    comment="Every accepted event, as it came: facts only. Weights, caps and bot marks are computed by the fold.",
    key=("event_id",),
    written_by="ingest_events",
    reach="log_date",
    reach_margin_days=1,
    sizes_night=True,
    partition_by=("log_date",),
    columns=(
        Column(
            "event_id",
            STRING,
            "the log's own id, or a hash of content and ordinal among equal records",
            private=True,
        ),
        Column("user_id", STRING, "whose behaviour it is", private=True),
        Column(
            "user_bucket",
            INT,
            "pmod(xxhash64(user_id), buckets): lets keyed reads prune without ids in statistics",
        ),
        Column("event_ts", TIMESTAMP, "when it happened, UTC"),
        Column("event_date", DATE, "UTC date of event_ts"),
        Column("log_date", DATE, "day of the log folder it arrived in"),
        Column("utc_offset_min", INT, "local time less UTC at the event, minutes", nullable=True),
        Column("event_type", STRING, "view, click, cart, purchase, rating, review, return, retract, ..."),
        Column("item_id", STRING, "the item it is about", nullable=True, private=True),
        Column(
            "text",
            STRING,
            "normalised text: the event's own, else its item's on log_date",
            nullable=True,
            private=True,
        ),
        Column("text_key", STRING, "SHA-256 of text, lower-case hex", nullable=True, private=True),
        Column(
            "rating",
            DOUBLE,
            "rating rescaled to 0..1 by the mapping's rating_min and rating_max",
            nullable=True,
        ),
        Column(
            "value", DOUBLE, "amount of the event in the log's own unit (price, seconds, ...)", nullable=True
        ),
        Column(
            "retracts_event_id",
            STRING,
            "the event of the same user that this one takes out",
            nullable=True,
            private=True,
        ),
        Column("place", STRING, "where, in the log's words", nullable=True, private=True),
        Column("device", STRING, "on what, in the log's words", nullable=True),
        Column("session_id", STRING, "the log's session", nullable=True, private=True),
        Column("lat", DOUBLE, "latitude, degrees", nullable=True, private=True),
        Column("lon", DOUBLE, "longitude, degrees", nullable=True, private=True),
        Column("companions", STRINGS, "who else was there, in the log's words", nullable=True, private=True),
        Column("extra", TEXT_MAP, "further fields the mapping keeps", nullable=True, private=True),
        Column("source_file", STRING, "file it was read from, relative to the logs folder", private=True),
        Column("ordinal", INT, "its place among equal records of its file, from 0"),
    ),
    checks=(
        Check("user_id_given", "length(user_id) > 0"),
        Check("event_date_of_event_ts", "event_date = CAST(event_ts AS DATE)"),
        Check("rating_in_range", "rating IS NULL OR rating BETWEEN 0 AND 1"),
        Check("text_and_key_together", "(text IS NULL) = (text_key IS NULL)"),
    ),
    rules=(
        unique("event_id"),
        Rule(
            "volume_in_band",
            "count_if(log_date = :last) / nullif(count_if(log_date < :last), 0) "
            "* nullif(count(DISTINCT if(log_date < :last, log_date, NULL)), 0)",
            level="warn",
            low=0.2,
            high=5,
        ),
    ),
)
