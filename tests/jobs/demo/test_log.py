"""A user's part of a demo log depends on the seed, the domain and the user's number only."""

from datetime import date, timedelta

from jobs.demo.log import make_log, summary
from jobs.demo.words import load_domain

DAYS = [date(2025, 3, 3) + timedelta(days=i) for i in range(6)]


def test_more_users_change_no_users_events() -> None:
    few, more = (make_log(load_domain("shop"), DAYS, users, 7) for users in (3, 5))
    assert more.events[: len(few.events)] == few.events
    assert more.users[:3] == few.users


def test_domains_draw_different_users() -> None:
    shop, video = (make_log(load_domain(name), DAYS, 10, 7) for name in ("shop", "video"))
    assert [user.utc_offset_min for user in shop.users] != [user.utc_offset_min for user in video.users]


def test_summary_counts_events_and_lines() -> None:
    log = make_log(load_domain("shop"), DAYS, 3, 7)
    lines = sum(len(day.lines) for day in log.days.values())
    assert f"{len(log.events)} events in {lines} lines, including " in summary(log)
    assert summary(log).startswith("6 days (2025-03-03 to 2025-03-08), 3 users\n")
