"""Folds a range of days and repairs what late events made stale."""

from collections.abc import Collection, Mapping
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.fold.dirty import (
    FEW_FACETS,
    KEY,
    days_before,
    days_of,
    find_dirty,
    find_priors,
    in_days,
    left_alone,
    point_back,
    refuse_thinned,
)
from jobs.fold.marks import by_facet, count_fates, mark_events
from jobs.fold.stage import fold_frame, share_of, tasks_of, to_states
from jobs.fold.tables import newest_of_fold, sound_profiles, write_profiles, write_states
from jobs.io import delta
from jobs.io.model import model_key_of
from jobs.io.runs import Run, publications
from jobs.io.session import configured
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, text_sentiments
from schemas.settings import Settings
from udfs.fold.contract import FoldConstants

JOB = "fold_profiles"

# A bound in bytes is asked for after every row, over all columns, which took most of the fold's time; here every row is bounded, and so
# rows are bound enough: a batch of nothing but vectors of 384 numbers has 30 MB.
BATCHES = {"spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1)}


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
        changed, repaired, counted = dirty.agg(
            F.count("*"), F.count_if(is_early), F.coalesce(F.sum("events"), F.lit(0))
        ).collect()[0]
        add_counts(run, {"profiles_changed": changed, "profiles_repaired": repaired})
    if changed:
        with run.phase("fold"):
            way = "broadcast" if changed <= FEW_FACETS else "shuffle_hash"
            dirty = dirty.drop("events").hint(way)
            to_fold = folded.join(dirty, KEY).where("event_date >= first_dirty")
            # Clean days after a dirty one are folded again too: not more than all of them.
            is_known = not repaired and first == horizon
            most = counted if is_known else in_all * len(hashes)
            back = point_back(dirty, states.where(F.col("as_of_date") >= first - window)).localCheckpoint(
                eager=False
            )
            # Days, not users: with their names in the filter neither history nor sleepers are read for a few priors.
            behind, replaced, left = days_before(back, profiles.join(dirty, KEY))
            priors = find_priors(
                dirty, profiles.where(in_days(left)), states.where(in_days(behind)), back.hint(way)
            )
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
    found = output.agg(
        *counts, F.collect_set("as_of_date"), F.collect_set(last_day), F.count(last_day)
    ).collect()[0]
    *moved, days, last_days, facets = found
    return dict(zip(measures, moved, strict=True)), set(days), set(last_days), facets
