"""Popularity under fake accounts: bounded by what established users chose, and the rest stays as it is."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jobs.rank.events import History, history_at
from jobs.rank.popularity import established, fit_support, most_new
from tests.jobs.rank.worlds import events_of

TODAY, ITEMS, REAL = 30, 12, 60


def drawn(seed: int) -> list[tuple[int, int, int]]:
    """Choices of 60 users on 30 days, of whom a few choose once."""
    draws = np.random.default_rng(seed)
    rows = []
    for user in range(REAL):
        for _ in range(int(draws.integers(1, 9))):
            rows.append((user, int(draws.integers(0, ITEMS)), int(draws.integers(0, TODAY + 1))))
    return rows


def at(rows: list[tuple[int, int, int]], users: int) -> History:
    return history_at(events_of(rows, users), TODAY, ITEMS)


def support(rows: list[tuple[int, int, int]], users: int = REAL) -> np.ndarray:
    return np.asarray(fit_support(at(rows, users), {"half_life": 14})["popularity"])


def plain(rows: list[tuple[int, int, int]], users: int = REAL) -> tuple[np.ndarray, np.ndarray]:
    """What established users and all others count for each item."""
    counts = np.zeros((2, ITEMS))
    for user in range(users):
        own = [(item, day) for u, item, day in rows if u == user]
        is_old = len({item for item, _ in own}) > 1 and len({day for _, day in own}) > 1
        for item in {item for item, _ in own}:
            last = max(day for other, day in own if other == item)
            counts[0 if is_old else 1, item] += 2 ** (-(TODAY - last) / 14)
    return counts[0], counts[1]


def test_accounts_are_established_by_two_items_and_two_days():
    rows = [(0, 1, 1), (0, 2, 2), (1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1)]
    assert established(at(rows, 4)).tolist() == [True, False, False, False]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, ITEMS - 1), st.integers(0, 300), st.booleans())
def test_fake_accounts_move_one_item_within_its_established_support(seed, item, fakes, with_bestseller):
    rows = drawn(seed)
    old, new = plain(rows)
    before, best = support(rows), int(np.argmax(old))
    pushed = rows + [(REAL + n, item, TODAY) for n in range(fakes)]
    touched = {item}
    if with_bestseller:
        pushed += [(REAL + n, best, TODAY) for n in range(fakes)]
        touched.add(best)
    after = support(pushed, REAL + fakes)
    others = [n for n in range(ITEMS) if n not in touched]
    # Not a young log: most items have more established users than others.
    assume((old > 0).all() and np.median(new / old) <= 0.5)
    assert before == pytest.approx(old + np.minimum(new, old)) and (after <= 2 * old + 1e-9).all()
    assert (after[others] == before[others]).all()
    # Scaled by the largest, the others shrink to a half at most.
    assert after.max() <= 2 * old.max() + 1e-9


def test_five_thousand_fake_accounts_would_have_led_by_far():
    rows, fakes = drawn(1), 5000
    pushed = rows + [(REAL + n, 0, TODAY) for n in range(fakes)]
    old, _ = plain(rows)
    counts = support(pushed, REAL + fakes)
    assert counts[0] <= 2 * old[0] and counts.max() < fakes / 100


def test_a_young_log_where_all_are_new_counts_everybody():
    rows = [(user, user % ITEMS % 5, TODAY) for user in range(REAL)]
    assert support(rows).tolist() == np.bincount([row[1] for row in rows], minlength=ITEMS).tolist()


def test_where_most_items_have_more_new_accounts_than_established_ones_the_median_item_decides():
    old, new = np.array([1.0, 2.0, 4.0, 1.0, 0.0]), np.array([3.0, 6.0, 12.0, 50.0, 0.0])
    assert most_new(old, new).tolist() == [3.0, 6.0, 12.0, 3.0, 0.0]
    assert (
        np.isinf(most_new(np.zeros(3), np.ones(3))).all()
        and np.isinf(most_new(np.zeros(0), np.zeros(0))).all()
    )
