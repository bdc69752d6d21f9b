"""What every stored event brings to the fold: its fate, its weight and the facets it enters. Pure functions of the stored events."""

from collections.abc import Collection
from datetime import date

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from jobs.io.messages import JobError, one_sentence
from schemas.settings import FoldSettings

# What makes two events of a user the same deed.
DEED = ["event_type", "item_id", "text_key", "rating", "value"]
# What a facet's predicate may not see: how a record came here says nothing of what the user did.
HIDDEN = ("log_date", "source_file", "event_id", "ordinal", "is_refused")
MARKED = [
    "user_id",
    "user_bucket",
    "event_date",
    "event_ts",
    "event_id",
    "text_key",
    "weight",
    "facets",
    "fate",
]
# Beside them, what floods and retractions are told by.
NEEDED_TO_MARK = ["deed", "log_date", "retracts_event_id"]
# Users' days whose hashes, or whose retractions, are sent to every machine: a few megabytes.
FEW_DAYS = 100_000
DEED_SLOTS = 16
FOLDED, ZERO_WEIGHT, RETRACT, RETRACTED, WITHOUT_VECTOR = FATES = (
    "folded",
    "zero_weight",
    "retract",
    "retracted",
    "without_vector",
)


def mark_events(
    events: DataFrame,
    embedded: DataFrame,
    rejected: DataFrame,
    sentiments: DataFrame,
    fold: FoldSettings,
    in_reach: Column,
) -> DataFrame:
    """Every event in reach with its fate and, where it is folded, its weight in (0, 1] and its facets; the rows are held.

    embedded, rejected: text_key of the model's vectors and refusals; sentiments: text_key, polarity. A pure function of all
    stored events of each (user, event_date) and of the retractions aimed at them, which may lie out of reach themselves.

    What an event is by itself is found and held while it is counted, by hashes, which days of users have so many events that some could be
    a flood. Hardly any have; only their events are brought together and put in order.
    """
    refused = rejected.join(embedded, "text_key", "left_anti").select(
        "text_key", F.lit(True).alias("is_refused")
    )
    joined = events.join(refused, "text_key", "left").join(
        sentiments.select("text_key", "polarity"), "text_key", "left"
    )
    weight = type_weight(fold) * opinion_factor(fold)
    fate = (
        F.when(F.col("event_type") == RETRACT, RETRACT)
        .when(F.col("text_key").isNull() | F.col("is_refused"), WITHOUT_VECTOR)
        .when(weight <= 0, ZERO_WEIGHT)
        .otherwise(FOLDED)
    )
    # With a mark for what is missing, which hashes pass over: a value in one column is not the same value in another.
    deed = F.xxhash64(*[part for name in DEED for part in (F.isnull(name), F.col(name))])
    found = {"weight": weight, "facets": facets_of(joined, fold), "fate": fate, "deed": deed}
    alone = (
        joined.where(in_reach | (F.col("event_type") == RETRACT))
        .withColumns(found)
        .select(*MARKED, *NEEDED_TO_MARK)
    )
    alone = alone.localCheckpoint(eager=False)
    marked_days = days_of_note(alone, fold).localCheckpoint(eager=False)
    crowded, retracting = marked_days.agg(F.count_if("is_crowded"), F.count_if("has_retraction")).collect()[0]
    marked = without_retracted(alone, retracting <= FEW_DAYS, fold) if retracting else alone
    marked = marked.where(in_reach)
    if crowded > FEW_DAYS:
        marked = without_floods(marked, fold)
    elif crowded:
        noted = F.broadcast(marked_days.where("is_crowded").select("user_day"))
        marked = marked.withColumn("user_day", _user_day())
        calm, busy = marked.join(noted, "user_day", "left_anti"), marked.join(noted, "user_day", "left_semi")
        marked = calm.select(*MARKED).unionByName(without_floods(busy, fold).select(*MARKED))
    marked = marked.select(*MARKED)
    return marked.localCheckpoint(eager=False) if crowded or retracting else marked


def without_retracted(alone: DataFrame, are_few: bool, fold: FoldSettings) -> DataFrame:
    """Gives what a retraction hits that fate. It counts while its target can still be repaired, in a night as in a backfill."""
    # A user has few of them.
    aimed = F.collect_list(F.struct("retracts_event_id", "log_date")).alias("retractions")
    retractions = alone.where(F.col("fate") == RETRACT).groupBy("user_id").agg(aimed)
    joined = alone.join(retractions.hint("broadcast" if are_few else "shuffle_hash"), "user_id", "left")
    is_hit = (F.col("fate") != RETRACT) & F.exists("retractions", lambda aim: _hits(aim, fold.window_days))
    return joined.withColumn("fate", F.when(is_hit, RETRACTED).otherwise(F.col("fate")))


def _hits(aim: Column, window_days: int) -> Column:
    in_time = F.date_diff(aim["log_date"], "event_date").between(-1, window_days)
    return (aim["retracts_event_id"] == F.col("event_id")) & in_time


def _user_day() -> Column:
    return F.xxhash64("user_id", "event_date")


def days_of_note(events: DataFrame, fold: FoldSettings) -> DataFrame:
    """(user_day, is_crowded, has_retraction): the users' days that could hold a flood, by their hash, and those that hold a retraction.

    A burst has more equal deeds than its limit, so one of the slots that deeds fall into by their hash has. What is counted together
    though it differs makes a day look crowded, and never the other way round.
    """
    slot = F.pmod("deed", F.lit(DEED_SLOTS))
    counted = events.groupBy(_user_day().alias("user_day")).agg(
        F.count("*").alias("events"),
        F.greatest(*[F.count_if(slot == place) for place in range(DEED_SLOTS)]).alias("equal"),
        F.bool_or(F.col("fate") == RETRACT).alias("has_retraction"),
    )
    is_crowded = (F.col("events") > min(fold.daily_cap, fold.minute_limit)) | (
        F.col("equal") > fold.burst_repeats
    )
    return counted.select("user_day", is_crowded.alias("is_crowded"), "has_retraction").where(
        "is_crowded OR has_retraction"
    )


