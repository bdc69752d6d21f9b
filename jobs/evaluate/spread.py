"""Judges the users of a step on Spark's workers, a block at a time.

The models and vectors of a step travel as .npy files that all workers of a machine map into memory together;
on a cluster, whose workers do not see the driver's scratch, as a broadcast.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from threadpoolctl import threadpool_limits

from jobs.evaluate.judge import Fitted, Rows, judge
from jobs.evaluate.replay import Blocks, Judging, judge_here
from jobs.io.scratch import scratch_folders
from jobs.rank.cases import Cases, Rules
from jobs.rank.catalogue import Shelf
from jobs.rank.choice import Choice
from jobs.rank.content import Profiles
from jobs.rank.moment import Moment

# With fewer blocks the driver is done before a job of Spark has begun.
FEW_BLOCKS = 8
# Blocks whose events and profiles the driver holds at once: 8,192 users with two facets of 384 numbers are
# 100 MB.
WAVE_BLOCKS = 128
# The arrays of a moment and a shelf that are saved, besides the models.
_MOMENT = ("known", "cold", "surprise")
_SHELF = ("centred", "raw", "mean")

Arrays = dict[str, NDArray[np.generic]]


def spread_on(spark: SparkSession, partitions: int | None = None) -> Judging:
    """Judges many users on this session's workers; partitions: tasks, by default two for each core."""
    tasks = partitions or 2 * spark.sparkContext.defaultParallelism

    def judging(
        asked: Blocks, choice: Choice, fitted: Fitted, moment: Moment, shelf: Shelf, rules: Rules
    ) -> list[Rows]:
        few = list(islice(asked, FEW_BLOCKS))
        if len(few) < FEW_BLOCKS:
            return judge_here(iter(few), choice, fitted, moment, shelf, rules)
        every, found = chain(few, asked), list[Rows]()
        with shared(spark, arrays_of(fitted, moment, shelf)) as arrays:
            work = worker(arrays, choice, moment.day, rules)
            while wave := list(islice(every, WAVE_BLOCKS)):
                rows = spark.sparkContext.parallelize(wave, min(tasks, len(wave)))
                found += rows.map(work).collect()
        return found

    return judging


@contextmanager
def shared(spark: SparkSession, arrays: Arrays) -> Iterator[Callable[[], Mapping[str, NDArray[np.generic]]]]:
    """What gives workers the arrays, until the context ends."""
    if (spark.sparkContext.master or "").startswith("local"):
        with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
            save(arrays, Path(folder))
            yield lambda: load(Path(folder))
        return
    sent = spark.sparkContext.broadcast(arrays)
    try:
        yield lambda: sent.value
    finally:
        sent.destroy()


def worker(
    arrays: Callable[[], Mapping[str, NDArray[np.generic]]], choice: Choice, day: int, rules: Rules
) -> Callable[[tuple[Cases, Profiles]], Rows]:
    """What a worker does with a block; on one thread, which gives the same bits everywhere."""

    def work(block: tuple[Cases, Profiles]) -> Rows:
        with threadpool_limits(1):
            fitted, moment, shelf = models_of(arrays(), day)
            return judge(*block, choice, fitted, moment, shelf, rules)

    return work


def arrays_of(fitted: Fitted, moment: Moment, shelf: Shelf) -> Arrays:
    """All arrays of a step by name."""
    arrays = {f"model.{name}.{key}": value for name, own in fitted.items() for key, value in own.items()}
    arrays |= {f"moment.{key}": getattr(moment, key) for key in _MOMENT}
    return arrays | {f"shelf.{key}": getattr(shelf, key) for key in _SHELF}


def models_of(arrays: Mapping[str, NDArray[np.generic]], day: int) -> tuple[dict[str, Arrays], Moment, Shelf]:
    """The inverse of arrays_of."""
    fitted: dict[str, Arrays] = {}
    for path, value in arrays.items():
        kind, name, *key = path.split(".")
        if kind == "model":
            fitted.setdefault(name, {})[key[0]] = value
    centred, raw = (arrays[f"shelf.{key}"].astype(np.float64, copy=False) for key in ("centred", "raw"))
    shelf = Shelf(centred, raw, arrays["shelf.mean"].astype(np.float32, copy=False))
    known, cold = (arrays[f"moment.{key}"].astype(bool, copy=False) for key in ("known", "cold"))
    return fitted, Moment(day, known, cold, arrays["moment.surprise"].astype(np.float64, copy=False)), shelf


def save(arrays: Mapping[str, NDArray[np.generic]], folder: Path) -> None:
    """Writes each array as a .npy file of its name."""
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)


def load(folder: Path) -> Arrays:
    """The arrays of a folder, mapped into memory."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
