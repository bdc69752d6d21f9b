"""The compiled kernel against the plain-Python oracle, bit for bit; tests of a row's fate are named by it.

new: a user without a prior state; matched: events on an existing profile; expired: entries that leave the
ledger.
"""

import os
import subprocess
import sys
from datetime import timedelta

import numba
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.oracle import Event, Gate, fold_user
from tests.udfs.fold.histories import (
    DAY,
    GATES,
    MIDNIGHT_US,
    SECOND_US,
    assert_same,
    random_events,
    run,
    vectors_of,
)
from udfs.fold.kernel import fold_rows

# ---- what becomes of a profile


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.gate}-{gate.relevance}")
def test_new_users_equal_the_oracle(gate: Gate) -> None:
    vectors = vectors_of(dim=20, count=12, seed=1)
    users = {
        f"u{i}": random_events(f"u{i}", days=12, most_a_day=15, vectors=vectors, seed=i) for i in range(4)
    }
    found = run(users, vectors, gate)
    for user, events in users.items():
        assert_same(found[user], fold_user([event for event, _ in events], gate))


def test_new_users_differ_under_any_two_gates() -> None:
    """On a history long enough that the warm-up does not bind, with topics that oppose each other."""
    vectors = vectors_of(2, 10, 3)
    users = {"u": random_events("u", days=30, most_a_day=20, vectors=vectors, seed=5)}
    results = [tuple(run(users, vectors, gate)["u"][-1]["vector"]) for gate in GATES]
    by_name = dict(zip([(g.gate, g.relevance) for g in GATES], results, strict=True))
    # Relevance has no effect in mean and fixed.
    assert by_name["mean", "follow"] == by_name["mean", "resist"]
    assert by_name["fixed", "follow"] == by_name["fixed", "resist"]
    assert len(set(results)) == len(GATES) - 2


def test_matched_event_that_cancels_the_profile_leaves_it() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    events = [
        (Event(DAY, MIDNIGHT_US, "a", 1.0, vectors[0]), 0),
        (Event(DAY, MIDNIGHT_US + SECOND_US, "b", 1.0, vectors[1]), 1),
    ]
    found = run({"u": events}, vectors, Gate(gate="mean"))["u"]
    assert_same(found, fold_user([e for e, _ in events], Gate(gate="mean")))
    assert found[0]["cancelled"] == 1
    assert found[0]["vector"] == [1.0, 0.0]


def test_matched_flood_of_one_day_moves_an_old_profile_by_at_most_its_share() -> None:
    """After many events on one topic, a flood of another takes at most max_day_share of the profile."""
    vectors = np.eye(2, dtype=np.float32)
    calm = [(Event(DAY, MIDNIGHT_US + i * SECOND_US, f"a{i:03}", 1.0, vectors[0]), 0) for i in range(30)]
    flood_day, flood_us = DAY + timedelta(days=1), MIDNIGHT_US + 86_400 * SECOND_US
    flood = [
        (Event(flood_day, flood_us + i * SECOND_US, f"b{i:04}", 1.0, vectors[1]), 1) for i in range(2_000)
    ]
    last = run({"u": calm + flood}, vectors, Gate(max_day_share=0.3))["u"][-1]["vector"]
    assert last[0] == pytest.approx(0.7, abs=1e-3)


def test_expired_contributions_leave_the_eight_largest() -> None:
    """Under the mean gate, twelve equal weights give shares of 1/12 each, up to rounding."""
    vectors = vectors_of(8, 12, 4)
    events = [(Event(DAY, MIDNIGHT_US + i * SECOND_US, f"e{i:02}", 1.0, vectors[i]), i) for i in range(12)]
    (state,) = run({"u": events}, vectors, Gate(gate="mean"))["u"]
    assert_same([state], fold_user([e for e, _ in events], Gate(gate="mean")))
    shares = [entry["weight"] for entry in state["contributions"]]
    assert len(shares) == 8 and shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(8 / 12, abs=1e-6)


# ---- the same bits on every machine


def test_no_product_is_fused_with_a_sum() -> None:
    """A fused multiply-add rounds once instead of twice, and only some machines have it."""
    run({"u": random_events("u", 2, 5, vectors_of(16, 3, 1), 1)}, vectors_of(16, 3, 1), Gate())
    # Compiled anew, since code from the cache can't be inspected.
    fresh = numba.njit(error_model="numpy")(fold_rows.py_func)
    fresh.compile(fold_rows.signatures[0])
    code = "".join(fresh.inspect_asm().values())
    assert "mulps" in code and "fmadd" not in code


HASH_OF_A_FOLD = """
import hashlib
from dataclasses import replace
from tests.udfs.fold import histories as h
vectors = h.vectors_of(44, 9, 7)
users = {f"u{i}": h.random_events(f"u{i}", 9, 15, vectors, i, step=5) for i in range(5)}
gates = [*h.GATES, *(replace(gate, half_life_days=7.5) for gate in h.GATES)]
rows = [row for gate in gates for rows in h.run(users, vectors, gate).values() for row in rows]
bits = [(row["vector"], row["gain_sum"], row["drift"], row["contributions"]) for row in rows]
print(hashlib.sha256(repr(bits).encode()).hexdigest())
"""


@pytest.mark.slow
def test_machines_with_narrow_and_wide_registers_give_the_same_bits(tmp_path) -> None:
    """Compiled for processors of each kind; those with wide registers have fused multiply-adds too."""
    hashes = set()
    for kind in ("nehalem", "haswell", None):
        target = {
            "NUMBA_CPU_NAME": kind,
            "NUMBA_CPU_FEATURES": "",
            "NUMBA_CACHE_DIR": str(tmp_path / f"{kind}"),
        }
        done = subprocess.run(
            [sys.executable, "-c", HASH_OF_A_FOLD],
            cwd=ROOT,
            env=os.environ | (target if kind else {}),
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1
