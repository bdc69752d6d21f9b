"""Sums of item vectors by the day on which they change, to be added up in any order."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.score import mean_of, whole
from udfs.worker_start import without_pandas

INPUT: Final = ["since", "until", "vector"]
OUTPUT_SCHEMA: Final = pa.schema([("day", pa.int32()), ("items", pa.int64()), ("sums", pa.list_(pa.int64()))])


def change_stream(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What changes on each day: a row of OUTPUT_SCHEMA a day, those of several streams to be added up.

    batches: INPUT, the int32 day since which an item has a vector, the day on which it has it no longer
    (NULL: none), and the vector, float32[d] of numbers in -1..1. Memory: a row of d numbers for each day.
    """
    without_pandas()
    changes: dict[int, tuple[int, NDArray[np.int64]]] = {}
    for batch in batches:
        if not batch.num_rows:
            continue
        vectors = batch.column("vector").flatten().to_numpy().reshape(batch.num_rows, -1)
        scaled = whole(vectors)
        for name, sign in (("since", 1), ("until", -1)):
            there = batch.column(name).is_valid().to_numpy(zero_copy_only=False)
            days = batch.column(name).drop_null().to_numpy()
            for day in np.unique(days):
                own = scaled[there][days == day]
                count, sums = changes.get(int(day), (0, np.zeros(scaled.shape[1], np.int64)))
                changes[int(day)] = count + sign * len(own), sums + sign * own.sum(axis=0)
    if changes:
        rows = [{"day": day, "items": count, "sums": sums.tolist()} for day, (count, sums) in changes.items()]
        yield pa.RecordBatch.from_pylist(rows, OUTPUT_SCHEMA)


def means_by_day(
    changes: Mapping[int, tuple[int, NDArray[np.int64]]],
) -> dict[int, tuple[int, NDArray[np.float32]]]:
    """The number of items and their mean, float32[d], at the end of each day with a change.

    Days without an item are left out. changes: items and sums int64[d] that a day adds.

    >>> one = np.array([2**36, 0])
    >>> {d: (n, mean.tolist()) for d, (n, mean) in means_by_day({3: (1, one), 5: (1, one[::-1])}).items()}
    {3: (1, [1.0, 0.0]), 5: (2, [0.5, 0.5])}
    """
    found: dict[int, tuple[int, NDArray[np.float32]]] = {}
    items, total = 0, np.zeros(1, np.int64)
    for day, (count, sums) in sorted(changes.items()):
        items, total = items + count, total + sums
        if items:
            found[day] = items, mean_of(total, items)
    return found
