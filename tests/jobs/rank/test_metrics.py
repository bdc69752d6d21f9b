"""Metrics against figures computed by hand, against another library, and their properties."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jobs.rank.metrics import (
    HIT,
    MRR,
    NDCG,
    NOVELTY,
    RECALL,
    Truth,
    coverage,
    first_rank,
    gini,
    measure,
    self_information,
    top_items,
)

K = 3
SURPRISE = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
# Five users over five items: scores, chosen items, chosen items unknown then, and what follows by hand.
LOG2 = math.log2
BY_HAND = [
    # The only chosen item is first.
    ([5, 4, 3, 2, 1], [0], 0, {NDCG: 1, RECALL: 1, MRR: 1, HIT: 1, NOVELTY: 2}),
    # Two chosen, at ranks 1 and 3.
    ([5, 4, 3, 2, 1], [0, 2], 0, {NDCG: (1 + 1 / 2) / (1 + 1 / LOG2(3)), RECALL: 1, MRR: 1, HIT: 1}),
    # Ties go to the smaller index: items 0 to 2 are the first three, and item 3 is fourth.
    ([1, 1, 1, 1, 1], [3], 0, {NDCG: 0, RECALL: 0, MRR: 1 / 4, HIT: 0, NOVELTY: 2}),
    # One of two chosen items was unknown then: it cannot be found, and counts.
    ([1, 9, 1, 1, 1], [1], 1, {NDCG: 1 / (1 + 1 / LOG2(3)), RECALL: 1 / 2, MRR: 1, HIT: 1}),
    # Nothing but one item can be ranked, and another was chosen.
    ([-np.inf, -np.inf, -np.inf, -np.inf, 1], [0], 0, {NDCG: 0, RECALL: 0, MRR: 0, HIT: 0, NOVELTY: 5}),
]
SCORES = arrays.arrays(
    np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, -np.inf])
)


@pytest.mark.parametrize(("scores", "chosen", "missed", "wanted"), BY_HAND)
def test_metrics_of_five_users_by_hand(scores, chosen, missed, wanted):
    found, _ = measure(np.array(scores, float), Truth(np.array(chosen), missed), SURPRISE, K)
    for place, value in wanted.items():
        assert found[place] == pytest.approx(value, abs=1e-12)


@settings(deadline=None)
@given(SCORES, st.integers(1, 12))
def test_the_top_is_the_head_of_a_stable_sort(scores, k):
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > -np.inf]
    assert top_items(scores, k).tolist() == order[:k]


@settings(deadline=None)
@given(SCORES, st.data())
def test_a_rank_is_the_place_in_the_whole_order(scores, data):
    items = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=1, unique=True))
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > -np.inf]
    wanted = min([order.index(item) + 1 if item in order else math.inf for item in items])
    assert first_rank(scores, np.sort(items)) == wanted


@settings(deadline=None)
@given(SCORES, st.data())
def test_metrics_stay_within_their_bounds_and_do_not_care_for_monotone_changes(scores, data):
    items = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=1, unique=True))
    truth, surprise = Truth(np.sort(items), data.draw(st.integers(0, 3))), np.arange(len(scores)) + 1.0
    found, shown = measure(scores, truth, surprise, K)
    assert ((found[:NOVELTY] >= 0) & (found[:NOVELTY] <= 1)).all() and len(shown) <= K
    again, _ = measure(3 * scores + 1, truth, surprise, K)
    assert found.tolist() == again.tolist()


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 50)), st.integers(0, 10))
def test_the_gini_coefficient_is_the_mean_difference(exposures, never):
    every = np.concatenate([exposures, np.zeros(never, np.int64)])
    if every.sum():
        differences = np.abs(every[:, None] - every[None, :]).mean()
        assert gini(exposures, len(every)) == pytest.approx(differences / (2 * every.mean()), abs=1e-12)
    else:
        assert gini(exposures, len(every)) == 0


def test_coverage_and_self_information():
    assert coverage(np.array([0, 2, 1, 0]), 4) == 0.5
    assert self_information(np.array([4, 1, 0]), 4).tolist() == [0, 2, 3]


# Compiled, the other library takes a minute to begin; its tests run the same code interpreted.
OTHER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from ranx.metrics.hit_rate import _hit_rate
from ranx.metrics.ndcg import _ndcg
from ranx.metrics.recall import _recall
from ranx.metrics.reciprocal_rank import _reciprocal_rank
answers = []
for chosen, order in json.load(sys.stdin):
    qrels = np.array([[float(i), 1.0] for i in chosen])
    run = np.array([[float(i), float(len(order) - place)] for place, i in enumerate(order)])
    answers.append([float(_ndcg(qrels, run, 10, 1, True)), float(_recall(qrels, run, 10, 1)),
                    float(_reciprocal_rank(qrels, run, 0, 1)), float(_hit_rate(qrels, run, 10, 1))])
json.dump(answers, sys.stdout)
"""


def test_metrics_agree_with_another_library():
    draws = np.random.default_rng(7)
    cases, ours = [], []
    for _ in range(200):
        scores = draws.integers(0, 20, size=draws.integers(2, 60)).astype(float)
        chosen = np.sort(
            draws.choice(len(scores), size=draws.integers(1, min(len(scores), 15)), replace=False)
        )
        order = np.argsort(-scores, kind="stable")
        cases.append([chosen.tolist(), order.tolist()])
        ours.append(measure(scores, Truth(chosen), np.ones(len(scores)), 10)[0][[NDCG, RECALL, MRR, HIT]])
    answer = subprocess.run(
        [sys.executable, "-c", OTHER],
        input=json.dumps(cases),
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert np.abs(np.array(json.loads(answer.stdout)) - np.array(ours)).max() < 1e-9
