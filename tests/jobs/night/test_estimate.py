"""How long a dry run says that work takes."""

import pytest

from jobs.night.estimate import OVERHEAD_MINUTES, USUAL_SPEED, Work

SPEEDS = {"ingest_events": 100.0, "embed_texts": 10.0, "fold_profiles": 1000.0}


@pytest.mark.parametrize(
    ("work", "minutes"),
    [
        (Work(), 0),
        (Work(records=6_000), 1),
        (Work(texts=600), 1),
        (Work(events=60_000), 1),
        (Work(records=6_000, texts=1_200, events=60_000), 4),
    ],
)
def test_each_kind_of_work_takes_its_own_time(work, minutes):
    assert work.minutes(SPEEDS) == pytest.approx(OVERHEAD_MINUTES + minutes)


def test_every_kind_of_work_has_a_usual_speed():
    assert Work(1, 1, 1).minutes(USUAL_SPEED) > OVERHEAD_MINUTES
