"""The facts: one row per accepted event of the logs."""

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
    comment="Every accepted event. Facts only: the fold computes weights, caps and bot marks.",
    key=("user_id", "event_id"),
    written_by="ingest_events",
    reach="log_date",
    reach_margin_days=1,
    sizes_night=True,
    partition_by=("log_date",),
    columns=(
        Column(
            "event_id",
            STRING,
            "the log's own id, unique among the events of its user, or a hash of the content and the ordinal",
            private=True,
        ),
        Column("user_id", STRING, "user who acted", private=True),
        Column(
            "user_bucket",
            INT,
            "pmod(xxhash64(user_id), store.user_buckets): prunes reads by user without ids in statistics",
        ),
        Column("event_ts", TIMESTAMP, "when the event happened, UTC"),
        Column("event_date", DATE, "UTC date of event_ts"),
        Column("log_date", DATE, "date of the log folder in which the event arrived"),
        Column("utc_offset_min", INT, "local time minus UTC, minutes", nullable=True),
        Column("event_type", STRING, "view, click, cart, purchase, rating, review, return, retract, ..."),
        Column("item_id", STRING, "item of the event", nullable=True, private=True),
        Column(
            "text",
            STRING,
            "normalised text of the event, else its own title where its item has another one, "
            "else the text of its item as of log_date",
            nullable=True,
            private=True,
        ),
        Column("text_key", STRING, "SHA-256 of text, lower-case hex", nullable=True, private=True),
        Column(
            "title_key",
            STRING,
            "SHA-256 of the normalised title that the event itself gives its item, lower-case hex; with "
            "attributes of the item, a dash and their SHA-256 follow",
            nullable=True,
            private=True,
        ),
        Column(
            "own_text_key",
            STRING,
            "SHA-256 of the event's own text where text is another one, such as a mapping makes; empty where "
            "the event has none of its own; NULL where text is its own",
            nullable=True,
            private=True,
        ),
        Column(
            "rating",
            DOUBLE,
            "rating rescaled to 0..1 by the mapping's rating_min and rating_max",
            nullable=True,
        ),
        Column("value", DOUBLE, "amount in the log's own unit (price, seconds, ...)", nullable=True),
        Column(
            "retracts_event_id",
            STRING,
            "event of the same user that this event retracts",
            nullable=True,
            private=True,
        ),
        Column("place", STRING, "where it happened, as logged", nullable=True, private=True),
        Column("device", STRING, "device used, as logged", nullable=True),
        Column("session_id", STRING, "session, as logged", nullable=True, private=True),
        Column("lat", DOUBLE, "latitude, degrees", nullable=True, private=True),
        Column("lon", DOUBLE, "longitude, degrees", nullable=True, private=True),
        Column("companions", STRINGS, "who else was there, as logged", nullable=True, private=True),
        Column("extra", TEXT_MAP, "further fields kept by the mapping", nullable=True, private=True),
        Column("source_file", STRING, "log file, relative to the logs folder", private=True),
        Column("ordinal", INT, "position among identical records of the file, from 0"),
    ),
    checks=(
        Check("user_id_given", "length(user_id) > 0"),
        Check("event_date_of_event_ts", "event_date = CAST(event_ts AS DATE)"),
        Check("rating_in_range", "rating IS NULL OR rating BETWEEN 0 AND 1"),
        Check("text_and_key_together", "(text IS NULL) = (text_key IS NULL)"),
    ),
    rules=(
        unique("user_id", "event_id"),
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
