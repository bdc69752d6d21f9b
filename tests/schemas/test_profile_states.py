"""Unsound states: Delta refuses each by the check declared for it, in both tables that store states."""

import pytest

from schemas import profile_states, user_profiles
from tests.builders import row, store


@pytest.mark.parametrize("table", [profile_states.TABLE, user_profiles.TABLE], ids=lambda table: table.name)
@pytest.mark.parametrize(
    ("values", "check"),
    [
        ({"vector": [0.0, 0.0]}, "vector_not_zero"),
        ({"vector": [1.0, float("nan")]}, "vector_finite"),
        ({"event_count": 0}, "event_count_positive"),
    ],
    ids=["zero", "nan", "no_events"],
)
def test_an_unsound_state_is_refused_by_its_check(spark, warehouse, table, values, check):
    with pytest.raises(Exception, match=f"(?i){check}"):
        store(spark, warehouse, table, [row(table, **values)])
