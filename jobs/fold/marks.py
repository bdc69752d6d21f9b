"""What every stored event contributes to the fold: its fate, its weight and the facets it enters."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from jobs.fold.facets import facets_of, with_seen
from jobs.io.days import Days
from schemas.fold_settings import FoldSettings
from schemas.pipeline_runs import EVENT_FATES

# Two events of one user that agree in these columns are repeats (burst detection).
REPEAT_COLUMNS = ["event_type", "item_id", "text_key", "rating", "value"]
MARKED = [
    "user_id",
    "user_bucket",
    "event_date",
    "event_ts",
    "event_id",
    "text_key",
    "weight",
    "own_weights",
    "facets",
    "fate",
]
# Further columns, by which retractions and floods are found.
OF_RETRACTIONS = ["log_date", "retracts_event_id"]
MARKED += OF_RETRACTIONS
NEEDED_TO_MARK = ["repeat_hash"]
# User-days whose hashes, or users whose retractions, are broadcast: a few megabytes.
FEW_DAYS = 100_000
REPEAT_SLOTS = 16
FOLDED, ZERO_WEIGHT, RETRACT, RETRACTED, WITHOUT_VECTOR = EVENT_FATES


@dataclass(frozen=True)
class EventCounts:
    """Events of the folded days by fate, and parts of these numbers.

    Events of any day in reach that are folded, and about how many texts they have.
    """

    by_fate: dict[str, int]
    folded: int
    texts: int


def mark_events(
    events: DataFrame, embedded: DataFrame, rejected: DataFrame, fold: FoldSettings, in_reach: Column
) -> DataFrame:
    """Every event in reach with its fate and, where it is folded, its weight in (0, 1] and its facets.

    Checkpointed. own_weights: as own_weights returns them; a folded event has weight in at least one facet.

    events: with item_attributes, where a predicate asks for them (jobs/fold/facets.py with_attributes).
    embedded, rejected: text_key of the model's vectors and refusals. A pure function of all stored events of
    each (user, event_date) and of the retractions aimed at them, which may lie out of reach themselves.

    Each event is first marked by itself. A count by hashes then finds the user-days that have enough events
    for a flood; hardly any have, and only their events are shuffled and sorted.
    """
    wanted = in_reach | (F.col("event_type") == RETRACT)
    marked = marked_alone(events, embedded, rejected, fold).where(wanted)
    marked = marked.select(*MARKED, *NEEDED_TO_MARK).localCheckpoint(eager=False)
    days = suspicious_days(marked, fold).localCheckpoint(eager=False)
    crowded, retracting = days.agg(F.count_if("is_crowded"), F.count_if("has_retraction")).collect()[0]
    if retracting:
        marked = without_retracted(marked, retracting <= FEW_DAYS, fold)
    marked = marked.where(in_reach)
    if crowded > FEW_DAYS:
        marked = without_floods(marked, fold)
    elif crowded:
        noted = F.broadcast(days.where("is_crowded").select("user_day"))
        named = marked.withColumn("user_day", _user_day())
        calm, busy = (named.join(noted, "user_day", how) for how in ("left_anti", "left_semi"))
        marked = calm.select(*MARKED).unionByName(without_floods(busy, fold).select(*MARKED))
    marked = marked.select(*MARKED).withColumn("fate", _fate_by_facets())
    return marked.localCheckpoint(eager=False) if crowded or retracting else marked


def marked_alone(
    events: DataFrame, embedded: DataFrame, rejected: DataFrame, fold: FoldSettings
) -> DataFrame:
    """The events with weight, facets, and the fate that follows from each event alone."""
    refused = rejected.join(embedded, "text_key", "left_anti")
    joined = events.join(refused.select("text_key", F.lit(True).alias("is_refused")), "text_key", "left")
    joined = with_seen(joined)
    weight = type_weight(fold, fold.type_weights) * opinion_factor(fold)
    fate = (
        F.when(F.col("event_type") == RETRACT, RETRACT)
        .when(F.col("text_key").isNull() | F.col("is_refused"), WITHOUT_VECTOR)
        .when(weight <= 0, ZERO_WEIGHT)
        .otherwise(FOLDED)
    )
    # With a flag for NULL, which Spark's hash skips: a value in one column differs from the same value in
    # another.
    parts = [part for name in REPEAT_COLUMNS for part in (F.isnull(name), F.col(name))]
    marks = {"weight": weight, "own_weights": own_weights(fold), "facets": facets_of(joined, fold)}
    return joined.withColumns(marks | {"fate": fate, "repeat_hash": F.xxhash64(*parts)})


# ---- retractions


def without_retracted(marked: DataFrame, are_few: bool, fold: FoldSettings) -> DataFrame:
    """Marks the targets of retractions as retracted.

    A retraction counts while its target can still be repaired, in a night as in a backfill.
    """
    # Collected by user, who has few of them.
    aimed = F.collect_list(F.struct("retracts_event_id", "log_date")).alias("retractions")
    retractions = marked.where(F.col("fate") == RETRACT).groupBy("user_id").agg(aimed)
    joined = marked.join(retractions.hint("broadcast" if are_few else "shuffle_hash"), "user_id", "left")
    is_target = F.exists("retractions", lambda aim: _hits(aim, fold.window_days))
    is_hit = (F.col("fate") != RETRACT) & is_target
    return joined.withColumn("fate", F.when(is_hit, RETRACTED).otherwise(F.col("fate")))


def _hits(aim: Column, window_days: int) -> Column:
    in_time = _in_time(aim["log_date"], F.col("event_date"), window_days)
    return (aim["retracts_event_id"] == F.col("event_id")) & in_time


def _in_time(log_date: Column, event_date: Column, window_days: int) -> Column:
    return F.date_diff(log_date, event_date).between(-1, window_days)


def missed_retractions(marked: DataFrame, days: Days, window_days: int) -> DataFrame:
    """(user_id, event_id of the target) of the days' retractions without effect.

    Their user has no such event inside the window.
    """
    is_own = (F.col("fate") == RETRACT) & F.expr(days.sql("event_date"))
    retractions = marked.where(is_own).select("user_id", *OF_RETRACTIONS).alias("r")
    targets = marked.where(F.col("fate") == RETRACTED).select("user_id", "event_id", "event_date").alias("t")
    is_same = (F.col("r.user_id") == F.col("t.user_id")) & (
        F.col("r.retracts_event_id") == F.col("t.event_id")
    )
    in_time = _in_time(F.col("r.log_date"), F.col("t.event_date"), window_days)
    missed = retractions.join(targets, is_same & in_time, "left_anti")
    return missed.select("user_id", F.col("retracts_event_id").alias("event_id"))


def count_too_late(missed: DataFrame, stored: DataFrame) -> int:
    """Those of the missed retractions whose target is stored, and so is older than the window.

    missed: as missed_retractions returns them.
    """
    return missed.join(stored.select("user_id", "event_id"), ["user_id", "event_id"], "left_semi").count()


# ---- floods


def _user_day() -> Column:
    return F.xxhash64("user_id", "event_date")


def suspicious_days(marked: DataFrame, fold: FoldSettings) -> DataFrame:
    """(user_day, is_crowded, has_retraction).

    Hashes of the user-days that could hold a flood or hold a retraction.

    A burst has more repeats than its limit, so one of the slots that repeats fall into by their hash has too.
    Collisions can only make a day look crowded, never hide one that is.
    """
    slot = F.pmod("repeat_hash", F.lit(REPEAT_SLOTS))
    counted = marked.groupBy(_user_day().alias("user_day")).agg(
        F.count("*").alias("events"),
        F.greatest(*[F.count_if(slot == place) for place in range(REPEAT_SLOTS)]).alias("repeats"),
        F.bool_or(F.col("fate") == RETRACT).alias("has_retraction"),
    )
    has_many = F.col("events") > min(fold.daily_cap, fold.minute_limit)
    is_crowded = has_many | (F.col("repeats") > fold.burst_repeats)
    days = counted.select("user_day", is_crowded.alias("is_crowded"), "has_retraction")
    return days.where("is_crowded OR has_retraction")


def without_floods(marked: DataFrame, fold: FoldSettings) -> DataFrame:
    """Gives the events of a flood no weight."""
    is_flood = (F.col("fate") == FOLDED) & F.col("is_flood")
    fate = F.when(is_flood, ZERO_WEIGHT).otherwise(F.col("fate"))
    return mark_floods(marked, fold).withColumn("fate", fate)


def mark_floods(events: DataFrame, fold: FoldSettings) -> DataFrame:
    """Adds is_flood, by all stored events of the user and day.

    True for the end of a burst of repeats, for events beyond the daily cap, and for every event of a day that
    has a minute with more events than a person makes.
    """
    # A hash first: ids begin alike, and numbers that differ sort faster.
    day: list[Column | str] = [F.xxhash64("user_id"), "user_id", "event_date"]
    of_day = Window.partitionBy(*day).orderBy("event_ts", "event_id")
    repeats = Window.partitionBy(*day, "repeat_hash").orderBy("event_ts", "event_id")

    def follows(order: WindowSpec, places: int, seconds: int) -> Column:
        """Whether `places` events before this one lie within the seconds that end with it."""
        since = F.unix_micros("event_ts") - F.unix_micros(F.lag("event_ts", places).over(order))
        return F.coalesce(since < seconds * 1_000_000, F.lit(False))

    until_now = of_day.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    counted = F.count_if(F.col("fate") == FOLDED).over(until_now)
    bursts = events.withColumn("is_burst", follows(repeats, fold.burst_repeats, fold.burst_seconds))
    ends_minute = follows(of_day, fold.minute_limit, 60)
    minutes = bursts.withColumns({"is_beyond": counted > fold.daily_cap, "ends_minute": ends_minute})
    impossible = F.max("ends_minute").over(Window.partitionBy(*day))
    return minutes.withColumn("is_flood", F.col("is_burst") | F.col("is_beyond") | impossible)


# ---- weights


def type_weight(fold: FoldSettings, type_weights: Mapping[str, float]) -> Column:
    """The event type's weight divided by the largest."""
    largest = max([*type_weights.values(), fold.default_type_weight])
    weight = F.lit(fold.default_type_weight / largest)
    for name, value in type_weights.items():
        weight = F.when(F.col("event_type") == name, F.lit(value / largest)).otherwise(weight)
    return weight


