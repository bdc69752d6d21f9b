"""Folds the stored events of a day, or of a range of days, into profiles, and repairs what late events made stale.

The states to compute are found by comparing digests: for every user, facet and day of the window before the first day up to
the last one, the digest of the stored events is held against the digest in the state. Where they differ the user's facet is
folded again from that day on, from the state before it. So late events, retractions, days delivered again and crashes need
nothing special, and a day that is already folded costs a comparison and writes nothing.

    python -m jobs.fold_profiles --date D --warehouse URI [--bootstrap]
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.embed_texts import model_key_of
from jobs.event_marks import by_facet, count_fates, mark_events
from jobs.io import delta
from jobs.io.runs import Run, new_run_id, publications, recorded, refuse_holes, refuse_other_schema
from jobs.io.session import configured
from jobs.io.shell import JobError, Parser, iso_day, job_parser, run_main
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, text_sentiments, user_profiles
from schemas.settings import Settings
from udfs.fold import EVENT_ROW, INPUT_SCHEMA, OUTPUT_SCHEMA, PRIOR_ROW, VECTOR_ROW, FoldConstants, fold_stream

JOB = "fold_profiles"
KEY = ["user_id", "facet"]
# Events of one fold task, and where its distinct texts could have more numbers than the second says, 400 MB, so few that they have not.
TASK_EVENTS, TASK_NUMBERS = 1_000_000, 100_000_000
# More numbers than a vector of any model has.
LARGEST_DIM = 1 << 14
# Dirty facets of which the keys and days are sent to every machine, some ten megabytes, so that states need not be moved to meet them.
FEW_FACETS = 200_000
# Vectors brought to tasks of which the keys are sent to every machine, some fifty megabytes, so that vectors are moved once and not twice.
FEW_USES = 400_000
# A bound in bytes is asked for after every row, over all columns, which took most of the fold's time; here every row is bounded, and so
# rows are bound enough: a batch of nothing but vectors of 384 numbers has 30 MB.
BATCHES = {"spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1)}


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the day to fold")
    parser.add_argument("--bootstrap", action="store_true", help="begin this warehouse's history with the day")
    return parser


# ---- pure: what must be folded


def digest_of(high: Column, low: Column) -> Column:
    """The digest of a day as text: 32 hexadecimal digits."""
    return F.lower(F.concat(F.lpad(F.hex(high), 16, "0"), F.lpad(F.hex(low), 16, "0")))


def find_dirty(folded: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, first_dirty, events): the first day whose stored state is not what its events give, and the events of such days.

    Clean facets have no row.
    """
    digest = digest_of(F.bit_xor("digest_high"), F.bit_xor("digest_low"))
    wanted = folded.groupBy(*KEY, F.col("event_date").alias("as_of_date")).agg(digest.alias("wanted"), F.count("*").alias("events"))
    both = wanted.join(states.select(*KEY, "as_of_date", "events_digest"), [*KEY, "as_of_date"], "full")
    differ = both.where(~F.col("wanted").eqNullSafe(F.col("events_digest")))
    return differ.groupBy(*KEY).agg(F.min("as_of_date").alias("first_dirty"), F.sum("events").alias("events"))


