"""What goes into the fold's stream and what comes out: the leaf that a driver imports without loading a compiler."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

LEDGER_SIZE: Final = 8
# Numbers that are summed side by side; the kernel wants vectors of whole lanes, and zeros at the end change no bit of a sum.
LANES: Final = 8
# The gates by number, as the compiled kernel compares them; GATES gives the number of a gate's name in the settings.
EFFECTIVE, LITERAL, MEAN, FIXED = range(4)
GATES: Final = {"effective": EFFECTIVE, "literal": LITERAL, "mean": MEAN, "fixed": FIXED}
NO_DATE: Final = -(2**31)
# Vectors shorter than this count as zero: a cosine with them is 0, and no profile or text may have one.
TINY_NORM: Final = 1e-12
TINY_SQUARE: Final = 1e-24
# Events of a user's first days move the profile freely: the day bound holds from this count on.
BOUND_FROM_COUNT: Final = 10

VECTOR_ROW: Final = 0
PRIOR_ROW: Final = 1
EVENT_ROW: Final = 2

CONTRIBUTIONS: Final = pa.list_(
    pa.struct([pa.field("event_id", pa.string()), pa.field("weight", pa.float32())])
)
VECTOR: Final = pa.list_(pa.float32())

# What the stream holds: vectors first, then user by user and facet by facet the prior and the events in their order.
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
    """The gate and its constants, as in the settings' fold section."""

    gate: str = "effective"
    relevance: str = "follow"
    alpha: float = 0.05
    k_min: float = 0.5
    k_max: float = 0.98
    max_day_share: float = 0.8

    def numbers(self) -> tuple[int, bool, float, float, float, float]:
        return (
            GATES[self.gate],
            self.relevance == "resist",
            self.alpha,
            self.k_min,
            self.k_max,
            self.max_day_share,
        )
