"""A second, independent fold, with which the compiled kernel is compared bit for bit.

It was written from the specification alone and shares no code with the kernel, so that a mistake must be made
twice to go unnoticed. It is plain Python on purpose: every float64 step is one Python operation in the
specified order, and every float32 step is one operation on NumPy float32 scalars, which round each result
once. `sum` and vectorised reductions are avoided, because the order of their additions is not guaranteed.

`canonical_hash` reduces a set of rows to one digest, to compare two histories bit for bit; `text_key` is the
key of a text, which the jobs compute in Spark.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import numpy as np

LEDGER_SIZE = 8
BOUND_FROM_EVENTS = 10  # the day bound holds from this many events at the start of the day
SMALLEST_NORM = 1e-12
SMALLEST_SQUARE = 1e-24


@dataclass(frozen=True)
class Gate:
    """The gate and its constants."""

    gate: str = "effective"  # effective, literal, mean or fixed
    relevance: str = "follow"  # follow or resist
    alpha: float = 0.05
    k_min: float = 0.5
    k_max: float = 0.98
    max_day_share: float = 0.8
    half_life_days: float | None = None  # None: the weight of older events does not decay

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown name."""
        if self.gate not in ("effective", "literal", "mean", "fixed"):
            raise ValueError(f"unknown gate {self.gate!r}")
        if self.relevance not in ("follow", "resist"):
            raise ValueError(f"unknown relevance {self.relevance!r}")


@dataclass(frozen=True)
class Event:
    """One weighted event of a user; `event_ts` in microseconds since the epoch, UTC."""

    event_date: date
    event_ts: int
    event_id: str
    weight: float
    vector: np.ndarray


@dataclass
class State:
    """A profile at the end of one event date; `relevance_acted` and `cancelled` count within that date."""

    as_of_date: date
    vector: np.ndarray
    weight_sum: float
    gain_sum: float
    gain_sq_sum: float
    event_count: int
    last_event_ts: int
    last_event_id: str
    previous_as_of_date: date | None
    drift: np.float32 | None
    contributions: list[tuple[str, np.float32]]
    relevance_acted: int
    cancelled: int


def dot(a: list[float], b: list[float]) -> float:
    """The specified dot product: eight accumulators, filled in ascending order, then summed in pairs.

    >>> dot([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    32.0
    >>> # (1e16 + 1) + 1, each rounded, then - 1e16
    >>> dot([1.0] * 9, [1e16, 1.0, 0.0, 0.0, -1e16, 0.0, 0.0, 0.0, 1.0])
    0.0
    """
    acc = [0.0] * 8
    for j, (x, y) in enumerate(zip(a, b, strict=True)):
        acc[j % 8] += x * y
    return ((acc[0] + acc[1]) + (acc[2] + acc[3])) + ((acc[4] + acc[5]) + (acc[6] + acc[7]))


def cosine(a: list[float], b: list[float]) -> float:
    """Cosine by the specified dot product, clipped to [-1, 1]; 0 if either vector is nearly zero."""
    aa = dot(a, a)
    bb = dot(b, b)
    if aa < SMALLEST_SQUARE or bb < SMALLEST_SQUARE:
        return 0.0
    return min(max(dot(a, b) / (math.sqrt(aa) * math.sqrt(bb)), -1.0), 1.0)


def fold_user(events: list[Event], gate: Gate, prior: State | None = None) -> list[State]:
    """Folds the events of one user and facet, given in any order, into one state for each event date.

    With `prior` the fold continues from that state, whose date must be before every event.
    """
    ordered = sorted(events, key=lambda event: (event.event_ts, event.event_id.encode("utf-8")))
    states: list[State] = []
    previous = prior
    for event_date, day in groupby(ordered, key=lambda event: event.event_date):
        if previous is not None and event_date <= previous.as_of_date:
            raise ValueError(f"events of {event_date} come after the state of {previous.as_of_date}")
        previous = fold_day(list(day), gate, previous)
        states.append(previous)
    return states


@dataclass
class Day:
    """A profile while the events of one date are folded in; q is the product of their retained shares."""

    p: list[np.float32]
    weight_sum: float
    s1: float
    s2: float
    n: int
    ledger: list[tuple[str, np.float32]]
    bounded: bool
    q: float = 1.0
    relevance_acted: int = 0
    cancelled: int = 0


