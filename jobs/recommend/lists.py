"""Makes the lists of a day for the users whose profile moved, and writes them in one commit.

Everything is read as it was known at the end of the day, the model included; so a night, a range and a rerun
make the same lists of the same tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from threadpoolctl import threadpool_limits

from jobs.io.days import Days
from jobs.io.messages import JobError, say
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from jobs.io.session import release_checkpoints
from jobs.io.warehouse import conformed, same_rows
from jobs.rank.content import MAIN, NEGATIVE
from jobs.rank.tables import Tables
from jobs.rank.target import counted
from jobs.recommend.catalogue import Shop, ranker_of, read_shop
from jobs.recommend.churn import Made, count_changes, ranker_before
from jobs.recommend.due import kept_users
from jobs.recommend.exposure import capped
from jobs.recommend.overlap import Earlier
from jobs.recommend.pushed import tell_pushed
from jobs.recommend.stored import Stored, accepted, newest, terms_of
from schemas import profile_states, recommendations, user_profiles
from schemas.settings import RecommendSettings, Settings
from udfs.rank import OUTPUT_SCHEMA, Ranker, rank_stream

JOB: Final = "recommend_items"
# Entries of the block lists that a sentence names.
MOST_TOLD: Final = 5
NO_MODEL: Final = "no ranking model of these settings was accepted by then; run train_ranker first"


@dataclass(frozen=True)
class Asked:
    """Which lists are made: of the days, for a facet.

    For all users, or for those with events that arrived on the day.
    """

    days: Days
    facet: str = MAIN
    everybody: bool = False


def recommend_in_night(run: Run, settings: Settings, marked: DataFrame, asked: Asked) -> None:
    """As recommend for each of the days, or for everybody on the last: so a range owes what its nights do.

    Where no model was there, lists stay as they are, and the night goes on.
    """
    last, terms = asked.days.last, terms_of(settings)
    trained = [ranker["trained_to"] for ranker in accepted(run.warehouse, terms, last)]
    days = [last] if asked.everybody else list(asked.days)
    ready = [day for day in days if trained and day >= min(trained)]
    if len(ready) < len(days):
        say(f"{JOB} {Days(days[0], days[-len(ready) - 1])}: {NO_MODEL}; the lists stay as they are")
    for day in ready:
        stored = newest(run.warehouse, terms, day)
        assert stored is not None
        with release_checkpoints(run.spark):
            recommend(run, settings, marked, replace(asked, days=Days.only(day)), stored)


def recommend(run: Run, settings: Settings, marked: DataFrame, asked: Asked, stored: Stored) -> None:
    """Replaces the lists of the day and facet; without a commit where they are the same.

    marked: all events, with `gone` and `chosen`. Counts users with events of the days (`active`), those whose
    profile moved too little (`unmoved`), those whose list in force has an item that is blocked now
    (`unblocked`), and those with a list (`listed`), and how much lists changed.
    """
    day, model_key = asked.days.last, model_key_of(settings.engine)
    known = known_by(marked, asked.days)
    earlier = Earlier(run.warehouse, asked.facet, day, settings.maintenance.thin_after_days)
    with run.phase("catalogue"):
        events = known.where(counted(settings.fold))
        shop = read_shop(run.warehouse, events, settings.recommend, model_key, day)
        ranker = ranker_of(shop, stored, settings.recommend, day)
        tell_pushed(run, events, asked.days)
    tell_unmatched(day, shop)
    with run.phase("score"):
        profiles = profiles_by(run.warehouse, asked, model_key)

        def lists_of(users: DataFrame, ranker: Ranker) -> DataFrame:
            return listed(rows_of(users, profiles, events, asked.facet), ranker)

        ranker = capped(ranker, known.select("user_id").distinct(), lists_of)
        users, unmoved = users_asked(run, settings.recommend, shop, marked, profiles, earlier, asked)
        lists = lists_of(with_unblocked(run, shop, asked, users), ranker).withColumns(
            {"as_of_date": F.lit(day), "facet": F.lit(asked.facet), "version": F.lit(stored.version)}
        )
        rows = conformed(lists, recommendations.TABLE).localCheckpoint()
        refuse_blocked(rows, shop)
        count = rows.where("rank = 1").count()
        run.add_counts({"listed": count})
    with run.phase("compare"):
        before = ranker_before(run, shop, stored, settings.recommend, earlier, ranker)
        count_changes(run, Made(rows, count, unmoved, ranker, lists_of), earlier, before)
    with run.phase("write"):
        write(run, rows, asked)


def known_by(marked: DataFrame, days: Days) -> DataFrame:
    """The events that were known at the end of the days: happened and arrived, and not taken back."""
    last = F.lit(days.last)
    is_there = F.col("gone").isNull() | (F.col("gone") > last)
    return marked.where((F.col("log_date") <= last) & (F.col("event_date") <= last) & is_there)


def profiles_by(tables: Tables, asked: Asked, model_key: str) -> DataFrame:
    """(user_id, facet, model_key, contributions, vector): each user's latest states, of facets that count."""
    day, facets = F.lit(asked.days.last), [MAIN, NEGATIVE, asked.facet]
    latest = tables.read(user_profiles.TABLE)
    columns = ["user_id", "facet", "model_key", "contributions", "vector"]
    if latest.where(F.col("as_of_date") > day).isEmpty():
        states = latest
    else:
        earlier = tables.read(profile_states.TABLE).where(F.col("as_of_date") <= day)
        newest_state = F.max_by(F.struct(*earlier.columns), "as_of_date").alias("s")
        states = earlier.groupBy("user_id", "facet").agg(newest_state).select("s.*")
    return states.where((F.col("model_key") == model_key) & F.col("facet").isin(facets)).select(*columns)