def point_back(dirty: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, as_of_date, replaced) of the dirty facets that have states from first_dirty on: the state before, None where
    there is none, and the days of those that will be replaced.
    """
    later = states.join(dirty, KEY).where("as_of_date >= first_dirty")
    before = F.min_by("previous_as_of_date", "as_of_date").alias("as_of_date")
    return later.groupBy(*KEY).agg(before, F.collect_list("as_of_date").alias("replaced"))


def find_priors(dirty: DataFrame, profiles: DataFrame, states: DataFrame, back: DataFrame) -> DataFrame:
    """The state before first_dirty of every dirty facet that has one: its latest, or the one its later states point back to."""
    latest = profiles.join(dirty, KEY).where("as_of_date < first_dirty").select(*states.columns)
    return latest.unionByName(states.join(back, [*KEY, "as_of_date"]).select(*states.columns))


def left_alone(priors: DataFrame, latest: DataFrame) -> DataFrame:
    """The priors of dirty facets of which no event is left, and so no fresh state: they are the latest states again."""
    return priors.join(latest.select(*KEY), KEY, "left_anti").select(*latest.columns)


# ---- pure: the kernel's stream


def fold_frame(
    folded: DataFrame, priors: DataFrame, embeddings: DataFrame, uses: int, partitions: int, constants: FoldConstants
) -> DataFrame:
    """States (udfs/fold.py OUTPUT_SCHEMA) of events on their priors; each partition gets each vector it needs once, at most about `uses` in
    all.
    """
    # In the order of a hash, then of the id: ids begin alike, and numbers that differ at once are sorted in half the time.
    place = {"place": F.xxhash64("user_id"), "part": F.pmod(F.hash("user_id"), F.lit(partitions))}
    events = folded.withColumns({"kind": F.lit(EVENT_ROW), "day": F.col("event_date")} | place)
    old = priors.withColumns({"kind": F.lit(PRIOR_ROW), "day": F.col("as_of_date")} | place)
    wanted = events.select("part", "text_key").distinct()
    brought = embeddings.join(wanted.hint("broadcast") if uses <= FEW_USES else wanted, "text_key")
    vectors = brought.select("part", "text_key", "vector", F.lit(VECTOR_ROW).alias("kind"))
    stream = _streamed(vectors).unionByName(_streamed(old)).unionByName(_streamed(events)).repartitionById(partitions, "part")
    order: list[Column | str] = [F.col("place").asc_nulls_first(), *KEY, "kind", "event_ts", "event_id"]
    ordered = stream.sortWithinPartitions(*order).drop("part", "place")

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return fold_stream(batches, constants)

    return ordered.mapInArrow(fold, from_arrow_schema(OUTPUT_SCHEMA))


def _streamed(rows: DataFrame) -> DataFrame:
    """The stream's columns of one kind of row; those it does not have are NULL."""
    present = set(rows.columns)
    schema = [("place", "bigint"), *((f.name, f.dataType.simpleString()) for f in from_arrow_schema(INPUT_SCHEMA))]
    return rows.selectExpr("part", *[f"CAST({name if name in present else 'NULL'} AS {kind}) AS {name}" for name, kind in schema])


def to_states(output: DataFrame, model_key: str, facet_hashes: Mapping[str, str]) -> DataFrame:
    """Columns of profile_states, and is_last."""
    digest = digest_of(F.col("digest_high"), F.col("digest_low"))
    fold_hash = reduce(lambda rest, facet: F.when(F.col("facet") == facet, facet_hashes[facet]).otherwise(rest), facet_hashes, F.lit(None))
    named = {"events_digest": digest, "model_key": F.lit(model_key), "fold_hash": fold_hash}
    return output.withColumns(named).select(*profile_states.TABLE.names, "is_last")


# ---- the edges


