"""Which ranker is in force on a day: later trainings change nothing in what a night has made."""

from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.io.history import ONE_DAY, Record
from jobs.recommend.stored import known_then, next_day
from schemas.pipeline_runs import FAILED
from tests.jobs.run_records import DAY, days, published, record

# Days a training goes back from the newest published one; None: a night.
STEPS = st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=20)


def accepted(rankers: list[dict[str, Any]], day: date) -> list[dict[str, Any]]:
    in_time = [one for one in rankers if one["trained_to"] <= day]
    return sorted(in_time, key=lambda one: (one["trained_to"], one["sequence"]), reverse=True)


def in_force(rankers: list[dict[str, Any]], day: date) -> dict[str, Any] | None:
    return known_then(accepted(rankers, day), day)  # type: ignore[arg-type, return-value]


@settings(deadline=None)
@given(STEPS)
def test_a_rerun_takes_the_ranker_that_its_night_took(steps):
    ordered: list[Record] = [published(0)]
    rankers: list[dict[str, Any]] = []
    newest, taken = DAY, dict[date, dict[str, Any]]()
    for number, back in enumerate(steps, start=1):
        if back is None:
            newest += ONE_DAY
            if found := in_force(rankers, newest):
                taken[newest] = found
            ordered.append(published(number, days((newest - DAY).days)))
        else:
            ranker = {"trained_to": newest - back * ONE_DAY, "sequence": number}
            rankers.append(ranker | {"in_force_from": next_day(ordered)})
        assert {day: in_force(rankers, day) for day in taken} == taken


def test_a_new_ranker_is_in_force_from_the_next_night_on():
    old = {"trained_to": DAY, "sequence": 1, "in_force_from": DAY + ONE_DAY}
    new = {"trained_to": DAY, "sequence": 2, "in_force_from": DAY + 3 * ONE_DAY}
    assert [in_force([old, new], DAY + n * ONE_DAY) for n in (-1, 0, 2, 3)] == [None, old, old, new]


def test_a_night_that_is_not_published_yet_has_made_its_lists():
    made = [record("recommend_items", of=days(1), minute=2), record("recommend_items", FAILED, days(2), 3)]
    assert next_day([published(1), *made]) == days(2).first