def users_asked(
    run: Run,
    settings: RecommendSettings,
    shop: Shop,
    marked: DataFrame,
    profiles: DataFrame,
    earlier: Earlier,
    asked: Asked,
) -> tuple[DataFrame, DataFrame | None]:
    """(user_id) of the users who get a list, and of those who keep theirs; None where nobody may.

    Of a context facet, those who have a profile of it.
    """
    if asked.everybody:
        users = known_by(marked, asked.days).select("user_id").distinct()
    else:
        users = marked.where(asked.days.sql("log_date")).select("user_id").distinct()
    own = profiles.where(F.col("facet") == asked.facet)
    if asked.facet != MAIN:
        users = users.join(own, "user_id", "left_semi")
    if asked.everybody or not settings.min_drift:
        run.add_counts({"active": users.count(), "unmoved": 0})
        return users, None
    kept = kept_users(users, own, marked, earlier, settings.min_drift)
    if len(shop.blocked):
        kept = kept.join(with_blocked(earlier.items(kept), shop), "user_id", "left_anti")
    kept = kept.localCheckpoint()
    run.add_counts({"active": users.count(), "unmoved": kept.count()})
    return users.join(kept, "user_id", "left_anti"), kept


def with_unblocked(run: Run, shop: Shop, asked: Asked, users: DataFrame) -> DataFrame:
    """(user_id) of the users, and of all others whose list in force has an item that is blocked now."""
    if not len(shop.blocked) or asked.everybody:
        return users
    others = holding_blocked(run.warehouse, shop, asked).join(users, "user_id", "left_anti").localCheckpoint()
    run.add_counts({"unblocked": others.count()})
    return users.unionAll(others)


def tell_unmatched(day: date, shop: Shop) -> None:
    """Says which entries of the block lists match no item."""
    if shop.unmatched:
        told = ", ".join(shop.unmatched[:MOST_TOLD]) + (", ..." if len(shop.unmatched) > MOST_TOLD else "")
        say(f"{JOB} {day}: {len(shop.unmatched)} entries of the block lists match no item: {told}")


def rows_of(users: DataFrame, profiles: DataFrame, events: DataFrame, facet: str) -> DataFrame:
    """The users as udfs/rank.py INPUT_SCHEMA has them. events: those that were known and count."""
    own = profiles.join(users, "user_id", "left_semi")

    def vector(name: str) -> Column:
        return F.first(F.when(F.col("facet") == name, F.col("vector")), ignorenulls=True)

    context = vector(facet) if facet != MAIN else F.first(F.lit(None).cast("array<float>"))
    vectors = own.groupBy("user_id").agg(
        vector(MAIN).alias("main"), vector(NEGATIVE).alias("negative"), context.alias("facet")
    )
    ledger = own.where(F.col("facet") == facet).select("user_id", F.explode("contributions").alias("c"))
    shares = ledger.select("user_id", "c.event_id", F.col("c.weight").alias("share"))
    of_users = events.join(users, "user_id", "left_semi").join(shares, ["user_id", "event_id"], "left")
    share = F.coalesce("share", F.lit(0.0)).cast("float").alias("share")
    day = F.unix_date("event_date").alias("day")
    # By time, as the first two fields say.
    event = F.struct("event_ts", "event_id", "item_id", day, "chosen", share)
    used = of_users.where("chosen OR share IS NOT NULL").groupBy("user_id")
    by_time = used.agg(F.array_sort(F.collect_list(event)).alias("events"))
    return (
        users.join(vectors, "user_id", "left")
        .join(by_time, "user_id", "left")
        .select("user_id", "main", "negative", "facet", "events")
    )


def listed(users: DataFrame, ranker: Ranker) -> DataFrame:
    """The lists (udfs/rank.py OUTPUT_SCHEMA) of users, as rows_of returns them."""
    shared = users.sparkSession.sparkContext.broadcast(ranker)

    def rank(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(1):  # tasks share the cores already
            yield from rank_stream(batches, shared.value)

    return users.mapInArrow(rank, from_arrow_schema(OUTPUT_SCHEMA))


def holding_blocked(tables: Tables, shop: Shop, asked: Asked) -> DataFrame:
    """(user_id) of those whose list in force before the day has a blocked item."""
    earlier = tables.read(recommendations.TABLE).where(
        (F.col("facet") == asked.facet) & (F.col("as_of_date") < F.lit(asked.days.last))
    )
    in_force = earlier.groupBy("user_id").agg(F.max("as_of_date").alias("as_of_date"))
    held = with_blocked(earlier, shop).select("user_id", "as_of_date")
    return held.join(in_force, ["user_id", "as_of_date"], "left_semi").select("user_id").distinct()


def refuse_blocked(rows: DataFrame, shop: Shop) -> None:
    """Raises JobError where a list has a blocked item, whatever the scores say."""
    if len(shop.blocked) and not with_blocked(rows, shop).isEmpty():
        raise JobError("a list has an item of the block list; nothing was written, report this")


def with_blocked(rows: DataFrame, shop: Shop) -> DataFrame:
    """The rows of lists whose item is blocked."""
    blocked = rows.sparkSession.createDataFrame(
        [(item,) for item in shop.blocked.to_pylist()], "item_id string"
    )
    return rows.join(F.broadcast(blocked), "item_id", "left_semi")


def write(run: Run, rows: DataFrame, asked: Asked) -> None:
    """Replaces the lists of the day and facet in one commit, where they differ."""
    table = recommendations.TABLE
    predicate = f"as_of_date = DATE'{asked.days.last}' AND facet = '{asked.facet}'"
    stored = run.warehouse.read(table).where(predicate)
    if not same_rows(stored, rows, table.names):
        run.writer.replace(table, rows, predicate)
