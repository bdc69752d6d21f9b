"""Lists hold to a plain formula, and to the same bits in any batch, block and order of users."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.rank import (
    ALLOW,
    EVENT,
    EXCLUDE,
    INPUT_SCHEMA,
    ONLY,
    OUTPUT_SCHEMA,
    PARTS,
    Near,
    Ranker,
    Scale,
    User,
    dots,
    lists_of,
    rank_stream,
)
from udfs.score import centred_units

TODAY, DIM = 100, 6


def ranker(seed: int = 0, items: int = 40, **given) -> Ranker:
    """A catalogue of drawn vectors, of which every seventh item has none, and drawn weights of neighbours."""
    draws = np.random.default_rng(seed)
    mean = draws.normal(size=DIM).astype(np.float32) / np.float32(10)
    vectors = draws.normal(size=(items, DIM)).astype(np.float32)
    units, lengths = centred_units(vectors, mean), np.linalg.norm(vectors.astype(float) - mean, axis=1)
    units[::7], lengths[::7] = 0, 0
    dense = np.where(draws.random((items, items)) < 0.2, draws.normal(size=(items, items)), 0)
    np.fill_diagonal(dense, 0)
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(items + 1))
    known = {
        "ids": pa.array([f"i{n:03}" for n in range(items)]),
        "units": units.astype(np.float32),
        "lengths": lengths,
        "mean": mean,
        "popularity": scaled(draws.integers(0, 9, items).astype(float)),
        "freshness": scaled(np.exp2(-draws.integers(0, 50, items) / 30)),
        "blocked": np.zeros(items, bool),
        "near": Near(dense[rows, columns].astype(np.float32), columns.astype(np.int32), starts),
        "weights": (0.4, 0.2, 0.1, 0.2, 0.1),
        "aversion": 0.25,
        "half_life": 14.0,
        "last_only": False,
        "today": TODAY,
        "top": 5,
        "repeat": ALLOW,
    }
    return Ranker(**known | given)


def user(draws: np.random.Generator, name: str, items: int) -> dict:
    """A user with up to 12 events, some of unknown items, and one or more profiles or none."""
    size = int(draws.integers(0, 13))
    days = np.sort(draws.integers(TODAY - 60, TODAY + 1, size))
    events = [
        {
            "item_id": f"i{draws.integers(0, items + 2):03}",
            "event_id": f"{name}-{number}",
            "day": int(day),
            "chosen": bool(draws.random() < 0.7),
            "share": float(draws.choice([0, 0.1, 0.3])),
        }
        for number, day in enumerate(days)
    ]
    profiles = {
        facet: draws.normal(size=DIM).astype(np.float32).tolist() if draws.random() < share else None
        for facet, share in (("main", 0.8), ("negative", 0.3), ("facet", 0.2))
    }
    return {"user_id": name, "events": events} | profiles


def users(seed: int, count: int, items: int = 40) -> pa.RecordBatch:
    draws = np.random.default_rng(seed)
    rows = [user(draws, f"u{number:03}", items) for number in range(count)]
    return pa.RecordBatch.from_pylist(rows, INPUT_SCHEMA)


def listed(batches: list[pa.RecordBatch], given: Ranker, block: int = 64) -> pa.Table:
    found = pa.Table.from_batches(rank_stream(iter(batches), given, block), OUTPUT_SCHEMA)
    return found.combine_chunks()


def by_user(table: pa.Table) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        found.setdefault(row["user_id"], []).append(row)
    return found


# ---- the plain formula


def scaled(values: np.ndarray) -> np.ndarray:
    width = values.max() - values.min()
    return (values - values.min()) / width if width > 0 else np.zeros(len(values))


def plain_parts(row: dict, given: Ranker) -> np.ndarray:
    """float64[items, PARTS], by the definitions alone."""
    names, items = given.ids.to_pylist(), len(given.ids)
    wanted = np.zeros(DIM)
    units = {}
    for facet in ("main", "negative", "facet"):
        vector = row[facet]
        units[facet] = None if vector is None else np.array(vector, np.float32).astype(float) - given.mean
        if units[facet] is not None:
            units[facet] /= np.linalg.norm(units[facet])
    if units["main"] is not None:
        wanted = units["main"]
    if units["facet"] is not None:
        wanted = (wanted + units["facet"]) / 2
    if units["negative"] is not None:
        wanted = wanted - given.aversion * units["negative"]
    chosen = [(names.index(e["item_id"]), e) for e in row["events"] if e["chosen"] and e["item_id"] in names]
    own, near = np.zeros(items), np.zeros(items)
    for item, event in chosen:
        own[item] += 2 ** (-(TODAY - event["day"]) / given.half_life)
    seeds = {chosen[-1][0]} if chosen and given.last_only else {item for item, _ in chosen}
    for item in seeds:
        first, last = given.near.starts[item : item + 2]
        near[given.near.items[first:last]] += given.near.data[first:last]
    if not chosen and not wanted.any():
        return np.stack([0 * own, 0 * own, given.popularity, 0 * own, 0 * own], axis=1)
    parts = [scaled(given.units.astype(float) @ wanted), scaled(near), given.popularity, scaled(own)]
    return np.stack([*parts, given.freshness], axis=1) * given.weights


def plain_items(row: dict, given: Ranker) -> np.ndarray:
    """bool[items]: what may be in the user's list."""
    had = {e["item_id"] for e in row["events"] if e["chosen"]}
    is_had = np.array([name in had for name in given.ids.to_pylist()])
    allowed = {ALLOW: np.ones(len(is_had), bool), EXCLUDE: ~is_had, ONLY: is_had}[given.repeat]
    return allowed & ~given.blocked


