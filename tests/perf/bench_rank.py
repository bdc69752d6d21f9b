"""Speed of scoring, against NumPy's bare product and partition of the same vectors.

Both score every item for every user and find the ten best; the product also adds the other parts, decides by
exact arithmetic and names the events behind each item. They take turns, a batch of users each.
"""

import sys
import time

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tests.perf.report import Ratio, report
from udfs.rank import ALLOW, INPUT_SCHEMA, Near, Ranker, rank_stream
from udfs.score import centred_units

USERS, ITEMS, DIM, TOP = 100_000, 50_000, 384, 10
# Users of a batch, events of each, and neighbours of an item.
BATCH, EVENTS, NEIGHBOURS = 1_000, 10, 50
TODAY = 20_000
LEAST = 0.6


def ranker_of(items: int) -> Ranker:
    """A catalogue of random vectors and neighbours, in which every part counts."""
    draws = np.random.default_rng(1)
    mean = draws.normal(size=DIM) / 10
    vectors = draws.standard_normal((items, DIM), np.float32)
    near = draws.integers(0, items, (items, NEIGHBOURS), np.int32)
    starts = np.arange(items + 1) * NEIGHBOURS
    return Ranker(
        ids=pa.array([f"item-{number:07}" for number in range(items)]),
        units=centred_units(vectors, mean).astype(np.float32),
        lengths=np.linalg.norm(vectors - mean, axis=1),
        mean=mean,
        popularity=draws.random(items),
        freshness=draws.random(items),
        blocked=np.zeros(items, bool),
        near=Near(draws.random(near.size, np.float32), near.ravel(), starts),
        weights=(0.4, 0.2, 0.2, 0.1, 0.1),
        aversion=0.25,
        half_life=30.0,
        last_only=False,
        today=TODAY,
        top=TOP,
        repeat=ALLOW,
    )


def users_of(number: int, ranker: Ranker) -> pa.RecordBatch:
    """A batch of users with a profile and events, of which some stand in its ledger."""
    draws = np.random.default_rng(number)
    size = BATCH * EVENTS
    main = pa.array(list(draws.standard_normal((BATCH, DIM), np.float32)), pa.list_(pa.float32()))
    nothing = pa.nulls(BATCH, pa.list_(pa.float32()))
    fields = [
        ranker.ids.take(pa.array(draws.integers(0, len(ranker.ids), size))),
        pa.array([f"event-{number}-{place}" for place in range(size)]),
        pa.array(np.sort(draws.integers(TODAY - 90, TODAY, size)).astype(np.int32)),
        pa.array(draws.random(size) < 0.7),
        pa.array(np.where(draws.random(size) < 0.5, 0.1, 0.0).astype(np.float32)),
    ]
    kind = INPUT_SCHEMA.field("events").type
    events = pa.ListArray.from_arrays(
        pa.array(np.arange(BATCH + 1, dtype=np.int32) * EVENTS),
        pa.StructArray.from_arrays(fields, fields=list(kind.value_type)),
    )
    ids = pa.array([f"user-{number}-{place}" for place in range(BATCH)])
    return pa.RecordBatch.from_arrays([ids, main, nothing, nothing, events], schema=INPUT_SCHEMA)


def bare(vectors: np.ndarray, units: np.ndarray) -> None:
    """The product and the places of the best, in blocks that fit a cache as well as ours."""
    for start in range(0, len(vectors), 64):
        np.argpartition(vectors[start : start + 64] @ units.T, -TOP, axis=1)[:, -TOP:]


def seconds_of(users: int, items: int) -> tuple[float, float]:
    """Seconds of the bare product, and of lists."""
    ranker, spent = ranker_of(items), np.zeros(2)
    # The first turn warms up.
    for number in range(-1, users // BATCH):
        batch = users_of(number + 1, ranker)
        vectors = batch.column("main").flatten().to_numpy().reshape(BATCH, DIM)
        began = time.perf_counter()
        bare(vectors, ranker.units)
        between = time.perf_counter()
        listed = sum(rows.num_rows for rows in rank_stream(iter([batch]), ranker))
        ended = time.perf_counter()
        if listed != BATCH * TOP:
            raise RuntimeError(f"{listed} rows instead of {BATCH * TOP}")
        spent += (between - began, ended - between) if number >= 0 else (0, 0)
    return float(spent[0]), float(spent[1])


def main(users: int = USERS, items: int = ITEMS) -> int:
    with threadpool_limits(1):
        product, lists = seconds_of(users, items)
    figures = {"users": users, "items": items, "product, s": round(product, 1), "lists, s": round(lists, 1)}
    return report("rank", [Ratio("lists over the bare product", product / lists, least=LEAST)], figures)


if __name__ == "__main__":
    sys.exit(main())
