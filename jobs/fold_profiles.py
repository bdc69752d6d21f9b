"""Folds the stored events of a day, or of a range of days, into profiles, and repairs what late events made stale.

The states to compute are found by comparing digests: for every user, facet and day of the window before the first day up to
the last one, the digest of the stored events is held against the digest in the state. Where they differ the user's facet is
folded again from that day on, from the state before it. So late events, retractions, days delivered again and crashes need
nothing special, and a day that is already folded costs a comparison and writes nothing.

    python -m jobs.fold_profiles --date D --warehouse URI [--bootstrap]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.embed_texts import model_key_of
from jobs.io import delta, lease
from jobs.io.runs import Run, new_run_id, publications, recorded, refuse_holes
from jobs.io.shell import JobError, Parser, iso_day, job_parser, one_sentence, run_main
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, text_sentiments, user_profiles
from schemas.settings import FoldSettings, Settings
from udfs.fold import EVENT_ROW, INPUT_SCHEMA, OUTPUT_SCHEMA, PRIOR_ROW, VECTOR_ROW, FoldConstants, fold_stream

JOB = "fold_profiles"
KEY = ["user_id", "facet"]
# Events of one fold task at most, so that its memory is bounded by their distinct texts.
TASK_EVENTS = 250_000
# What a facet's predicate may not see: how a record came here says nothing of what the user did.
HIDDEN = ("log_date", "source_file", "event_id", "ordinal", "is_retracted", "has_vector", "is_rejected")
FOLDED, ZERO_WEIGHT, RETRACT, RETRACTED, WITHOUT_VECTOR, UNEMBEDDED = (
    "folded", "zero_weight", "retract", "retracted", "without_vector", "unembedded",
)  # fmt: skip


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the day to fold")
    parser.add_argument("--bootstrap", action="store_true", help="begin this warehouse's history with the day")
    return parser


# ---- pure: events to what is folded


def mark_events(events: DataFrame, embedded: DataFrame, rejected: DataFrame, sentiments: DataFrame, fold: FoldSettings) -> DataFrame:
    """Every event with its fate and, where it is folded, its weight in (0, 1] and its facets.

    embedded, rejected: text_key of the model's vectors and refusals; sentiments: text_key, polarity. A pure function of all
    stored events of each (user, event_date) and of the retractions aimed at them.
    """
    # A retraction counts while its target can still be repaired, in a night as in a backfill.
    retractions = events.where(F.col("event_type") == RETRACT).select(
        F.col("user_id").alias("by"), F.col("retracts_event_id").alias("target"), F.col("log_date").alias("arrived")
    )
    hit = (F.col("by") == F.col("user_id")) & (F.col("target") == F.col("event_id"))
    in_time = F.date_diff("arrived", "event_date").between(-1, fold.window_days)
    taken_out = events.join(retractions, hit & in_time).select("event_id").distinct().withColumn("is_retracted", F.lit(True))
    known = embedded.select("text_key").withColumn("has_vector", F.lit(True))
    refused = rejected.select("text_key").withColumn("is_rejected", F.lit(True))
    joined = (
        events.join(taken_out, "event_id", "left")
        .join(known, "text_key", "left")
        .join(refused, "text_key", "left")
        .join(sentiments.select("text_key", "polarity"), "text_key", "left")
    )
    weight = type_weight(fold) * opinion_factor(fold)
    fate = (
        F.when(F.col("event_type") == RETRACT, RETRACT)
        .when(F.col("is_retracted"), RETRACTED)
        .when(F.col("text_key").isNull() | (F.col("is_rejected") & F.col("has_vector").isNull()), WITHOUT_VECTOR)
        .when(F.col("has_vector").isNull(), UNEMBEDDED)
        .when(weight <= 0, ZERO_WEIGHT)
        .otherwise(FOLDED)
    )
    of_day = Window.partitionBy("user_id", "event_date", "fate").orderBy("event_ts", "event_id")
    over_cap = (F.col("fate") == FOLDED) & (F.row_number().over(of_day) > fold.daily_cap)
    marked = joined.withColumns({"weight": weight, "facets": facets_of(joined, fold)}).withColumn("fate", fate)
    return marked.withColumn("fate", F.when(over_cap, ZERO_WEIGHT).otherwise(F.col("fate"))).select(
        "user_id", "user_bucket", "event_date", "event_ts", "event_id", "text_key", "weight", "facets", "fate"
    )


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
    return F.when(negative, F.array(F.lit("negative"))).otherwise(F.array_compact(F.array(F.lit("main"), *named)))


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


def by_facet(marked: DataFrame) -> DataFrame:
    """A row for each folded event and facet, with two independent 64-bit hashes of what it brings to the fold."""
    brought = ["event_id", "event_ts", "weight", "text_key"]
    return marked.where(F.col("fate") == FOLDED).withColumns(
        {"digest_high": F.xxhash64(*brought), "digest_low": F.xxhash64(F.lit("low"), *brought), "facet": F.explode("facets")}
    )


def digest_of(high: Column, low: Column) -> Column:
    """The digest of a day as text: 32 hexadecimal digits."""
    return F.lower(F.concat(F.lpad(F.hex(high), 16, "0"), F.lpad(F.hex(low), 16, "0")))


def find_dirty(folded: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, first_dirty): the first day whose stored state is not what its events give; clean facets have no row."""
    digest = digest_of(F.bit_xor("digest_high"), F.bit_xor("digest_low"))
    wanted = folded.groupBy(*KEY, F.col("event_date").alias("as_of_date")).agg(digest.alias("wanted"))
    both = wanted.join(states.select(*KEY, "as_of_date", "events_digest"), [*KEY, "as_of_date"], "full")
    return both.where(~F.col("wanted").eqNullSafe(F.col("events_digest"))).groupBy(*KEY).agg(F.min("as_of_date").alias("first_dirty"))