CASES = [
    {},
    {"repeat": EXCLUDE},
    {"repeat": ONLY},
    {"last_only": True},
    {"top": 60},
    {"weights": (1.0, 0.0, 0.0, 0.0, 0.0)},
    {"weights": (0.0, 0.4, 0.4, 0.2, 0.0), "blocked": np.arange(40) % 3 == 0},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_list_is_the_first_of_the_plain_formula(case):
    given = ranker(**case)
    batch = users(3, 50)
    found = by_user(listed([batch], given))
    for row in batch.to_pylist():
        parts, allowed = plain_parts(row, given), plain_items(row, given)
        scores = np.where(allowed, parts.sum(axis=1), -np.inf)
        best = np.argsort(-scores, kind="stable")[: min(given.top, int(allowed.sum()))]
        own = found.get(row["user_id"], [])
        assert [one["rank"] for one in own] == list(range(1, len(best) + 1))
        names = given.ids.to_pylist()
        places = [names.index(one["item_id"]) for one in own]
        assert all(allowed[places]) and len(set(places)) == len(places)
        # The same scores in the same order; items may differ where scores agree to rounding.
        assert [one["score"] for one in own] == pytest.approx(scores[best].tolist(), abs=1e-5)
        for one, place in zip(own, places, strict=True):
            assert [one[name] for name in PARTS] == pytest.approx(parts[place].tolist(), abs=1e-5)


def test_parts_sum_to_the_score_as_stored():
    for row in listed([users(5, 60)], ranker()).to_pylist():
        total = np.float32(0)
        for name in PARTS:
            total = np.float32(total + np.float32(row[name]))
        assert np.float32(row["score"]) == total


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.permutations(range(24)),
    st.lists(st.integers(0, 24), max_size=4),
)
def test_lists_have_the_same_bits_in_any_batch_block_and_order(seed, block, order, cuts):
    """On a catalogue large enough for products of other shapes to round otherwise."""
    given, batch = ranker(seed % 7, items=300, top=4), users(seed, 24, items=300)
    whole = listed([batch], given)
    bounds = [0, *sorted(cuts), 24]
    mixed = batch.take(pa.array(order))
    pieces = [mixed.slice(first, last - first) for first, last in pairwise(bounds)]
    again = listed(pieces, given, block)
    order_of = [("user_id", "ascending"), ("rank", "ascending")]
    assert again.sort_by(order_of).equals(whole.sort_by(order_of))


def test_a_product_by_rows_does_not_depend_on_the_other_rows():
    draws = np.random.default_rng(1)
    for dim in (1, 3, 8, 64, 129, 384):
        rows, vector = (
            draws.normal(size=(50, dim)).astype(np.float32),
            draws.normal(size=dim).astype(np.float32),
        )
        every = dots(rows, vector)
        for some in ([7], [7, 8], [9, 7, 30], list(range(49))):
            assert dots(rows[some], vector).tobytes() == every[some].tobytes()


