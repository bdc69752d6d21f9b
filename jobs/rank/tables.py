"""Reads the published tables into the arrays that the replay works on.

The driver holds the catalogue, and of a sample of users their log and the states that steps use. Memory does
not grow with the users: above any of LARGEST's numbers they are sampled by a hash of their id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.history import first_hole
from jobs.io.messages import JobError
from jobs.io.runs import RunLog
from jobs.io.warehouse import Warehouse
from jobs.rank.catalogue import NO_TEXT, Catalogue
from jobs.rank.events import NEVER, Events
from jobs.rank.moment import day_of
from jobs.rank.states import Changes, FacetStates, States
from jobs.rank.target import RETRACT, counted
from jobs.rank.world import World
from schemas import items, profile_states, text_embeddings
from schemas.fold_settings import FoldSettings
from schemas.table import Table
from udfs.rerank import NO_CATEGORY

# Items whose vectors the driver holds, and for lists every worker gets: 384 numbers each make 770 MB.
MOST_ITEMS: Final = 500_000
# The hash that samples users differs from the key's, which orders them.
SAMPLE_SEED: Final = 7
SHARES: Final = 1_000_000
KEY: Final = "key"
# What rankings need of an event.
USED: Final = (
    "user_id",
    "item_id",
    "event_type",
    "event_ts",
    "event_id",
    "event_date",
    "log_date",
    "gone",
    "chosen",
)


class Tables(Protocol):
    """Where rows are read: what is published, or what is there now."""

    def read(self, table: Table) -> DataFrame:
        """The table's rows."""
        ...


@dataclass(frozen=True)
class Published:
    """The tables at the versions that readers see; a table that was never written has no rows."""

    warehouse: Warehouse
    versions: Mapping[str, int]

    def read(self, table: Table) -> DataFrame:
        """The published rows."""
        if table.name not in self.versions:
            return self.warehouse.no_rows(table)
        return self.warehouse.read_version(table, self.versions[table.name])


def published_tables(warehouse: Warehouse, days: Days) -> Published:
    """The published tables. Raises JobError where a day of the range is not published."""
    publications = RunLog(warehouse).publications()
    hole = first_hole(publications, days)
    if hole is not None:
        raise JobError(f"{hole} is not published in {warehouse.uri}; give published days alone")
    return Published(warehouse, publications[-1].output_versions)


def key_of(column: str = "user_id") -> Column:
    """The key of a user."""
    return F.xxhash64(column).alias(KEY)


@dataclass(frozen=True)
class Size:
    """How many events, users and states there are."""

    events: int
    users: int
    states: int


# On the driver: some 400 MB of events, 300 MB of figures by user, 600 MB of vectors of 384 numbers; the last
# is also below what Spark lets a driver collect by default.
LARGEST: Final = Size(events=5_000_000, users=200_000, states=400_000)


def size_of(published: Published, events: DataFrame, steps: Sequence[int]) -> Size:
    """How much there is for these steps. events: those that count."""
    counted_events, users = events.agg(F.count("*"), F.countDistinct("user_id")).collect()[0]
    days = Days(day_of(steps[0]), day_of(steps[-1])).sql("as_of_date")
    states = published.read(profile_states.TABLE).where(days).count()
    # Each user has one state more, of before the first step.
    return Size(counted_events, users, states + users)


def users_share(found: Size, largest: Size = LARGEST) -> float:
    """The share of the users that fits.

    >>> users_share(Size(4000, 10, 10), Size(1000, 100, 100)), users_share(Size(0, 0, 0))
    (0.25, 1.0)
    """
    return min(
        1.0,
        largest.events / max(found.events, 1),
        largest.users / max(found.users, 1),
        largest.states / max(found.states, 1),
    )


def sampled(rows: DataFrame, share: float) -> DataFrame:
    """The rows of this share of the users, the same users in every table."""
    if share >= 1:
        return rows
    return rows.where(F.pmod(F.xxhash64(F.lit(SAMPLE_SEED), "user_id"), F.lit(SHARES)) < int(share * SHARES))