def fold_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run: Run,
    first: date,
    last: date,
    into: str | None = None,
    facets: Collection[str] | None = None,
    compared_from: date = date.min,
) -> None:
    """Folds the days and what is stale in the window before them; two commits, or none where all is folded already.

    `into` is the folder of the states and profiles, by default the warehouse; `facets` are those to fold, by default all. Days before
    `compared_from` are counted, and taken to be folded.
    """
    fold, window, into = settings.fold, timedelta(days=settings.fold.window_days), into or warehouse
    compared_from = max(compared_from, first - window)
    model_key = model_key_of(settings.engine)
    hashes = settings.facet_hashes(model_key)
    run.fold_hash = settings.fold_hash(model_key)
    states = delta.read_table(spark, into, profile_states.TABLE)
    profiles = sound_profiles(spark, into, states)
    newest = newest_of_fold(spark, into, profiles, hashes)
    # Days after `last` are there when an older day is repaired: its users are replayed to the end. The newest may have no states.
    published = [span.last for span in publications(spark, warehouse)] if into == warehouse else []
    horizon = max(last, newest or last, *published)
    of_model = F.col("model_key") == model_key
    embeddings = delta.read_table(spark, warehouse, text_embeddings.TABLE).where(of_model)
    rejected = delta.read_table(spark, warehouse, rejected_texts.TABLE).where(of_model)
    sentiments = delta.read_table(spark, warehouse, text_sentiments.TABLE).where(
        F.col("sentiment_key").eqNullSafe(F.lit(fold.sentiment_key))
    )
    arrived = F.col("log_date").between(first - window - timedelta(days=1), horizon + window)
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(arrived)
    in_reach = F.col("event_date").between(first - window, horizon)
    with run.phase("compare"):
        marked = mark_events(events, embeddings, rejected, sentiments, fold, in_reach)
        fates, in_all, texts = count_fates(marked, first, last)
        add_counts(run, fates)
        folded = by_facet(marked, hashes if facets is None else facets)
        # One day ahead is accepted: a day that is run again may have events of the next one, which is folded already.
        until = min(horizon, last + timedelta(days=1))
        compared = F.col("event_date").between(compared_from, until)
        stored = states.where(F.col("as_of_date").between(compared_from, until))
        dirty = find_dirty(folded.where(compared), stored).localCheckpoint(eager=False)
        is_early = F.col("first_dirty") < F.lit(first)
        changed, repaired, counted = dirty.agg(F.count("*"), F.count_if(is_early), F.coalesce(F.sum("events"), F.lit(0))).collect()[0]
        add_counts(run, {"profiles_changed": changed, "profiles_repaired": repaired})
    if changed:
        with run.phase("fold"):
            way = "broadcast" if changed <= FEW_FACETS else "shuffle_hash"
            dirty = dirty.drop("events").hint(way)
            to_fold = folded.join(dirty, KEY).where("event_date >= first_dirty")
            # Clean days after a dirty one are folded again too: not more than all of them.
            is_known = not repaired and first == horizon
            most = counted if is_known else in_all * len(hashes)
            back = point_back(dirty, states.where(F.col("as_of_date") >= first - window)).localCheckpoint(eager=False)
            # Days, not users: with their names in the filter neither history nor sleepers are read for a few priors.
            behind, replaced, left = days_before(back, profiles.join(dirty, KEY))
            priors = find_priors(dirty, profiles.where(in_days(left)), states.where(in_days(behind)), back.hint(way))
            priors = priors.localCheckpoint(eager=False)
            if behind:
                refuse_thinned(back, priors)
            constants = FoldConstants(**fold.model_dump(include=set(FoldConstants.__dataclass_fields__)))
            tasks = tasks_of(to_fold, most, is_known, share_of(embeddings, texts))
            output = fold_frame(to_fold, priors, embeddings, min(most, texts * tasks), tasks, constants)
            with configured(spark, BATCHES):
                output = output.localCheckpoint()
            moves, fresh_days, last_days, ended = moves_of(output)
            add_counts(run, moves)
        with run.phase("write"):
            note: dict[str, object] = {"facet_hashes": hashes}
            # Where the newest day's profiles are left for older ones, only all profiles can tell the newest day: then nothing is noted.
            known = fresh_days | ({newest} - left if newest else set())
            if known and max(known) >= (newest or first):
                note["newest"] = max(known)
            fresh = to_states(output, model_key, hashes)
            write_states(spark, into, fresh.drop("is_last"), states, dirty, replaced | fresh_days, note)
            latest = fresh.where("is_last").drop("is_last")
            if ended < changed:
                alone = left_alone(priors, latest)
                latest, last_days = latest.unionByName(alone), last_days | days_of(alone)
            write_profiles(spark, into, latest, profiles, dirty, left | last_days, note)