def test_a_bound_that_is_off_by_rounding_cannot_decide(monkeypatch):
    """Products that are as wrong as the bound allows give the same lists."""
    given, batch = ranker(items=300), users(2, 40, items=300)
    wanted = listed([batch], given)
    exact = np.matmul

    def wrong(left, right, out):
        exact(left, right, out=out)
        lengths = np.linalg.norm(left, axis=1, keepdims=True)
        signs = np.random.default_rng(0).choice([-1, 1], out.shape)
        out += (signs * 0.5 * DIM * 2.0**-24 * lengths).astype(np.float32)
        return out

    monkeypatch.setattr("udfs.rank.np.matmul", wrong)
    assert listed([batch], given).equals(wanted)


@pytest.mark.parametrize(("half_life", "seed"), [(3e7, 2), (1e8, 5), (1e8, 11)])
def test_counts_that_are_close_together_are_told_apart(half_life, seed):
    """Somebody who chose everything, at a half-life that hardly forgets: float32 would misplace some."""
    days = np.random.default_rng(seed).permutation(40)
    events = [
        {"item_id": f"i{at:03}", "event_id": str(at), "day": int(days[at]), "chosen": True, "share": 0.0}
        for at in np.argsort(days)
    ]
    row = {"user_id": "u", "main": None, "negative": None, "facet": None, "events": events}
    popularity = scaled(np.random.default_rng(seed + 99).random(40))
    weights = (0.0, 0.0, 0.5, 0.5, 0.0)
    given = ranker(seed, weights=weights, half_life=half_life, popularity=popularity)
    found = listed([pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)], given).to_pylist()
    wanted = 0.5 * popularity + 0.5 * scaled(days.astype(float))
    assert [one["item_id"] for one in found] == [f"i{at:03}" for at in np.argsort(-wanted)[:5]]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=6), st.sampled_from([0.0, 0.2, 0.6, 1.0]))
def test_any_finite_values_are_scaled_to_their_weight(values, weight):
    """Also those that are so near to each other that the inverse of the difference is no number."""
    given = np.array(values)
    found = Scale.over(given.min(), given.max(), weight).of(given)
    assert ((found >= 0) & (found <= weight * (1 + 1e-12))).all()


@pytest.mark.parametrize("halvings", [100, 140, 1000, 1040, 1060, 1080])
def test_choices_of_ages_ago_have_a_score(halvings):
    """Their gains are subnormal, or 0; so is the length of a profile next to its opposite."""
    events = [
        {"item_id": f"i{at:03}", "event_id": str(at), "day": TODAY - halvings, "chosen": True, "share": 0.0}
        for at in range(3)
    ]
    tiny = np.full(DIM, 2.0 ** -min(halvings, 148), np.float32)
    given = ranker(half_life=1.0, mean=np.zeros(DIM, np.float32), top=40)
    row = {"user_id": "u", "main": tiny.tolist(), "negative": None, "facet": None, "events": events}
    near = User(*[np.zeros(0, np.int64)] * 2, np.zeros(0, bool), np.zeros(0), pa.array([]), tiny, 1.0, "u")
    for found in (
        listed([pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)], given),
        lists_of(pa.array(["u"]), [near], given),
    ):
        assert found.num_rows == 40 and np.isfinite(found.column("score").to_numpy()).all()


# ---- ties, strangers, blocks


def test_of_equally_popular_ones_the_smaller_id_comes_first():
    flat = {"popularity": np.zeros(40), "weights": (0.0, 0.0, 1.0, 0.0, 0.0)}
    rows = listed([users(1, 3)], ranker(**flat)).to_pylist()
    assert [row["item_id"] for row in rows] == ["i000", "i001", "i002", "i003", "i004"] * 3


@pytest.mark.parametrize(
    "weights", [(1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.5, 0.0), (0.0, 0.0, 0.0, 0.0, 1.0)]
)
@pytest.mark.parametrize("repeat", [ALLOW, EXCLUDE, ONLY])
def test_of_equal_scores_what_is_popular_comes_first(weights, repeat):
    """Of users whose parts are the same for all items, or for all but a few, every other place is such."""
    given = ranker(weights=weights, repeat=repeat, top=30, freshness=np.zeros(40))
    popularity = dict(zip(given.ids.to_pylist(), given.popularity.tolist(), strict=True))
    for rows in by_user(listed([users(8, 40)], given)).values():
        keys = [(-one["score"], -popularity[one["item_id"]], one["item_id"]) for one in rows]
        assert keys == sorted(keys)