def fitting_events(
    published: Published,
    marked: DataFrame,
    fold: FoldSettings,
    steps: Sequence[int],
    more: Sequence[str] = (),
) -> tuple[DataFrame, float]:
    """The events of as many users as fit for these steps, checkpointed, and the share of the users.

    marked: all events, with `gone` and `chosen`. more: columns besides USED.
    """
    share = users_share(size_of(published, marked.where(counted(fold)), steps))
    return sampled(marked, share).select(*USED, *more).localCheckpoint(), share


def with_retractions(events: DataFrame) -> DataFrame:
    """The events with `gone`, the log day on which a retraction of each first arrived, NULL without one.

    events: all of behavior_events.
    """
    aimed = events.where(F.col("event_type") == RETRACT).groupBy(
        "user_id", F.col("retracts_event_id").alias("event_id")
    )
    return events.join(aimed.agg(F.min("log_date").alias("gone")), ["user_id", "event_id"], "left")


def read_world(
    published: Published,
    events: DataFrame,
    fold: FoldSettings,
    model_key: str,
    steps: Sequence[int],
    category: str | None = None,
) -> tuple[World, pa.Array]:
    """Everything that rankings at these steps may ask for, and the ids of the catalogue's items, ascending.

    events: of the sampled users, with_retractions, and `chosen`. category: the attribute of items that has
    it, where categories are asked for.
    """
    catalogue, names = read_catalogue(published, events.where(counted(fold)), model_key, category)
    log = read_events(events.where(counted(fold)), names)
    changes = read_changes(events)
    # Without a vector of an item there is nothing to compare profiles with.
    has_vectors = len(catalogue.vectors) > 0
    states = read_states(published, events, changes, model_key, steps) if has_vectors else no_states(changes)
    return World(log, catalogue, states), names


def read_events(events: DataFrame, names: pa.Array) -> Events:
    """The events by user and time. names: the ids of the catalogue's items, ascending."""
    columns: list[Column | str] = [
        key_of(),
        "item_id",
        *[F.unix_date(name).alias(name) for name in ("event_date", "log_date")],
    ]
    columns += [F.coalesce(F.unix_date("gone"), F.lit(NEVER)).alias("gone"), "chosen"]
    columns += ["event_ts", "event_id"]
    rows = events.select(*columns).orderBy(KEY, "event_ts", "event_id")
    found = rows.drop("event_ts", "event_id").toArrow()
    keys = found[KEY].to_numpy()
    users, starts = np.unique(keys, return_index=True)
    return Events(
        users,
        np.append(starts, len(keys)).astype(np.int64),
        pc.index_in(found["item_id"], value_set=names).to_numpy().astype(np.int32),
        found["event_date"].to_numpy().astype(np.int32),
        found["log_date"].to_numpy().astype(np.int32),
        found["gone"].to_numpy().astype(np.int32),
        found["chosen"].to_numpy(zero_copy_only=False),
    )


def read_catalogue(
    tables: Tables, events: DataFrame, model_key: str, category: str | None = None
) -> tuple[Catalogue, pa.Array]:
    """The catalogue, and the ids of its items, ascending as UTF-8. category: as read_world has it.

    Raises JobError where there are more than MOST_ITEMS, from catalogues and events together.
    """
    columns: list[Column | str] = ["item_id", F.unix_date("valid_from").alias("day"), "text_key"]
    if category is not None:
        columns.append(F.try_element_at("attributes", F.lit(category)).alias("category"))
    versions = tables.read(items.TABLE).select(*columns)
    seen = events.groupBy("item_id").agg(F.unix_date(F.min("log_date")).alias("day"))
    known = versions.select("item_id", "day").union(seen).groupBy("item_id").agg(F.min("day").alias("day"))
    all_items = known.orderBy("item_id").toArrow()
    if len(all_items) > MOST_ITEMS:
        raise JobError(f"the log has {len(all_items):,} items, and at most {MOST_ITEMS:,} can be ranked")
    names = all_items["item_id"].combine_chunks()
    of_model = tables.read(text_embeddings.TABLE).where(F.col("model_key") == model_key)
    used = versions.select("text_key").where("text_key IS NOT NULL").distinct()
    texts = of_model.join(used, "text_key").select("text_key", "vector").orderBy("text_key").toArrow()
    named = versions.orderBy("item_id", "day").toArrow()
    rows = pc.index_in(named["text_key"], value_set=texts["text_key"].combine_chunks())
    catalogue = Catalogue(
        all_items["day"].to_numpy().astype(np.int32),
        pc.index_in(named["item_id"], value_set=names).to_numpy().astype(np.int32),
        named["day"].to_numpy().astype(np.int32),
        pc.fill_null(rows, NO_TEXT).to_numpy().astype(np.int32),
        matrix_of(texts["vector"]),
        None if category is None else numbered(named["category"]),
    )
    return catalogue, names


