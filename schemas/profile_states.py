"""The restart points: one row per user, facet and day with a folded event."""

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

# What a state is, apart from its key's date: user_profiles repeats these columns for the latest state of each user.
STATE_COLUMNS = (
    Column("user_id", STRING, "whose profile it is", private=True),
    Column("facet", STRING, "main, negative or a named context"),
    Column("as_of_date", DATE, "the event_date whose events were folded last"),
    Column("user_bucket", INT, "pmod(xxhash64(user_id), buckets)"),
    Column("model_key", STRING, "the model whose vectors were folded"),
    Column(
        "fold_hash",
        STRING,
        "hash of everything that gives this facet's fold its meaning; states of two never mix",
    ),
    Column("event_count", LONG, "events folded so far"),
    Column("weight_sum", DOUBLE, "W: sum of their weights"),
    Column("gain_sum", DOUBLE, "S1: sum of gains"),
    Column("gain_sq_sum", DOUBLE, "S2: sum of squared gains"),
    Column("last_event_ts", TIMESTAMP, "time of the last folded event, UTC"),
    Column("last_event_id", STRING, "id of the last folded event", private=True),
    Column("previous_as_of_date", DATE, "the state before this one", nullable=True),
    Column("events_digest", STRING, "digest of the day's folded events: what the dirty rule compares"),
    Column("drift", FLOAT, "1 - cosine with the state of previous_as_of_date", nullable=True),
    Column(
        "contributions",
        T.ArrayType(T.StructType([T.StructField("event_id", STRING), T.StructField("weight", FLOAT)])),
        "the 8 events with the largest share in the vector, largest first",
        private=True,
    ),
    Column(
        "vector", VECTOR, "the profile; its length tells how concentrated the interests are", private=True
    ),
)

STATE_CHECKS = (Check("event_count_positive", "event_count > 0"), *finite_vector())

TABLE = Table(
    name="profile_states",
    comment="The profile of each user and facet after each day with a folded event: the restart points of the fold.",
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