def own_weights(fold: FoldSettings) -> Column:
    """Weights of an event by facet, in facets with type_weights of their own; NULL where none has any.

    map<string,double>.
    """
    own = {f.name: f.type_weights for f in fold.facets if f.type_weights is not None}
    weights = [
        part
        for name, type_weights in own.items()
        for part in (F.lit(name), type_weight(fold, type_weights) * opinion_factor(fold))
    ]
    found = F.create_map(*weights) if own else F.lit(None)
    return found.cast("map<string,double>")


def _weight_in(facet: Column) -> Column:
    return F.coalesce(F.col("own_weights")[facet], F.col("weight"))


def _fate_by_facets() -> Column:
    """The fate, with no weight for an event that has none in any of its facets.

    Found after the floods: which events count towards their limits must not depend on a facet's own weights.
    """
    is_weightless = ~F.exists("facets", lambda facet: _weight_in(facet) > 0)
    return F.when((F.col("fate") == FOLDED) & is_weightless, ZERO_WEIGHT).otherwise(F.col("fate"))


def opinion_factor(fold: FoldSettings) -> Column:
    """1 for a clear opinion, the floor for a neutral one, linear in between; 1 where no opinion is known."""
    clearness = F.coalesce(F.abs(2 * F.col("rating") - 1), F.abs("polarity"))
    scaled = F.lit(fold.opinion_floor) + F.lit(1 - fold.opinion_floor) * clearness
    return F.coalesce(scaled, F.lit(1.0))


