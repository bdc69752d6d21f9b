"""The truth about the users of a demo log is consistent, and applies when it says."""

from collections import Counter
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from jobs.demo.people import User
from jobs.demo.words import load_domain
from tests.jobs.demo.reading import DAYS, START, USERS, topics_of, truth_of


def test_truth_is_consistent(logs: Path) -> None:
    truth, topics = truth_of(logs), set(topics_of(logs).values())
    assert len(truth) == USERS and topics == set(load_domain("shop").topics)
    for user in truth.values():
        for mixture in (user["before"], user["after"], user["evening"], user["with_family"]):
            if mixture is not None:
                assert sum(mixture.values()) == pytest.approx(1, abs=1e-12)
                assert set(mixture) <= topics - {user.get("dislikes")}
        main_topics = [{t for t, w in user[key].items() if w > 0.1} for key in ("before", "after")]
        assert all(1 <= len(topics) <= 3 for topics in main_topics)
        if user["change_date"] is None:
            assert user["before"] == user["after"]
        else:
            assert START < date.fromisoformat(user["change_date"]) < START + timedelta(days=DAYS)
            assert not main_topics[0] & main_topics[1]
    changes = Counter(user["change_date"] for user in truth.values())
    assert changes[None] == USERS // 5 and len(changes) > 5
    assert 0 < sum("dislikes" in user for user in truth.values()) < USERS / 5
    assert 0 < sum(user["evening"] is not None for user in truth.values()) < USERS / 2


def test_change_comes_at_utc_midnight_of_the_change_date() -> None:
    change = date(2025, 3, 12)
    user = User("u1", {"old": 1.0}, {"new": 1.0}, change, None, None, None, 540, False)
    zone = timezone(timedelta(hours=9))
    assert user.mixture(datetime(2025, 3, 12, 8, 59, tzinfo=zone), []) == user.before
    assert user.mixture(datetime(2025, 3, 12, 9, 0, tzinfo=zone), []) == user.after
