"""The fold's input, output and constants; a driver imports this module alone, and so loads no compiler."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

LEDGER_SIZE: Final = 8
# Running sums of a dot product. Vectors are padded with zeros to a multiple of it, which changes no bit of a
# sum.
LANES: Final = 8
# The gates by number, as the compiled kernel compares them; GATES gives the number of a gate's name in the
# settings.
EFFECTIVE, LITERAL, MEAN, FIXED = range(4)
GATES: Final = {"effective": EFFECTIVE, "literal": LITERAL, "mean": MEAN, "fixed": FIXED}
NO_DATE: Final = -(2**31)
# Shorter vectors count as zero: a cosine with one is 0, and no profile or text may have one.
TINY_NORM: Final = 1e-12
TINY_SQUARE: Final = 1e-24
# The events that a profile must have at the start of a day for the day bound to hold; before, it moves
# freely.
BOUND_FROM_COUNT: Final = 10

VECTOR_ROW: Final = 0
PRIOR_ROW: Final = 1
EVENT_ROW: Final = 2

CONTRIBUTIONS: Final = pa.list_(
    pa.struct([pa.field("event_id", pa.string()), pa.field("weight", pa.float32())])
)
VECTOR: Final = pa.list_(pa.float32())

# The stream: vectors first; then, by user and facet, the prior state (if any) and the events in order.
INPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.int32()),
        pa.field("user_id", pa.string()),
        pa.field("facet", pa.string()),
        pa.field("user_bucket", pa.int32()),
        pa.field("day", pa.date32()),  # event_date of an event, as_of_date of a prior state
        pa.field("event_ts", pa.timestamp("us", tz="UTC")),
        pa.field("event_id", pa.string()),
        pa.field("weight", pa.float64()),
        pa.field("text_key", pa.string()),
        pa.field("digest_high", pa.int64()),
        pa.field("digest_low", pa.int64()),
        pa.field("event_count", pa.int64()),
        pa.field("weight_sum", pa.float64()),
        pa.field("gain_sum", pa.float64()),
        pa.field("gain_sq_sum", pa.float64()),
        pa.field("contributions", CONTRIBUTIONS),
        pa.field("vector", VECTOR),
    ]
)

OUTPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("facet", pa.string()),
        pa.field("as_of_date", pa.date32()),
        pa.field("user_bucket", pa.int32()),
        pa.field("event_count", pa.int64()),
        pa.field("weight_sum", pa.float64()),
        pa.field("gain_sum", pa.float64()),
        pa.field("gain_sq_sum", pa.float64()),
        pa.field("last_event_ts", pa.timestamp("us", tz="UTC")),
        pa.field("last_event_id", pa.string()),
        pa.field("previous_as_of_date", pa.date32()),
        pa.field("digest_high", pa.int64()),
        pa.field("digest_low", pa.int64()),
        pa.field("drift", pa.float32()),
        pa.field("contributions", CONTRIBUTIONS),
        pa.field("vector", VECTOR),
        pa.field("relevance_acted", pa.int64()),
        pa.field("cancelled", pa.int64()),
        pa.field("day_count", pa.int64()),  # events of the day
        pa.field("is_last", pa.bool_()),  # the latest state of its user and facet
    ]
)


@dataclass(frozen=True)
class FoldConstants:
    """A facet's gate and its constants; schemas/settings.py has their meaning and defaults."""

    gate: str
    relevance: str
    alpha: float
    k_min: float
    k_max: float
    max_day_share: float
    half_life_days: float | None