def numbered(names: pa.ChunkedArray) -> NDArray[np.int32]:
    """int32[n]: the place of each name among all of them, ascending; NO_CATEGORY for NULL."""
    every = pc.unique(names).drop_null()
    every = every.take(pc.sort_indices(every))
    places = pc.fill_null(pc.index_in(names, value_set=every), NO_CATEGORY)
    return np.asarray(places.to_numpy(), np.int32)


def read_changes(events: DataFrame) -> Changes:
    """What changed days afterwards: late events, and retractions, from the day of their target on.

    events: with_retractions, all types, since an event without an item moves profiles too.
    """
    late = events.where("log_date > event_date").select(key_of(), "event_date", "log_date")
    gone = events.where("gone IS NOT NULL").select(key_of(), "event_date", F.col("gone").alias("log_date"))
    days = [F.unix_date(name).alias(name) for name in ("event_date", "log_date")]
    found = late.union(gone).select(KEY, *days).distinct().orderBy(KEY, *("event_date", "log_date")).toArrow()
    arrays = [found[name].to_numpy() for name in (KEY, "event_date", "log_date")]
    return Changes(arrays[0], arrays[1].astype(np.int32), arrays[2].astype(np.int32))


def read_states(
    published: Published, events: DataFrame, changes: Changes, model_key: str, steps: Sequence[int]
) -> States:
    """The states these steps can use: each user's latest by a step, and all of users with changes."""
    stored = published.read(profile_states.TABLE).where(F.col("model_key") == model_key)
    users = events.select("user_id").distinct()
    own = stored.join(users, "user_id", "left_semi")
    until = F.lead("as_of_date").over(Window.partitionBy("user_id", "facet").orderBy("as_of_date"))
    days = F.array(*[F.lit(day_of(step)) for step in steps])
    rows = own.select(key_of(), "facet", "as_of_date", until.alias("until"), "vector")
    is_latest = F.exists(
        days,
        lambda day: (day >= F.col("as_of_date")) & (F.col("until").isNull() | (day < F.col("until"))),
    )
    changed = published.warehouse.spark.createDataFrame(
        [(int(key), True) for key in np.unique(changes.users)], f"{KEY} bigint, is_changed boolean"
    )
    kept = rows.join(changed, KEY, "left").where(is_latest | F.coalesce("is_changed", F.lit(False)))
    day = F.unix_date("as_of_date").alias("day")
    found = kept.select(KEY, "facet", day, "vector").orderBy("facet", KEY, "day").toArrow()
    facets = found["facet"].to_numpy(zero_copy_only=False)
    names, starts = np.unique(facets, return_index=True)
    bounds = np.append(starts, len(facets))
    parts = {str(name): found.slice(bounds[i], bounds[i + 1] - bounds[i]) for i, name in enumerate(names)}
    read = {
        name: FacetStates(
            part[KEY].to_numpy(), part["day"].to_numpy().astype(np.int32), matrix_of(part["vector"])
        )
        for name, part in parts.items()
    }
    return States(read, changes) if read else no_states(changes)


def no_states(changes: Changes) -> States:
    """Nobody has a profile."""
    nobody = FacetStates(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 1), np.float32))
    return States({"main": nobody}, changes)


def matrix_of(vectors: pa.ChunkedArray) -> NDArray[np.float32]:
    """float32[n, d] of a column of lists that are all of length d."""
    if not len(vectors):
        return np.zeros((0, 1), np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in vectors.chunks if len(chunk)])
    return np.ascontiguousarray(flat.reshape(len(vectors), -1), np.float32)
