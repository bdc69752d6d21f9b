"""The fold's restart points: one row per user, facet and day with a folded event."""

from pyspark.sql import types as T

from schemas.table import (
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIMESTAMP,
    VECTOR,
    Check,
    Column,
    Rule,
    Table,
    finite_vector,
    unique,
)

# Shared with user_profiles, which repeats the latest state of each user and facet.
STATE_COLUMNS = (
    Column("user_id", STRING, "user of the profile", private=True),
    Column("facet", STRING, "main, negative or a facet named in fold.facets"),
    Column("as_of_date", DATE, "event_date of the events folded last"),
    Column("user_bucket", INT, "pmod(xxhash64(user_id), store.user_buckets)"),
    Column("model_key", STRING, "embedding model of the folded vectors"),
    Column(
        "fold_hash",
        STRING,
        "hash of everything that determines this facet's states; states of different hashes never mix",
    ),
    Column("event_count", LONG, "events folded so far"),
    Column("weight_sum", DOUBLE, "W: sum of the event weights, decayed where the facet has a half-life"),
    Column("gain_sum", DOUBLE, "S1: sum of the gains"),
    Column("gain_sq_sum", DOUBLE, "S2: sum of the squared gains"),
    Column("last_event_ts", TIMESTAMP, "time of the last folded event, UTC"),
    Column("last_event_id", STRING, "id of the last folded event", private=True),
    Column("previous_as_of_date", DATE, "as_of_date of the preceding state", nullable=True),
    Column("events_digest", STRING, "digest of the day's folded events, compared by the dirty rule"),
    Column("drift", FLOAT, "1 - cosine with the state of previous_as_of_date", nullable=True),
    Column(
        "contributions",
        T.ArrayType(T.StructType([T.StructField("event_id", STRING), T.StructField("weight", FLOAT)])),
        "the 8 events with the largest shares of the vector, largest first",
        private=True,
    ),
    Column(
        "vector", VECTOR, "the profile; the more concentrated the interests, the longer it is", private=True
    ),
)

STATE_CHECKS = (Check("event_count_positive", "event_count > 0"), *finite_vector())

TABLE = Table(
    name="profile_states",
    comment="Profile of each user and facet after each day with a folded event; the fold's restart points.",
    key=("user_id", "facet", "as_of_date"),
    written_by="fold_profiles",
    reach="as_of_date",
    partition_by=("as_of_date",),
    columns=STATE_COLUMNS,
    checks=STATE_CHECKS,
    rules=(
        unique("user_id", "facet", "as_of_date"),
        Rule("one_fold", "count(DISTINCT facet, fold_hash) - count(DISTINCT facet)"),
        Rule(
            "vectors_finite",
            "count_if(NOT coalesce(array_max(vector) < 3.0e38 AND array_min(vector) > -3.0e38, FALSE))",
        ),
        Rule("vectors_of_one_size", "greatest(count(DISTINCT size(vector)) - 1, 0)"),
        Rule(
            "only_active_users",
            "(SELECT count(*) FROM profile_states s LEFT ANTI JOIN behavior_events e "
            "ON s.user_id = e.user_id AND s.as_of_date = e.event_date)",
        ),
        Rule(
            "drift_in_band",
            "avg(if(as_of_date = :last, drift, NULL)) / nullif(avg(if(as_of_date < :last, drift, NULL)), 0)",
            level="warn",
            low=0.1,
            high=10,
        ),
    ),
)