def stranger() -> pa.RecordBatch:
    row = {"user_id": "new", "events": [], "main": None, "negative": None, "facet": None}
    return pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)


def test_whoever_is_unknown_gets_what_is_popular():
    given = ranker(weights=(1.0, 0.0, 0.0, 0.0, 0.0))
    rows = listed([stranger()], given).to_pylist()
    best = np.argsort(-given.popularity, kind="stable")[:5]
    assert [row["item_id"] for row in rows] == [given.ids[int(at)].as_py() for at in best]
    assert all(row["score"] == row["popularity"] and row["because"] == [] for row in rows)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 39)), st.sampled_from([ALLOW, EXCLUDE, ONLY]), st.integers(0, 99))
def test_nothing_brings_a_blocked_item_back(blocked, repeat, seed):
    mask = np.isin(np.arange(40), sorted(blocked))
    rows = listed([users(seed, 12), stranger()], ranker(blocked=mask, repeat=repeat)).to_pylist()
    assert not {row["item_id"] for row in rows} & {f"i{at:03}" for at in blocked}


def test_a_block_changes_no_other_score():
    before = {
        (r["user_id"], r["item_id"]): r["score"] for r in listed([users(4, 30)], ranker(top=40)).to_pylist()
    }
    mask = np.arange(40) % 2 == 0
    rows = listed([users(4, 30)], ranker(top=40, blocked=mask)).to_pylist()
    assert rows and all(before[row["user_id"], row["item_id"]] == row["score"] for row in rows)


def test_no_users_have_no_lists():
    assert listed([users(0, 0)], ranker()).num_rows == 0


# ---- because


def test_because_names_the_events_that_gave_most():
    """One event by each part: an item bought before, one that has it for a neighbour, one with its text."""
    near = Near(np.array([1.0], np.float32), np.array([2], np.int32), np.array([0, 0, 1, *[1] * 38]))
    given = ranker(near=near, weights=(0.0, 0.5, 0.0, 0.5, 0.0), top=40)
    events = [("i001", "old", 50, True), ("i001", "seed", 90, True), ("i002", "own", 99, True)]
    row = {"user_id": "u", "main": None, "negative": None, "facet": None}
    row["events"] = [dict(zip(EVENT.names, (*one, 0.0), strict=True)) for one in events]
    rows = listed([pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)], given).to_pylist()
    because = {one["item_id"]: one["because"] for one in rows}
    # A neighbour counts for the last event of the item that was chosen.
    assert because["i002"] == ["own", "seed"] and because["i001"] == ["seed", "old"]
    assert because["i005"] == []


def test_because_of_content_follows_the_shares_of_the_profile():
    given = replace(ranker(), weights=(1.0, 0.0, 0.0, 0.0, 0.0), top=40)
    vectors = given.units.astype(float) * given.lengths[:, None] + given.mean
    profile = 0.7 * vectors[1] + 0.3 * vectors[2]
    events = [
        ("i001", "much", 9, False, 0.7),
        ("i002", "less", 9, False, 0.3),
        ("i003", "none", 9, True, 0.0),
    ]
    row = {"user_id": "u", "main": profile.astype(np.float32).tolist(), "negative": None, "facet": None}
    row["events"] = [dict(zip(EVENT.names, one, strict=True)) for one in events]
    rows = listed([pa.RecordBatch.from_pylist([row], INPUT_SCHEMA)], given).to_pylist()
    because = {one["item_id"]: one["because"] for one in rows}
    for at, name in enumerate(given.ids.to_pylist()):
        gave = {
            event: share * float((vectors[of] - given.mean.astype(float)) @ given.units[at])
            for event, share, of in (("much", 0.7, 1), ("less", 0.3, 2))
        }
        assert because[name] == sorted((e for e in gave if gave[e] > 1e-9), key=lambda e: -gave[e])


# ---- a catalogue with nothing to be near


def test_where_no_item_has_a_vector_the_other_parts_rank_and_profiles_of_any_size_are_passed_over():
    blind = ranker(units=np.zeros((40, 1), np.float32), lengths=np.zeros(40), mean=np.zeros(1, np.float32))
    table = by_user(listed([users(3, 20)], blind))
    assert len(table) == 20
    assert all(row["content"] == 0 for rows in table.values() for row in rows)


def test_without_items_there_are_no_lists():
    empty = ranker(ids=pa.array([], pa.string()))
    assert listed([users(3, 20)], empty).num_rows == 0
