"""Unsound states: Delta refuses each by the check declared for it, in both tables that store states."""

import pytest

from schemas import profile_states, user_profiles
from tests.builders import row, store

TABLES = [profile_states.TABLE, user_profiles.TABLE]


@pytest.fixture(scope="module")
def states(spark, tmp_path_factory):
    """A warehouse with both tables, empty, and still empty after the tests."""
    folder = str(tmp_path_factory.mktemp("states"))
    paths = [store(spark, folder, table, []) for table in TABLES]
    yield folder
    assert [spark.read.format("delta").load(path).count() for path in paths] == [0, 0]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize(
    ("values", "check"),
    [
        ({"vector": [0.0, 0.0]}, "vector_not_zero"),
        ({"vector": [1.0, float("nan")]}, "vector_finite"),
        ({"event_count": 0}, "event_count_positive"),
    ],
    ids=["zero", "nan", "no_events"],
)
def test_an_unsound_state_is_refused_by_its_check(spark, states, table, values, check):
    with pytest.raises(Exception, match=f"(?i){check}"):
        store(spark, states, table, [row(table, **values)])
