"""Rates under a cap come from a sample of all users, in whatever order and partitions their lists come."""

from dataclasses import replace

import numpy as np

from jobs.recommend.exposure import capped
from tests.udfs.test_rank import ranker
from udfs.rerank import NO_ITEM, Reranking, Rules, draws, rates_for

USERS, ITEMS, TOP, CAP = 60, 40, 2, 0.3


def test_rates_are_those_of_the_lists_that_were_made(spark):
    given = ranker(items=ITEMS, top=TOP)
    assert capped(given, None, None) is given  # type: ignore[arg-type]
    given = replace(given, reranking=Reranking(Rules(0, 0, CAP), np.zeros(ITEMS, np.int32), np.ones(ITEMS)))
    noise = np.random.default_rng(1).normal(0, 0.2, (USERS, ITEMS))
    orders = np.argsort(noise - np.linspace(1, 0, ITEMS), axis=1)[:, : given.depth]
    # Everybody has as many candidates as a list is made of, but for one with fewer.
    sizes = [given.depth - 5 * (user == 7) for user in range(USERS)]
    rows = [
        (f"u{user:02}", rank, f"i{item:03}")
        for user, own in enumerate(orders)
        for rank, item in enumerate(own[: sizes[user]], 1)
    ]
    asked = []

    def lists_of(partitions):
        def made(users, deep):
            asked.append((deep.top, deep.reranking, users.count()))
            mixed = [rows[at] for at in np.random.default_rng(partitions).permutation(len(rows))]
            return spark.createDataFrame(mixed, "user_id string, rank int, item_id string").repartition(
                partitions
            )

        return made

    users = spark.createDataFrame([(f"u{user:02}",) for user in range(USERS)], "user_id string")
    found = [capped(given, users, lists_of(partitions)).reranking.rates for partitions in (1, 3)]
    assert asked == [(given.depth, None, USERS)] * 2 and found[0].tobytes() == found[1].tobytes()
    chances = np.ones(orders.shape)
    for user, own in enumerate(orders):
        chances[user] = draws(f"u{user:02}", [f"i{item:03}" for item in own])
        orders[user, sizes[user] :] = NO_ITEM
    assert found[0].tolist() == rates_for(orders, chances, ITEMS, TOP, CAP).tolist()
    assert 0 < found[0].min() < 1
