"""How much of its users each item may keep under a cap on exposure, by lists made for a sample of all users.

The sample is of everybody known by the day, by a hash of their ids, and not of those who get a list: so the
same day gives the same rates in a night, a range and a rerun.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from jobs.recommend.overlap import some_of
from udfs.rank import Ranker
from udfs.rerank import NO_ITEM, draws, rates_for

# Candidates that the driver holds: of 5,000 users with lists of ten.
MOST_ROWS: Final = 500_000
# Makes lists of some users by a ranker.
Lists = Callable[[DataFrame, Ranker], DataFrame]


def capped(ranker: Ranker, users: DataFrame, lists_of: Lists) -> Ranker:
    """The ranker with the rates of its cap; as it is without one. users: (user_id) of everybody."""
    reranking = ranker.reranking
    if reranking is None or reranking.rules.cap == 1:
        return ranker
    sample = some_of(users, users.count(), MOST_ROWS // ranker.depth)
    deep = lists_of(sample, replace(ranker, top=ranker.depth, reranking=None))
    found = deep.select("user_id", "rank", "item_id").orderBy("user_id", "rank").toArrow()
    names, at = np.unique(found["user_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    place = at, found["rank"].to_numpy() - 1
    items = np.full((len(names), ranker.depth), NO_ITEM, np.int64)
    items[place] = pc.index_in(found["item_id"], value_set=ranker.ids).to_numpy()
    chances, listed = np.ones(items.shape), np.flatnonzero(np.diff(at, prepend=NO_ITEM))
    ids = found["item_id"].to_pylist()
    for user, (first, name) in enumerate(zip(listed, names, strict=True)):
        size = np.count_nonzero(items[user] != NO_ITEM)
        chances[user, :size] = draws(str(name), ids[first : first + size])
    rates = rates_for(items, chances, len(ranker.ids), ranker.top, reranking.rules.cap)
    return replace(ranker, reranking=replace(reranking, rates=rates))
