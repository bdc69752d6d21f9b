"""Who gets a new list: not those whose profile is still where it was when their list was made.

The move is measured from the state behind the list in force, however many small moves it took, and not from
the state before. So whoever is active has a list whose profile is nearer than `min_drift`, in whatever pieces
the days are worked on.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.recommend.overlap import Earlier
from schemas import profile_states
from udfs.score import moves


def kept_users(
    users: DataFrame, profiles: DataFrame, marked: DataFrame, earlier: Earlier, least: float
) -> DataFrame:
    """(user_id) of those whose list stays, as they moved less than `least` since.

    profiles: (user_id, model_key, vector) of the facet, the latest states. marked: all events. Whoever has no
    list, or had no profile then, or whose past changed since by late events or retractions, gets a new one:
    the state behind the list is not what the list was made of any more.
    """
    lists = earlier.days().join(users, "user_id", "left_semi").localCheckpoint()
    now = profiles.select("user_id", "model_key", F.col("vector").alias("now"))
    pairs = now.join(states_behind(earlier, lists), ["user_id", "model_key"]).select("user_id", "now", "then")
    changed = changed_since(marked, lists, earlier.day)
    return unmoved(pairs, least).join(changed, "user_id", "left_anti")


def states_behind(earlier: Earlier, lists: DataFrame) -> DataFrame:
    """(user_id, model_key, then): the vector of the latest state by the day of each user's list."""
    states = earlier.tables.read(profile_states.TABLE).where(F.col("facet") == earlier.facet)
    own = states.join(lists, "user_id").where("as_of_date <= listed_on")
    state = F.max_by(F.struct("model_key", F.col("vector").alias("then")), "as_of_date").alias("state")
    return own.groupBy("user_id").agg(state).select("user_id", "state.*")


def changed_since(marked: DataFrame, lists: DataFrame, day: date) -> DataFrame:
    """(user_id) of users with an event of before their list that came, or was taken back, after it."""
    columns = ["user_id", "event_date"]
    came = marked.where("log_date > event_date").select(*columns, F.col("log_date").alias("changed_on"))
    went = marked.where("gone IS NOT NULL").select(*columns, F.col("gone").alias("changed_on"))
    found = came.unionAll(went).where(F.col("changed_on") <= F.lit(day)).join(lists, "user_id")
    return found.where("event_date <= listed_on AND changed_on > listed_on").select("user_id").distinct()


def unmoved(pairs: DataFrame, least: float) -> DataFrame:
    """(user_id) where `now` is less than `least` from `then`; vectors of one size."""

    def near(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not batch.num_rows:
                continue
            now, then = (matrix_of(batch.column(name)) for name in ("now", "then"))
            kept = np.flatnonzero(moves(now, then) < least)
            yield batch.select(["user_id"]).take(pa.array(kept))

    return pairs.mapInArrow(near, "user_id string")


def matrix_of(vectors: pa.ListArray) -> NDArray[np.float32]:
    """float32[n, d] of n > 0 lists of length d."""
    return np.asarray(vectors.flatten().to_numpy(), np.float32).reshape(len(vectors), -1)