def point_back(dirty: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, as_of_date): the state before first_dirty of the dirty facets that have states from that day on."""
    later = states.join(dirty, KEY).where("as_of_date >= first_dirty")
    back = later.groupBy(*KEY).agg(F.min_by("previous_as_of_date", "as_of_date").alias("as_of_date"))
    return back.where("as_of_date IS NOT NULL")


def find_priors(dirty: DataFrame, profiles: DataFrame, states: DataFrame, back: DataFrame) -> DataFrame:
    """The state before first_dirty of every dirty facet that has one: its latest, or the one its later states point back to."""
    latest = profiles.join(dirty, KEY).where("as_of_date < first_dirty").select(*profiles.columns)
    return latest.unionByName(states.join(back, [*KEY, "as_of_date"]).select(*profiles.columns))


# ---- pure: the kernel's stream


def fold_frame(folded: DataFrame, priors: DataFrame, embeddings: DataFrame, partitions: int, constants: FoldConstants) -> DataFrame:
    """States (udfs/fold.py OUTPUT_SCHEMA) of events on their priors; each partition gets each vector it needs once."""
    part = F.pmod(F.hash("user_id"), F.lit(partitions)).alias("part")
    events = folded.withColumns({"kind": F.lit(EVENT_ROW), "day": F.col("event_date")}).select("*", part)
    old = priors.withColumns({"kind": F.lit(PRIOR_ROW), "day": F.col("as_of_date")}).select("*", part)
    wanted = events.select("part", "text_key").distinct()
    vectors = wanted.join(embeddings, "text_key").select("part", "text_key", "vector", F.lit(VECTOR_ROW).alias("kind"))
    stream = _streamed(vectors).unionByName(_streamed(old)).unionByName(_streamed(events))
    ordered = stream.repartitionById(partitions, "part").sortWithinPartitions(*KEY, "kind", "event_ts", "event_id").drop("part")

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return fold_stream(batches, constants)

    return ordered.mapInArrow(fold, from_arrow_schema(OUTPUT_SCHEMA))


def _streamed(rows: DataFrame) -> DataFrame:
    """The stream's columns of one kind of row; those it does not have are NULL."""
    schema = from_arrow_schema(INPUT_SCHEMA)
    present = set(rows.columns)
    return rows.select("part", *[(F.col(f.name) if f.name in present else F.lit(None)).cast(f.dataType).alias(f.name) for f in schema])


def to_states(output: DataFrame, model_key: str, fold_hash: str) -> DataFrame:
    digest = digest_of(F.col("digest_high"), F.col("digest_low"))
    named = {"events_digest": digest, "model_key": F.lit(model_key), "fold_hash": F.lit(fold_hash)}
    return output.withColumns(named).select(*profile_states.TABLE.names)