def add_counts(run: Run, counts: Mapping[str, int]) -> None:
    """Adds to what the run has counted: a range may be folded in several parts."""
    run.counts |= {name: run.counts.get(name, 0) + count for name, count in counts.items()}


def tasks_of(to_fold: DataFrame, most: int, is_known: bool, share: int) -> int:
    """In how many tasks of `share` events these are folded; at least one for each core.

    There are at most `most` events, or just as many where that is known.
    """
    cores = int(to_fold.sparkSession.sparkContext.defaultParallelism)
    if most <= cores * share:
        return cores
    return max(cores, -(-(most if is_known else to_fold.count()) // share))


def share_of(embeddings: DataFrame, texts: int) -> int:
    """How many events of at most about so many distinct texts a task may have, so that its memory is bounded."""
    if texts * LARGEST_DIM <= TASK_NUMBERS or (row := embeddings.select("dim").first()) is None:
        return TASK_EVENTS
    return TASK_EVENTS if texts * row["dim"] <= TASK_NUMBERS else max(1, TASK_NUMBERS // row["dim"])


def moves_of(output: DataFrame) -> tuple[dict[str, int], set[date], set[date], int]:
    """What the fold did: states written, events behind them, how many profiles moved and how far, on how many events relevance acted.
    Then the days of the states, those of the facets' last states, and how many facets these are.

    Run records count in whole numbers, so drift is told in millionths, summed over the states that have one before them.
    """
    measures = {
        "states": F.count("*"),
        "events_folded": F.sum(F.col("day_count")),
        "relevance_acted": F.sum("relevance_acted"),
        "cancelled": F.sum("cancelled"),
        "states_moved": F.count_if(F.col("drift") > 0),
        "drift_millionths": F.sum(F.round(F.col("drift") * 1e6).cast("long")),
    }
    counts = [F.coalesce(column.cast("long"), F.lit(0)).alias(name) for name, column in measures.items()]
    last_day = F.when(F.col("is_last"), F.col("as_of_date"))
    found = output.agg(*counts, F.collect_set("as_of_date"), F.collect_set(last_day), F.count(last_day)).collect()[0]
    *moved, days, last_days, facets = found
    return dict(zip(measures, moved, strict=True)), set(days), set(last_days), facets


def refuse_other_settings(spark: SparkSession, warehouse: str, settings: Settings) -> None:
    """Stops before the ingest where the profiles were folded under other settings: a day that was begun would have to be finished."""
    hashes = settings.facet_hashes(model_key_of(settings.engine))
    if delta.commit_note(spark, warehouse, user_profiles.TABLE).get("facet_hashes") != hashes:
        newest_of_fold(spark, warehouse, delta.read_table(spark, warehouse, user_profiles.TABLE), hashes)


def newest_of_fold(spark: SparkSession, warehouse: str, profiles: DataFrame, hashes: Mapping[str, str]) -> date | None:
    """The newest day of the profiles, None without any; stops where some were folded under other settings.

    The last commit says both, unless it was no fold's: then all profiles are asked.
    """
    note = delta.commit_note(spark, warehouse, user_profiles.TABLE)
    if note.get("facet_hashes") == hashes and "newest" in note:
        return date.fromisoformat(note["newest"])
    found = profiles.groupBy("facet", "fold_hash").agg(F.max("as_of_date")).collect()
    noted = note.get("facet_hashes", hashes) if found else hashes
    if noted != hashes or any(hashes.get(facet) != other for facet, other, _ in found):
        raise JobError(
            "the profiles here were folded under other settings or another model; put the settings back, or run backfill_profiles --rebuild"
        )
    return max((newest for *_, newest in found), default=None)


def refuse_thinned(back: DataFrame, priors: DataFrame) -> None:
    """Stops where later states point back to one that is not there: folding on without it would fold from nothing.

    A dirty day that was thinned out itself ends here too: the states after it point to it, or to one between.
    """
    pointing = back.where("as_of_date IS NOT NULL")
    lost = pointing.join(priors, KEY, "left_anti").agg(F.count("*"), F.min("as_of_date")).collect()[0]
    if lost[0]:
        raise JobError(
            f"{lost[0]} profiles would have to be folded again from before {lost[1]}, a day whose states maintain_tables has thinned out; "
            "fold a later day, or backfill into a new warehouse"
        )


def write_states(
    spark: SparkSession, warehouse: str, fresh: DataFrame, states: DataFrame, dirty: DataFrame, days: set[date], note: dict[str, object]
) -> None:
    """One commit for the states of the days that change."""
    touched = in_days(days)
    kept = states.where(touched).join(dirty, KEY, "left").where("first_dirty IS NULL OR as_of_date < first_dirty")
    with delta.noting(spark, note):
        delta.overwrite_where(spark, warehouse, profile_states.TABLE, fresh.unionByName(kept.select(*fresh.columns)), touched)


def write_profiles(
    spark: SparkSession, warehouse: str, latest: DataFrame, profiles: DataFrame, dirty: DataFrame, days: set[date], note: dict[str, object]
) -> None:
    """One commit for the latest states: the days that dirty facets leave or enter are written anew, all others stay as they are."""
    touched = in_days(days)
    kept = profiles.where(touched).join(dirty, KEY, "left_anti")
    rows = latest.unionByName(kept.select(*latest.columns).repartition("as_of_date"))
    with delta.noting(spark, note | {"profile_states": delta.same_since(spark, warehouse, profile_states.TABLE)}):
        delta.overwrite_where(spark, warehouse, user_profiles.TABLE, rows, touched)


def days_before(back: DataFrame, known: DataFrame) -> tuple[set[date], set[date], set[date]]:
    """The days that later states point back to, the days of those, and the days of the dirty facets' profiles; asked for at once."""
    replaced = back.select(F.lit(1), F.explode("replaced").alias("as_of_date"))
    rows = back.select(F.lit(0), "as_of_date").union(replaced).union(known.select(F.lit(2), "as_of_date"))
    found = rows.where("as_of_date IS NOT NULL").distinct().collect()
    behind, days, left = ({day for kind, day in found if kind == wanted} for wanted in range(3))
    return behind, days, left


def days_of(rows: DataFrame) -> set[date]:
    return {row[0] for row in rows.select("as_of_date").distinct().collect()}


def in_days(days: Collection[date]) -> str:
    """A literal predicate on the day of a state, by which both tables are partitioned."""
    literals = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return f"as_of_date IN ({literals or 'NULL'})"


def sound_profiles(spark: SparkSession, warehouse: str, states: DataFrame) -> DataFrame:
    """user_profiles, written anew where a killed job left it behind profile_states: its last commit names their version.

    Upkeep raises versions and changes no latest state, so it is the version since which the states say the same that counts.
    """
    version = delta.same_since(spark, warehouse, profile_states.TABLE)
    if version is not None and delta.commit_note(spark, warehouse, user_profiles.TABLE).get("profile_states") != version:
        latest = states.groupBy(*KEY).agg(F.max_by(F.struct(*states.columns), "as_of_date").alias("s")).select("s.*")
        noted = delta.commit_note(spark, warehouse, profile_states.TABLE)
        with delta.noting(spark, {"profile_states": version} | {key: noted[key] for key in ("facet_hashes", "newest") if key in noted}):
            delta.overwrite(spark, warehouse, user_profiles.TABLE, latest.repartition("as_of_date"))
    return delta.read_table(spark, warehouse, user_profiles.TABLE)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    refuse_holes(publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day)
    refuse_other_schema(spark, args.warehouse)
    refuse_other_settings(spark, args.warehouse, args.config)
    run_id = args.run_id or new_run_id(JOB, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date) as record:
        fold_days(spark, args.warehouse, args.config, record, args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
