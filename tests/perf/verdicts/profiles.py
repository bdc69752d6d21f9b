"""Profiles under many settings at once: one facet for each, folded by the product's kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.rank.content import MAIN
from jobs.rank.states import Changes, FacetStates, States
from schemas.fold_settings import FoldSettings
from tests.perf.verdicts.logs import Log
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, VECTOR_ROW, FoldConstants
from udfs.fold.stream import fold_stream

DEFAULTS = FoldSettings()
ROWS = 50_000


@dataclass(frozen=True)
class Fold:
    """A facet: its constants, and the weight of each event in it, float64[n], 0 for those outside."""

    constants: FoldConstants
    weights: NDArray[np.float64]


def weights_of(
    log: Log, type_weights: Mapping[str, float] | None = None, floor: float | None = None
) -> NDArray[np.float64]:
    """float64[n]: type weight times the factor of the opinion, by default as the settings have it."""
    types = DEFAULTS.type_weights if type_weights is None else type_weights
    floor = DEFAULTS.opinion_floor if floor is None else floor
    largest = max([*types.values(), DEFAULTS.default_type_weight])
    kinds, place = np.unique(log.kind, return_inverse=True)
    by_kind = np.array([types.get(str(kind), DEFAULTS.default_type_weight) / largest for kind in kinds])
    factor = floor + (1 - floor) * np.abs(2 * log.rating - 1)
    found: NDArray[np.float64] = by_kind[place] * np.where(np.isnan(factor), 1.0, factor)
    return found


def negative(log: Log, bound: float = 0.4) -> NDArray[np.bool_]:
    """bool[n]: returns, and ratings below the bound."""
    found: NDArray[np.bool_] = (log.kind == "return") | (log.rating < bound)
    return found


def choices(log: Log) -> NDArray[np.bool_]:
    """bool[n]: what the evaluation calls a choice by default (jobs/rank/target.py)."""
    types = DEFAULTS.type_weights
    heavy = [name for name, weight in types.items() if weight >= 0.5 * max(types.values())]
    is_liked = np.isnan(log.rating) | (log.rating >= 0.75)
    found: NDArray[np.bool_] = np.isin(log.kind, heavy) & ~negative(log) & is_liked
    return found


def states_of(
    log: Log, vectors: NDArray[np.float32], folds: Mapping[str, Fold], steps: Sequence[int]
) -> States:
    """Each facet's states that these steps (days, ascending) can use. vectors: float32[texts, d]."""
    late = log.arrived > log.day
    changes = Changes(log.user[late], log.day[late], log.arrived[late])
    texts, events = text_rows(vectors), event_rows(log)
    found = {}
    for name, fold in folds.items():
        weighed = pa.array(fold.weights)
        own = events.set_column(events.schema.get_field_index("weight"), "weight", weighed)
        stream = own.filter(pc.greater(weighed, 0)).to_batches(max_chunksize=ROWS)
        states = fold_stream(iter([texts, *stream]), {MAIN: fold.constants})
        found[name] = usable(list(states), log.user[late], steps)
    return States(found, changes)


def usable(
    batches: Sequence[pa.RecordBatch], changed: NDArray[np.int64], steps: Sequence[int]
) -> FacetStates:
    """States that are their user's latest at a step, and all of the users whose days changed later."""
    if not batches:
        return FacetStates(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 1), np.float32))
    table = pa.Table.from_batches(batches)
    user = table["user_id"].cast(pa.int64()).to_numpy()
    day = table["as_of_date"].cast(pa.int32()).to_numpy()
    never = np.iinfo(np.int32).max
    until = np.where(np.append(user[1:] != user[:-1], True), never, np.append(day[1:], 0))
    # The first step at or after a state's day comes before the next state.
    step = np.append(steps, never)[np.searchsorted(steps, day)]
    kept = np.flatnonzero((step < until) | np.isin(user, changed))
    vectors = table["vector"].take(pa.array(kept)).combine_chunks().flatten().to_numpy()
    return FacetStates(user[kept], day[kept], vectors.reshape(len(kept), -1))


def text_rows(vectors: NDArray[np.float32]) -> pa.RecordBatch:
    """The fold's rows of vectors, float32[texts, d]."""
    offsets = pa.array(np.arange(len(vectors) + 1) * vectors.shape[1], pa.int32())
    values = pa.array(np.ascontiguousarray(vectors).ravel())
    return batch_of(
        len(vectors),
        kind=pa.array(np.full(len(vectors), VECTOR_ROW, np.int32)),
        text_key=text_keys(len(vectors)),
        vector=pa.ListArray.from_arrays(offsets, values),
    )


def event_rows(log: Log) -> pa.Table:
    """The fold's rows of all events, without weights. Equal times are in the order of the log."""
    size = len(log.user)
    columns = {
        "kind": pa.array(np.full(size, EVENT_ROW, np.int32)),
        "user_id": pa.array(log.user).cast(pa.string()),
        "facet": pa.array([MAIN]).take(pa.array(np.zeros(size, np.int32))),
        "day": pa.array(log.day).view(pa.date32()),
        "event_ts": pa.array(log.micros).view(pa.timestamp("us", tz="UTC")),
        "event_id": pc.utf8_lpad(pa.array(np.arange(size)).cast(pa.string()), 8, "0"),
        "text_key": text_keys(len(log.texts)).take(pa.array(log.text)),
    }
    return pa.Table.from_batches([batch_of(size, **columns)])


def text_keys(texts: int) -> pa.Array:
    """A name for each text."""
    return pc.utf8_lpad(pa.array(np.arange(texts)).cast(pa.string()), 6, "0")


def batch_of(size: int, **columns: pa.Array) -> pa.RecordBatch:
    """A batch of INPUT_SCHEMA, NULL in the columns that are not given."""
    arrays = [columns.get(field.name, pa.nulls(size, field.type)) for field in INPUT_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=INPUT_SCHEMA)