# ---- the edges


def fold_days(spark: SparkSession, warehouse: str, settings: Settings, run: Run, first: date, last: date) -> None:
    """Folds the days and what is stale in the window before them; two commits, or none where all is folded already."""
    fold, window = settings.fold, timedelta(days=settings.fold.window_days)
    model_key = model_key_of(settings.engine)
    run.fold_hash = settings.fold_hash(model_key)
    states = delta.read_table(spark, warehouse, profile_states.TABLE)
    profiles = sound_profiles(spark, warehouse, states)
    # Days after `last` are there when an older day is repaired: its users are replayed to the end.
    horizon = max(last, newest_of_fold(profiles, run.fold_hash) or last)
    of_model = F.col("model_key") == model_key
    embeddings = delta.read_table(spark, warehouse, text_embeddings.TABLE).where(of_model)
    rejected = delta.read_table(spark, warehouse, rejected_texts.TABLE).where(of_model)
    sentiments = delta.read_table(spark, warehouse, text_sentiments.TABLE).where(
        F.col("sentiment_key").eqNullSafe(F.lit(fold.sentiment_key))
    )
    arrived = F.col("log_date").between(first - window - timedelta(days=1), horizon + window)
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(arrived)
    in_reach = F.col("event_date").between(first - window, horizon)
    marked = mark_events(events, embeddings, rejected, sentiments, fold).where(in_reach).persist()
    with run.phase("compare"):
        run.counts |= count_fates(marked, first, last)
        folded = by_facet(marked)
        # One day ahead is accepted: a day that is run again may have events of the next one, which is folded already.
        until = min(horizon, last + timedelta(days=1))
        compared = F.col("event_date") <= F.lit(until)
        stored = states.where(F.col("as_of_date").between(first - window, until))
        dirty = find_dirty(folded.where(compared), stored).persist()
        changed, repaired = dirty.agg(F.count("*"), F.count_if(F.col("first_dirty") < F.lit(first))).collect()[0]
        run.counts |= {"profiles_changed": changed, "profiles_repaired": repaired}
    if changed:
        with run.phase("fold"):
            to_fold = folded.join(dirty, KEY).where("event_date >= first_dirty").persist()
            back = point_back(dirty, states.where(F.col("as_of_date") >= first - window)).persist()
            # Days, not users: with their names in the filter the history is not read for a few repairs.
            days = [row[0] for row in back.select("as_of_date").distinct().collect()]
            priors = find_priors(dirty, profiles, states.where(F.col("as_of_date").isin(days)), back).persist()
            if days:
                refuse_thinned(back, priors)
            constants = FoldConstants(**fold.model_dump(include=set(FoldConstants.__dataclass_fields__)))
            partitions = max(spark.sparkContext.defaultParallelism, -(-to_fold.count() // TASK_EVENTS))
            output = fold_frame(to_fold, priors, embeddings, partitions, constants).persist()
            run.counts |= output.agg(
                F.count("*").alias("states"),
                F.coalesce(F.sum("relevance_acted"), F.lit(0)).alias("relevance_acted"),
                F.coalesce(F.sum("cancelled"), F.lit(0)).alias("cancelled"),
            ).collect()[0].asDict()  # fmt: skip
        with run.phase("write"):
            write_states(spark, warehouse, to_states(output, model_key, run.fold_hash), states, dirty, priors)
        for frame in (to_fold, back, priors, output):
            frame.unpersist()
    dirty.unpersist()
    marked.unpersist()


def count_fates(marked: DataFrame, first: date, last: date) -> dict[str, int]:
    """Events of the days by fate: stored = the sum of the others (law 2). Stops where a text was never embedded."""
    in_days = F.col("event_date").between(first, last)
    found = {
        r["fate"]: (r["n"], r["reached"])
        for r in marked.groupBy("fate").agg(F.count_if(in_days).alias("n"), F.count("*").alias("reached")).collect()
    }
    if UNEMBEDDED in found:
        raise JobError(f"{found[UNEMBEDDED][1]} events have a text that was never embedded; run embed_texts over their log days first")
    counts = {fate: found.get(fate, (0, 0))[0] for fate in (FOLDED, ZERO_WEIGHT, RETRACT, RETRACTED, WITHOUT_VECTOR)}
    return {"stored": sum(counts.values()), **counts}


def newest_of_fold(profiles: DataFrame, fold_hash: str) -> date | None:
    """The newest day of the profiles, None without any; stops where some were folded under another hash."""
    others = F.max(F.when(F.col("fold_hash") != fold_hash, F.col("fold_hash")))
    newest, other = profiles.agg(F.max("as_of_date"), others).collect()[0]
    if other is not None:
        raise JobError(
            f"the profiles here were folded under other settings or another model (fold {other}, now {fold_hash}); "
            "put the settings back, or backfill into a new warehouse"
        )
    return date.fromisoformat(str(newest)) if newest is not None else None


def refuse_thinned(back: DataFrame, priors: DataFrame) -> None:
    """Stops where later states point back to one that is not there: folding on without it would fold from nothing.

    A dirty day that was thinned out itself ends here too: the states after it point to it, or to one between.
    """
    lost = back.join(priors, KEY, "left_anti").agg(F.count("*"), F.min("as_of_date")).collect()[0]
    if lost[0]:
        raise JobError(
            f"{lost[0]} profiles would have to be folded again from before {lost[1]}, a day whose states maintain_tables has thinned out; "
            "fold a later day, or backfill into a new warehouse"
        )


def write_states(spark: SparkSession, warehouse: str, fresh: DataFrame, states: DataFrame, dirty: DataFrame, priors: DataFrame) -> None:
    """One commit for the states of every day that changes, then one for the users' latest ones."""
    replaced = states.join(dirty, KEY).where("as_of_date >= first_dirty")
    days = sorted(row[0] for row in fresh.select("as_of_date").union(replaced.select("as_of_date")).distinct().collect())
    literals = ", ".join(f"DATE'{day}'" for day in days)
    predicate = f"as_of_date IN ({literals})"
    kept = states.where(predicate).join(dirty, KEY, "left").where("first_dirty IS NULL OR as_of_date < first_dirty")
    delta.overwrite_where(spark, warehouse, profile_states.TABLE, fresh.unionByName(kept.select(*fresh.columns)), predicate)
    latest = priors.select(*fresh.columns).unionByName(fresh).groupBy(*KEY).agg(F.max_by(F.struct(*fresh.columns), "as_of_date").alias("s"))
    changes = dirty.select(*KEY).join(latest, KEY, "left")
    same = (F.col("t.user_id") == F.col("c.user_id")) & (F.col("t.facet") == F.col("c.facet"))
    columns: dict[str, str | Column] = {name: F.col(f"c.s.{name}") for name in user_profiles.TABLE.names}
    table = delta.open_table(spark, warehouse, user_profiles.TABLE)
    merge = table.alias("t").merge(changes.alias("c"), same)
    merge = merge.whenMatchedDelete("c.s IS NULL").whenMatchedUpdate(set=columns).whenNotMatchedInsert("c.s IS NOT NULL", columns)
    lease.confirm(warehouse)
    with delta.noting(spark, {"profile_states": delta.table_version(spark, warehouse, profile_states.TABLE)}):
        merge.execute()


def sound_profiles(spark: SparkSession, warehouse: str, states: DataFrame) -> DataFrame:
    """user_profiles, written anew where a killed job left it behind profile_states: its last commit names their version.

    Upkeep raises versions and changes no latest state, so it is the version since which the states say the same that counts.
    """
    version = delta.same_since(spark, warehouse, profile_states.TABLE)
    if version is not None and delta.commit_note(spark, warehouse, user_profiles.TABLE).get("profile_states") != version:
        names = user_profiles.TABLE.names
        latest = states.groupBy(*KEY).agg(F.max_by(F.struct(*names), "as_of_date").alias("s")).select("s.*")
        with delta.noting(spark, {"profile_states": version}):
            delta.overwrite(spark, warehouse, user_profiles.TABLE, latest)
    return delta.read_table(spark, warehouse, user_profiles.TABLE)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    refuse_holes(publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day)
    run_id = args.run_id or new_run_id(JOB, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date) as record:
        fold_days(spark, args.warehouse, args.config, record, args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
