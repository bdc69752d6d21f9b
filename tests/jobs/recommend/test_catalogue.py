"""What the settings ask for besides scores reaches the workers, and nothing where they ask for nothing."""

import numpy as np
import pytest

from jobs.recommend.catalogue import reranking_of
from schemas.settings import RecommendSettings
from udfs.rerank import Rules

CATEGORY = np.array([1, 0, 1], np.int32)


def test_without_an_option_lists_are_those_of_the_scores():
    assert reranking_of(RecommendSettings(), CATEGORY) is None


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({"diversity": 0.3}, Rules(0.3, 0.0, 1.0)),
        ({"calibration": 0.2}, Rules(0.0, 0.2, 1.0)),
        ({"exposure_cap": 0.1}, Rules(0.0, 0.0, 0.1)),
    ],
)
def test_each_option_alone_re_ranks(given, rules):
    found = reranking_of(RecommendSettings(**given), CATEGORY)
    assert found is not None and found.rules == rules
    # Nothing is capped before the sample was looked at.
    assert found.rates.tolist() == [1.0, 1.0, 1.0] and found.category is CATEGORY