# ---- what the fold takes


def by_facet(marked: DataFrame, facets: Collection[str]) -> DataFrame:
    """A row for each folded event and facet, with two independent 64-bit hashes of what it contributes."""
    parts = ["event_id", "event_ts", "weight", "text_key"]
    hashes = {"digest_high": F.xxhash64(*parts), "digest_low": F.xxhash64(F.lit("low"), *parts)}
    folded = marked.where(F.col("fate") == FOLDED).drop(*OF_RETRACTIONS)
    entered = folded.withColumn("facet", F.explode("facets")).where(F.col("facet").isin(*facets))
    weighed = entered.withColumn("weight", _weight_in(F.col("facet"))).where("weight > 0")
    return weighed.drop("own_weights").withColumns(hashes)


def count_fates(marked: DataFrame, days: Days, window_days: int) -> EventCounts:
    """Counts the events of the days by fate; `stored` is the sum of all fates.

    Of those without a vector, without_text have no text, and of text_rejected the engine refused the text. Of
    the retractions, retract_missed have no effect.
    """
    is_own = F.expr(days.sql("event_date"))
    of_days = F.count_if(is_own).alias("own")
    no_text = F.count_if(is_own & F.col("text_key").isNull()).alias("no_text")
    texts = F.approx_count_distinct("text_key").alias("texts")
    rows = marked.groupBy("fate").agg(of_days, no_text, F.count("*").alias("all"), texts).collect()
    found = {row["fate"]: row for row in rows}
    counts = {fate: found[fate]["own"] if fate in found else 0 for fate in EVENT_FATES}
    without_text = found[WITHOUT_VECTOR]["no_text"] if WITHOUT_VECTOR in found else 0
    by_fate = {
        "stored": sum(counts.values()),
        **counts,
        "without_text": without_text,
        "text_rejected": counts[WITHOUT_VECTOR] - without_text,
        "retract_missed": missed_retractions(marked, days, window_days).count() if counts[RETRACT] else 0,
    }
    if FOLDED not in found:
        return EventCounts(by_fate, 0, 0)
    return EventCounts(by_fate, found[FOLDED]["all"], found[FOLDED]["texts"])
