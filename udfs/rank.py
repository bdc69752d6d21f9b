"""Lists of items for users, in Arrow batches: blocked products find candidates, exact arithmetic decides.

A product of matrices rounds by its shape, so that a user's scores would depend on the users scored beside
them. Here it only chooses candidates: every item whose score may be among the first, by a bound on the
product's error (Higham, 2002, section 3.1). Candidates are scored anew, each for itself and in a fixed order
of operations, and these scores decide. So a list has the same bits in any batch, block or partition.

Every part is scaled to 0..1 over the user's items by its smallest and largest and weighted; the parts are
rounded to float32, and the score is their float32 sum, in the order of PARTS. A list may be in another order
(udfs/rerank.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from udfs.rerank import DEEPER, Candidates, Reranking, relisted
from udfs.score import TINY_WIDTH, centred
from udfs.worker_start import without_pandas

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Places = NDArray[np.int64]

PARTS: Final = ("content", "collaborative", "popularity", "own", "freshness")
ALLOW, EXCLUDE, ONLY = "allow", "exclude", "only"
# Users of one product: with 50,000 items its scores take 13 MB.
BLOCK: Final = 64
# Scores of which the largest stands for all when the first ones are looked for.
DEPTH: Final = 64
# Events named for each item of a list.
REASONS: Final = 3
# Half the distance from 1 to the next float32: what one rounding may change.
ROUNDING: Final = 2.0**-24
LARGEST_FACTOR: Final = float(np.finfo(np.float32).max)
EVENT: Final = pa.struct(
    [
        ("item_id", pa.string()),
        ("event_id", pa.string()),
        ("day", pa.int32()),
        ("chosen", pa.bool_()),
        ("share", pa.float32()),
    ]
)
# A user. main, negative, facet: profiles, NULL where there is none. events: by time; day: since 1970-01-01;
# share: of the profile that the list is for, 0 for events that are not among its largest.
INPUT_SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        *[(name, pa.list_(pa.float32())) for name in ("main", "negative", "facet")],
        ("events", pa.list_(EVENT)),
    ]
)
OUTPUT_SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        *[(name, pa.float32()) for name in PARTS],
        ("because", pa.list_(pa.string())),
    ]
)


class Near(NamedTuple):
    """What a choice of one item says of others: row i of a sparse matrix float32[m, m], by rows (CSR)."""

    data: Vectors
    items: NDArray[np.int32]
    starts: Places


@dataclass(frozen=True)
class Ranker:
    """What the lists of a day are made of, the same for every user.

    Of m items, ascending by id: ids, string[m]; units, float32[m, d], directions seen from `mean`
    (float32[d]), zeros for items without a vector; lengths, float64[m], of the same vectors; popularity and
    freshness, float64[m] in 0..1; blocked, bool[m]. weights: of PARTS, non-negative, with a sum of 1.
    aversion: the weight of `negative` in content. half_life: of the user's own choices, days. last_only:
    whether `near` is asked for the item chosen last alone. today: the day of the lists, since 1970-01-01.
    top: items of a list. repeat: ALLOW, EXCLUDE or ONLY, of items that the user chose before.
    """

    ids: pa.Array
    units: Vectors
    lengths: Floats
    mean: Vectors
    popularity: Floats
    freshness: Floats
    blocked: NDArray[np.bool_]
    near: Near
    weights: tuple[float, float, float, float, float]
    aversion: float
    half_life: float
    last_only: bool
    today: int
    top: int
    repeat: str
    reranking: Reranking | None = None

    @property
    def depth(self) -> int:
        """How many of the best items a list is made of."""
        return self.top if self.reranking is None else DEEPER * self.top

    @cached_property
    def base(self) -> Vectors:
        """float32[m]: popularity and freshness, -inf for blocked items: no later term brings them back."""
        _, _, popularity, _, freshness = self.weights
        return self._open(popularity * self.popularity + freshness * self.freshness)

    @cached_property
    def prior(self) -> Vectors:
        """float32[m]: the order for users of whom nothing is known."""
        return self._open(self.popularity)

    def _open(self, scores: Floats) -> Vectors:
        return np.where(self.blocked, -np.inf, scores).astype(np.float32)


class Scale(NamedTuple):
    """How a part becomes a share of the score: factor * (x - low); factor 0 where all are equal."""

    low: float
    factor: float

    @classmethod
    def over(cls, low: float, high: float, weight: float) -> "Scale":
        """Of values between low and high."""
        return cls(low, weight / (high - low) if high - low >= TINY_WIDTH else 0.0)

    def of(self, values: Floats) -> Floats:
        """float64[n] of float64[n]."""
        scaled: Floats = self.factor * (values - self.low)
        return scaled


@dataclass(frozen=True)
class Sums:
    """A part that is 0 for most items: items, int64[n], ascending, and their values, float64[n].

    rest: what all other items have; the smallest value where there are no others.
    """

    items: Places
    values: Floats
    rest: float
    scale: Scale

    @classmethod
    def by_item(cls, items: Places, values: Floats | Vectors, size: int, weight: float) -> "Sums":
        """Values summed by item, in their order. size: of the catalogue."""
        if not weight or not len(items):
            return cls(items[:0], np.zeros(0), 0.0, Scale(0.0, 0.0))
        there = np.unique(items)
        sums = np.bincount(items, values, minlength=size)[there].astype(np.float64)
        rest = 0.0 if len(there) < size else float(sums.min())
        scale = Scale.over(min(rest, float(sums.min())), max(rest, float(sums.max())), weight)
        return cls(there, sums, rest, scale)

    @property
    def ahead(self) -> Floats:
        """float64[n]: how far the items are ahead of the rest, within -1..1."""
        found: Floats = self.scale.factor * (self.values - self.rest)
        return found

    def of(self, items: Places) -> Floats:
        """float64[n], the scaled values of items."""
        place = np.searchsorted(self.items, items)
        is_there = np.append(self.items, -1)[place] == items
        return self.scale.of(np.where(is_there, np.append(self.values, 0.0)[place], 0.0))


@dataclass(frozen=True)
class User:
    """A user's events by time, as far as the catalogue knows their items, and the direction of the profile.

    item, day: int[n]; chosen: bool[n]; share: float64[n]; event: string[n]. wanted: float32[d]; pull: what a
    vector's difference from the mean counts in the content score, 0 without a profile. name: the user's id.
    """

    item: Places
    day: Places
    chosen: NDArray[np.bool_]
    share: Floats
    event: pa.Array
    wanted: Vectors
    pull: float
    name: str

    @cached_property
    def had(self) -> Places:
        """int64[h]: the distinct items chosen, ascending."""
        return np.unique(self.item[self.chosen])

    @property
    def is_unknown(self) -> bool:
        """Whether neither a choice nor a profile says anything."""
        return not len(self.had) and not self.wanted.any()


def rank_stream(
    batches: Iterator[pa.RecordBatch], ranker: Ranker, block: int = BLOCK
) -> Iterator[pa.RecordBatch]:
    """The lists (OUTPUT_SCHEMA) of users (INPUT_SCHEMA): best first.

    Of equal scores the more popular item comes first, of equally popular ones the smaller id. Nothing without
    items.
    """
    without_pandas()
    if not len(ranker.ids):
        return
    for batch in batches:
        for start in range(0, batch.num_rows, block):
            rows = batch.slice(start, block)
            yield lists_of(rows.column("user_id"), users_of(rows, ranker), ranker)


def users_of(rows: pa.RecordBatch, ranker: Ranker) -> list[User]:
    """The users of a block."""
    wanted, pulls = directions(rows, ranker)
    lists = rows.column("events")
    flat = lists.flatten()
    starts = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy())])
    place = pc.fill_null(pc.index_in(flat.field("item_id"), value_set=ranker.ids), -1).to_numpy()
    day, share = flat.field("day").to_numpy(), flat.field("share").to_numpy().astype(np.float64)
    chosen = flat.field("chosen").to_numpy(zero_copy_only=False)
    event, names = flat.field("event_id"), rows.column("user_id").to_pylist()
    found = []
    for row, (first, last) in enumerate(pairwise(starts)):
        known = first + np.flatnonzero(place[first:last] >= 0)
        found.append(
            User(
                place[known].astype(np.int64),
                day[known].astype(np.int64),
                chosen[known],
                share[known],
                event.take(pa.array(known)),
                wanted[row],
                pulls[row],
                names[row],
            )
        )
    return found


def directions(rows: pa.RecordBatch, ranker: Ranker) -> tuple[Vectors, Floats]:
    """float32[users, d], what each user's content score is the product with, and float64[users], `pull`.

    The direction of `main`, or its mean with that of a context facet, minus the aversion from `negative`.
    """
    units, lengths = {}, {}
    for name in ("main", "negative", "facet"):
        units[name], lengths[name] = directed(rows.column(name), ranker)
    there = lengths["facet"] > 0
    kept = units["main"].copy()
    kept[there] = (kept[there] + units["facet"][there]) / 2
    asked = np.where(there, 2 * lengths["facet"], lengths["main"])
    pulls = np.divide(1.0, asked, out=np.zeros(len(asked)), where=asked > 0)
    return (kept - ranker.aversion * units["negative"]).astype(np.float32), pulls


def directed(column: pa.Array, ranker: Ranker) -> tuple[Floats, Floats]:
    """float64[n, d], directions seen from the mean, and float64[n], lengths; zeros for NULL.

    Zeros for all where no item has a vector: then there is no mean, and nothing is near.
    """
    mean = ranker.mean
    there = column.is_valid().to_numpy(zero_copy_only=False)
    units, lengths = np.zeros((len(column), len(mean))), np.zeros(len(column))
    if there.any() and ranker.lengths.any():
        vectors = column.drop_null().flatten().to_numpy().reshape(-1, len(mean))
        units[there], lengths[there] = centred(vectors, mean)
    return units, lengths


def lists_of(ids: pa.Array, users: list[User], ranker: Ranker) -> pa.RecordBatch:
    """The lists of a block of users, in their order."""
    products = np.zeros((len(users), len(ranker.ids)), np.float32)
    if ranker.weights[0] and users:
        np.matmul(np.stack([user.wanted for user in users]), ranker.units.T, out=products)
    items, parts, because = [np.zeros(0, np.int64)], [np.zeros((0, len(PARTS)), np.float32)], []
    for user, own in zip(users, products, strict=True):
        scores = UserScores(user, ranker, own)
        listed = scores.best()
        items.append(listed)
        parts.append(scores.parts(listed))
        because += scores.reasons(listed)
    sizes, shares = [len(listed) for listed in items[1:]], np.concatenate(parts)
    ranks = [np.arange(1, size + 1, dtype=np.int32) for size in (0, *sizes)]
    columns = [
        ids.take(pa.array(np.repeat(np.arange(len(users)), sizes))),
        pa.array(np.concatenate(ranks)),
        ranker.ids.take(pa.array(np.concatenate(items))),
        pa.array(total(shares)),
        *[pa.array(np.ascontiguousarray(part)) for part in shares.T],
        pa.array(because, pa.list_(pa.string())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=OUTPUT_SCHEMA)


def total(parts: Vectors) -> Vectors:
    """float32[n], the scores of float32[n, PARTS], added in the order of the parts."""
    found = parts[:, 0].copy()
    for part in range(1, len(PARTS)):
        found += parts[:, part]
    return found


def kth_largest(scores: Vectors, k: int) -> float:
    """The k-th largest number; -inf where there are fewer.

    >>> kth_largest(np.array([3, 1, 2], np.float32), 2)
    2.0
    """
    width = len(scores) // DEPTH
    if width > k:
        # Each of these is there, so at least k numbers are as large as the k-th of them.
        largest = scores[: DEPTH * width].reshape(DEPTH, width).max(axis=0)
        scores = scores[scores >= np.partition(largest, -k)[-k]]
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf


def dots(rows: Vectors, vectors: Vectors) -> Floats:
    """float64[..., n]: products of the rows of float32[n, d] with float32[..., d], each for itself."""
    products = rows.astype(np.float64) * vectors.astype(np.float64)
    found: Floats = np.add.reduce(products, axis=-1)
    return found


class UserScores:
    """A user's scores of all items. products: float32[m], `wanted` with each direction; overwritten."""

    def __init__(self, user: User, ranker: Ranker, products: Vectors) -> None:
        self._user, self._ranker, self._products = user, ranker, products
        content, collaborative, _, own, _ = ranker.weights
        self._length = float(np.sqrt(dots(user.wanted[None], user.wanted)[0]))
        # A bound of the products' error, since directions have length 1, and of comparisons with it.
        self._error = (1.01 * len(user.wanted) + 2) * ROUNDING * self._length
        self._content = self._content_scale(content) if content and self._length else Scale(0.0, 0.0)
        self._rows = self._near_rows()
        self._near = Sums.by_item(*self._rows[1:], len(ranker.ids), collaborative)
        self._gains = np.exp2((user.day[user.chosen] - ranker.today) / ranker.half_life)
        self._own = Sums.by_item(user.item[user.chosen], self._gains, len(ranker.ids), own)

    def _content_scale(self, weight: float) -> Scale:
        """By the smallest and the largest of all items, found among those that may be either."""
        lowest = np.flatnonzero(self._products <= self._products.min() + 2 * self._error)
        highest = np.flatnonzero(self._products >= self._products.max() - 2 * self._error)
        low, high = float(self._dots(lowest).min()), float(self._dots(highest).max())
        scale = Scale.over(low, high, weight)
        # The products are scaled in float32.
        return scale if scale.factor < LARGEST_FACTOR else Scale(low, 0.0)

    def _dots(self, items: Places) -> Floats:
        return dots(self._ranker.units[items], self._user.wanted)

    def _near_rows(self) -> tuple[Places, Places, Vectors]:
        """Of every weight that the user's choices give an item: the event, the item and the weight.

        An item chosen several times counts once, for its last event. By the item chosen.
        """
        user, near = self._user, self._ranker.near
        at = np.flatnonzero(user.chosen)
        if self._ranker.last_only:
            at = at[-1:]
        items, from_end = np.unique(user.item[at][::-1], return_index=True)
        events = at[::-1][from_end]
        sizes = near.starts[items + 1] - near.starts[items]
        before = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.repeat(near.starts[items] - before[:-1], sizes) + np.arange(before[-1])
        return np.repeat(events, sizes), near.items[rows].astype(np.int64), near.data[rows]

    def best(self) -> Places:
        """int64[k], the items of the list, best first."""
        items = self._candidates()
        # By score, then popularity, and then, as the sort is stable, by id.
        order: Places = np.lexsort((-self._ranker.popularity[items], -total(self.parts(items))))
        best = items[order[: self._ranker.depth]]
        return best if self._ranker.reranking is None else self._relisted(best, self._ranker.reranking)

    def _relisted(self, items: Places, reranking: Reranking) -> Places:
        """int64[k], the items of the list, of those that score best."""
        user, ranker = self._user, self._ranker
        names = ranker.ids.take(pa.array(items)).to_pylist()
        scores, units = total(self.parts(items)), ranker.units[items]
        had = user.item[user.chosen]
        candidates = Candidates(user.name, items, names, scores, units, had, self._gains)
        return items[relisted(candidates, reranking, ranker.top)]

    def _candidates(self) -> Places:
        """int64[n], ascending: every item that may be among the first."""
        ranker, user = self._ranker, self._user
        if ranker.repeat == ONLY:
            return user.had[~ranker.blocked[user.had]]
        scores, margin = self._rough()
        if ranker.repeat == EXCLUDE:
            scores[user.had] = -np.inf
        found = np.flatnonzero(scores >= kth_largest(scores, ranker.depth) - margin)
        return found[scores[found] > -np.inf]

    def _rough(self) -> tuple[Vectors, float]:
        """float32[m], scores off by a constant of the user's and at most half the margin."""
        ranker, scores = self._ranker, self._products
        if self._user.is_unknown:
            return ranker.prior.copy(), 16 * ROUNDING
        scores *= np.float32(self._content.factor)
        scores += ranker.base
        for part in (self._near, self._own):
            scores[part.items] += part.ahead.astype(np.float32)
        error = self._content.factor * (self._error + 8 * ROUNDING * self._length)
        return scores, 2 * (error + 32 * ROUNDING)

    def parts(self, items: Places) -> Vectors:
        """float32[n, PARTS], each item's for itself."""
        ranker, found = self._ranker, np.zeros((len(items), len(PARTS)), np.float32)
        if self._user.is_unknown:
            found[:, 2] = ranker.popularity[items]
            return found
        if self._content.factor:
            found[:, 0] = self._content.of(self._dots(items))
        found[:, 1] = self._near.of(items)
        found[:, 2] = ranker.weights[2] * ranker.popularity[items]
        found[:, 3] = self._own.of(items)
        found[:, 4] = ranker.weights[4] * ranker.freshness[items]
        return found

    def reasons(self, items: Places) -> list[list[str]]:
        """Of each item the events that gave it most, largest first, of equals the smaller id first."""
        names = self._user.event.to_pylist()
        by_name = sorted(range(len(names)), key=names.__getitem__)
        given = self._given(items)[:, by_name]
        largest = np.argsort(-given, axis=1, kind="stable")[:, :REASONS]
        gave = np.take_along_axis(given, largest, axis=1) > 0
        return [
            [names[by_name[at]] for at, is_reason in zip(*one, strict=True) if is_reason]
            for one in zip(largest.tolist(), gave.tolist(), strict=True)
        ]

    def _given(self, items: Places) -> Floats:
        """float64[n, events]: what each event of the user gave each item's score."""
        user, given = self._user, np.zeros((len(items), len(self._user.item)))
        if not given.size:
            return given
        own = np.zeros(len(user.item))
        own[user.chosen] = self._own.scale.factor * self._gains
        given += np.where(user.item == items[:, None], own, 0.0)
        events, near, data = self._rows
        order = np.argsort(items)
        place = np.minimum(np.searchsorted(items[order], near), len(items) - 1)
        is_listed = items[order[place]] == near
        at = order[place[is_listed]], events[is_listed]
        np.add.at(given, at, self._near.scale.factor * data[is_listed])
        shares = np.flatnonzero(user.share > 0)
        units, of = self._ranker.units, user.item[shares]
        scale = self._content.factor * user.pull * user.share[shares] * self._ranker.lengths[of]
        given[:, shares] += scale * dots(units[of], units[items][:, None])
        return given