def fold_day(events: list[Event], gate: Gate, previous: State | None) -> State:
    """Folds the ordered events of one event date onto the state before it."""
    day = begin_day(previous, events[0].event_date, gate)
    for event in events:
        fold_event(day, event, gate)
    vector = np.array(day.p, dtype=np.float32)
    drift = None
    if previous is not None:
        drift = np.float32(1.0 - cosine(vector.tolist(), previous.vector.tolist()))
    return State(
        as_of_date=events[0].event_date,
        vector=vector,
        weight_sum=day.weight_sum,
        gain_sum=day.s1,
        gain_sq_sum=day.s2,
        event_count=day.n,
        last_event_ts=events[-1].event_ts,
        last_event_id=events[-1].event_id,
        previous_as_of_date=None if previous is None else previous.as_of_date,
        drift=drift,
        contributions=day.ledger,
        relevance_acted=day.relevance_acted,
        cancelled=day.cancelled,
    )


def begin_day(previous: State | None, event_date: date, gate: Gate) -> Day:
    """The profile at the start of a date: that of the state before it, its weight decayed, or none."""
    if previous is None:
        return Day(p=[], weight_sum=0.0, s1=0.0, s2=0.0, n=0, ledger=[], bounded=False)
    return Day(
        p=list(previous.vector),
        weight_sum=previous.weight_sum * decay((event_date - previous.as_of_date).days, gate.half_life_days),
        s1=previous.gain_sum,
        s2=previous.gain_sq_sum,
        n=previous.event_count,
        ledger=[(event_id, np.float32(weight)) for event_id, weight in previous.contributions],
        bounded=previous.event_count >= BOUND_FROM_EVENTS,
    )


def decay(days: int, half_life_days: float | None) -> float:
    """The specified approximation of 2^(-days/half_life_days); 1 without a half-life.

    The whole half-lives are halved off. The rest is e^-t for t in [0, ln 2), by the first 17 terms of the
    series in nested form: 1 - t/1 * (1 - t/2 * (... (1 - t/17))). After more than 900 half-lives, nothing
    remains.

    >>> decay(60, 30.0), decay(901, 1.0)
    (0.25, 0.0)
    """
    if half_life_days is None:
        return 1.0
    half_lives = float(days) / half_life_days
    if half_lives > 900.0:
        return 0.0
    whole = math.floor(half_lives)
    t = (half_lives - whole) * 0.6931471805599453
    share = 1.0
    for term in range(17, 0, -1):
        share = 1.0 - (t / term) * share
    for _ in range(whole):
        share *= 0.5
    return share


def fold_event(day: Day, event: Event, gate: Gate) -> None:
    """Moves the profile by one event; the first event of all becomes the profile."""
    w = float(event.weight)  # a NumPy float32 here would pull the sums down to float32
    v = checked_vector(event)
    if day.n == 0:
        day.p, day.weight_sum, day.n = v, w, 1
        day.ledger = [(event.event_id, np.float32(1.0))]
        return
    g, by_relevance = retained_share(day, v, w, gate)
    if by_relevance:
        day.relevance_acted += 1
    g32 = np.float32(g)
    rest32 = np.float32(1.0 - g)
    moved = [g32 * old + rest32 * new for old, new in zip(day.p, v, strict=True)]
    if norm(moved) < SMALLEST_NORM:
        day.cancelled += 1
    else:
        day.p = moved
        day.q *= g
        ledger = [(event_id, g32 * share) for event_id, share in day.ledger] + [(event.event_id, rest32)]
        # A stable sort: equal shares keep their order, so that cutting the history anywhere changes nothing.
        day.ledger = sorted(ledger, key=lambda entry: -entry[1])[:LEDGER_SIZE]
    day.weight_sum += w
    day.n += 1


def retained_share(day: Day, v: list[np.float32], w: float, gate: Gate) -> tuple[float, bool]:
    """The share g of the profile that stays, and whether relevance decided it; adds the gain to the sums."""
    fair = day.weight_sum / (day.weight_sum + w)
    if gate.gate == "mean":
        g = fair
        by_relevance = False
    else:
        k, inside = memory_gain(day.p, v, day.s1, day.s2, gate)
        day.s1 += k
        day.s2 += k * k
        kept = 1.0 - w * (1.0 - k)
        g = min(kept, fair)
        by_relevance = inside and kept <= fair
    if day.bounded:
        least = (1.0 - gate.max_day_share) / day.q
        by_relevance = by_relevance and least <= g
        g = max(g, least)
    return g, by_relevance