def without_floods(marked: DataFrame, fold: FoldSettings) -> DataFrame:
    is_flood = (F.col("fate") == FOLDED) & F.col("is_flood")
    return mark_floods(marked, fold).withColumn(
        "fate", F.when(is_flood, ZERO_WEIGHT).otherwise(F.col("fate"))
    )


def mark_floods(events: DataFrame, fold: FoldSettings) -> DataFrame:
    """Adds is_flood: what no person does. The end of a burst of equal deeds, what is beyond the daily cap, and the whole of a day with a
    minute of more events than a person makes; by all stored events of the user and day.
    """
    # A hash before the id: ids begin alike, and numbers that differ at once are sorted sooner.
    day: list[Column | str] = [F.xxhash64("user_id"), "user_id", "event_date"]
    of_day = Window.partitionBy(*day).orderBy("event_ts", "event_id")
    equal = Window.partitionBy(*day, "deed").orderBy("event_ts", "event_id")

    def follows(order: WindowSpec, places: int, seconds: int) -> Column:
        """Whether so many events of the order, and one more, lie within the seconds that end with this one."""
        since = F.unix_micros("event_ts") - F.unix_micros(F.lag("event_ts", places).over(order))
        return F.coalesce(since < seconds * 1_000_000, F.lit(False))

    bursts = events.withColumn("is_burst", follows(equal, fold.burst_repeats, fold.burst_seconds))
    counted = F.count_if(F.col("fate") == FOLDED).over(
        of_day.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    minutes = bursts.withColumns(
        {"is_beyond": counted > fold.daily_cap, "ends_minute": follows(of_day, fold.minute_limit, 60)}
    )
    impossible = F.max("ends_minute").over(Window.partitionBy(*day))
    return minutes.withColumn("is_flood", F.col("is_burst") | F.col("is_beyond") | impossible)


def type_weight(fold: FoldSettings) -> Column:
    """The event type's weight over the largest."""
    largest = max([*fold.type_weights.values(), fold.default_type_weight])
    weight = F.lit(fold.default_type_weight / largest)
    for name, value in fold.type_weights.items():
        weight = F.when(F.col("event_type") == name, F.lit(value / largest)).otherwise(weight)
    return weight


def opinion_factor(fold: FoldSettings) -> Column:
    """1 for a clear opinion, the floor for a neutral one, between them in proportion; 1 where none is known."""
    clearness = F.coalesce(F.abs(2 * F.col("rating") - 1), F.abs("polarity"))
    return F.coalesce(F.lit(fold.opinion_floor) + F.lit(1 - fold.opinion_floor) * clearness, F.lit(1.0))


def facets_of(events: DataFrame, fold: FoldSettings) -> Column:
    """The facets an event enters: `negative` alone, or `main` and every named one whose predicate is true."""
    seen = events.drop(*HIDDEN)
    negative = predicate(seen, "negative_where", fold.negative_where)
    named = [F.when(predicate(seen, f"facet {f.name}", f.where), F.lit(f.name)) for f in fold.facets]
    return F.when(negative, F.array(F.lit("negative"))).otherwise(
        F.array_compact(F.array(F.lit("main"), *named))
    )


def predicate(events: DataFrame, name: str, text: str) -> Column:
    """A setting's predicate, checked against the columns it may use; NULL is false."""
    try:
        # A filter would find hidden columns in the frame beneath; a selection does not.
        events.select(F.expr(text))
        analyzed = events.where(text)._jdf.queryExecution().analyzed()
    except AnalysisException as error:
        raise JobError(f"{name}: {one_sentence(error)}") from error
    by_clock = events.sparkSession._jvm.org.apache.spark.sql.catalyst.trees.TreePattern.CURRENT_LIKE()  # type: ignore[union-attr]
    if not analyzed.deterministic() or analyzed.containsPattern(by_clock):
        raise JobError(f"{name}: '{text}' does not give the same answer every time")
    return F.coalesce(F.expr(text), F.lit(False))


def by_facet(marked: DataFrame, facets: Collection[str]) -> DataFrame:
    """A row for each folded event and each of the facets it enters, with two independent 64-bit hashes of what it brings to the fold."""
    brought = ["event_id", "event_ts", "weight", "text_key"]
    hashes = {"digest_high": F.xxhash64(*brought), "digest_low": F.xxhash64(F.lit("low"), *brought)}
    folded = marked.where(F.col("fate") == FOLDED).withColumns(hashes)
    return folded.withColumn("facet", F.explode("facets")).where(F.col("facet").isin(*facets))


def count_fates(marked: DataFrame, first: date, last: date) -> tuple[dict[str, int], int, int]:
    """Events of the days by fate, stored = the sum of the others (law 2); then how many are marked as folded, of any day, and about how
    many distinct texts they have.
    """
    in_days = F.col("event_date").between(first, last)
    texts = F.approx_count_distinct("text_key").alias("texts")
    counted = (
        marked.groupBy("fate")
        .agg(F.count_if(in_days).alias("own"), F.count("*").alias("all"), texts)
        .collect()
    )
    found = {row["fate"]: row for row in counted}
    counts = {fate: found[fate]["own"] if fate in found else 0 for fate in FATES}
    in_all, texts_in_all = (found[FOLDED]["all"], found[FOLDED]["texts"]) if FOLDED in found else (0, 0)
    return {"stored": sum(counts.values()), **counts}, in_all, texts_in_all