def memory_gain(
    p: list[np.float32], v: list[np.float32], s1: float, s2: float, gate: Gate
) -> tuple[float, bool]:
    """The clipped k, and whether relevance acted: k is from the formula and strictly inside its bounds."""
    if gate.gate == "fixed" or (gate.gate == "literal" and s2 == 0.0):
        return gate.k_max, False
    r = (1.0 + cosine(as_float64(p), as_float64(v))) / 2.0
    if gate.relevance == "resist":
        r = 1.0 - r
    if gate.gate == "literal":
        m = s1 / s2
    else:
        effective = 1.0 if s2 == 0.0 else 1.0 + s1 * s1 / s2
        m = effective / (effective + 1.0)
    k = gate.alpha * r + (1.0 - gate.alpha) * m
    return min(max(k, gate.k_min), gate.k_max), gate.k_min < k < gate.k_max


def checked_vector(event: Event) -> list[np.float32]:
    """The vector as float32 scalars. Raises ValueError for an event that must not be folded."""
    if not 0.0 < event.weight <= 1.0:
        raise ValueError(f"event {event.event_id}: weight {event.weight} is not in (0, 1]")
    if event.vector.dtype != np.float32:
        raise ValueError(f"event {event.event_id}: vector of {event.vector.dtype}, not float32")
    v = list(event.vector)
    length = norm(v)
    if not math.isfinite(length) or length < SMALLEST_NORM:
        raise ValueError(f"event {event.event_id}: vector of norm {length}")
    return v


def norm(vector: list[np.float32]) -> float:
    """Norm by the specified dot product."""
    values = as_float64(vector)
    return math.sqrt(dot(values, values))


def as_float64(vector: list[np.float32]) -> list[float]:
    """The same numbers as Python floats (float64); widening is exact."""
    return [float(x) for x in vector]


def text_key(text: str) -> str:
    """SHA-256 of a normalised text in UTF-8, as lower-case hex.

    >>> text_key("")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def canonical_hash(rows: Iterable[Mapping[str, object]], columns: list[str]) -> str:
    """SHA-256 over the named columns of rows sorted by (user_id, facet, as_of_date), as lower-case hex.

    It depends neither on the order of the rows nor on the library that read them: a float32 scalar equals the
    same number as a Python float, and a float32 array equals a list of floats.
    """
    encoded = sorted(
        (
            row["user_id"],
            row["facet"],
            str(row["as_of_date"]),
            b"".join(encode(row[column]) for column in columns),
        )
        for row in rows
    )
    digest = hashlib.sha256(encode(list(columns)))
    for *_, content in encoded:
        digest.update(with_length(b"r", content))
    return digest.hexdigest()


def encode(value: object) -> bytes:  # noqa: C901, PLR0911 - a return for each type
    """A self-delimiting encoding: different values have different encodings, and none is a prefix of another.

    Scalar floats are encoded as float64 (float32 widens exactly), a list or array of floats as a float32
    vector. A datetime without a zone is read as UTC.
    """
    match value:
        case None:
            return with_length(b"n", b"")
        case bool() | np.bool_():
            return with_length(b"b", b"\x01" if value else b"\x00")
        case int() | np.integer():
            return with_length(b"i", int(value).to_bytes(8, "little", signed=True))
        case float() | np.floating():
            return with_length(b"f", np.array(value, dtype="<f8").tobytes())
        case str():
            return with_length(b"s", value.encode("utf-8"))
        case bytes():
            return with_length(b"y", value)
        case datetime():  # before date, its base class
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            return with_length(b"t", micros.to_bytes(8, "little", signed=True))
        case date():
            return with_length(b"d", value.isoformat().encode("ascii"))
        case Mapping():
            return with_length(b"m", b"".join(encode(key) + encode(value[key]) for key in sorted(value)))
        case list() | np.ndarray():
            items = list(value)
            if items and all(isinstance(item, float | np.floating) for item in items):
                return with_length(b"v", float32_bytes(items))
            return with_length(b"l", b"".join(encode(item) for item in items))
    raise TypeError(f"no canonical encoding for {type(value).__name__}")


def with_length(kind: bytes, content: bytes) -> bytes:
    """One byte for the kind, the length of the content, and the content."""
    return kind + len(content).to_bytes(8, "little") + content


def float32_bytes(items: list[float]) -> bytes:
    """Little-endian float32.

    Raises ValueError if a number is not float32: rounding could hide a difference.
    """
    vector = np.array(items, dtype="<f4")
    if not np.array_equal(vector.astype(np.float64), np.array(items, dtype=np.float64), equal_nan=True):
        raise ValueError("a vector holds numbers that are not float32")
    return vector.tobytes()
