"""The demo log says what its truth says: its files are recounted, and its users' events held against their mixtures."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jobs.demo.words import domain_names, load_domain, load_reviews
from jobs.make_demo_logs import User, is_evening_or_weekend, main

START, DAYS, USERS = date(2025, 3, 3), 20, 80
TYPES = {"view", "click", "cart", "purchase", "rating", "review", "retract"}


def make(folder: Path, *more: str) -> Path:
    assert main(["--logs", str(folder), "--days", str(DAYS), "--users", str(USERS), *more]) == 0
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines_of(logs: Path) -> Iterator[tuple[date, str]]:
    for path in sorted(logs.glob("dt=*/events.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield date.fromisoformat(path.parent.name.removeprefix("dt=")), line


def parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def time_of(record: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(record["event_ts"])
    except ValueError:
        return None


def good_events(logs: Path) -> list[dict[str, Any]]:
    """What an ingest should keep: readable, with user and time, in time, each event once; `when` is its local time."""
    kept: dict[str, dict[str, Any]] = {}
    for day, line in lines_of(logs):
        record = parsed(line)
        if (
            record
            and record.get("user_id")
            and (when := time_of(record))
            and (day - when.astimezone(UTC).date()).days <= 7
        ):
            kept.setdefault(record["event_id"], record | {"when": when})
    return list(kept.values())


def truth_of(logs: Path) -> dict[str, dict[str, Any]]:
    lines = (logs / "_truth" / "users.jsonl").read_text(encoding="utf-8").splitlines()
    return {user["user_id"]: user for user in map(json.loads, lines)}


def topics_of(logs: Path) -> dict[str, str]:
    lines = (logs / "_truth" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return {item["item_id"]: item["topic"] for item in map(json.loads, lines)}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "logs")


@pytest.fixture(scope="module")
def events(logs: Path) -> list[dict[str, Any]]:
    return good_events(logs)


def test_same_arguments_same_bytes(logs: Path, tmp_path: Path) -> None:
    assert files_of(make(tmp_path / "again")) == files_of(logs)


def test_another_seed_is_another_log(logs: Path, tmp_path: Path) -> None:
    assert files_of(make(tmp_path / "other", "--seed", "8")) != files_of(logs)


def test_more_users_change_no_users_truth(logs: Path, tmp_path: Path) -> None:
    more = truth_of(make(tmp_path / "more", "--users", str(USERS + 5)))
    assert len(more) == USERS + 5
    assert {user: more[user] for user in truth_of(logs)} == truth_of(logs)


def test_every_day_has_its_folder_and_marker(logs: Path) -> None:
    days = [START + timedelta(days=i) for i in range(DAYS)]
    assert sorted(path.name for path in logs.iterdir()) == ["_truth", *(f"dt={day}" for day in days)]
    for day in days:
        assert sorted(path.name for path in (logs / f"dt={day}").iterdir()) == ["_SUCCESS", "events.jsonl"]
        assert (logs / f"dt={day}" / "_SUCCESS").stat().st_size == 0


def test_planted_dirt_recounted_from_the_files(logs: Path) -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[str, str] = {}
    for day, line in lines_of(logs):
        counts, record = found[str(day)], parsed(line)
        counts["lines"] += 1
        if record is None:
            counts["torn"] += 1
            continue
        when = time_of(record)
        if not record.get("user_id"):
            counts["missing_user"] += 1
        elif when is None:
            counts["bad_time"] += 1
        else:
            lateness = (day - when.astimezone(UTC).date()).days
            assert lateness in range(6) or 8 <= lateness <= 20
            if record["event_id"] in seen:
                assert seen[record["event_id"]] == line and lateness > 0
                counts["double"] += 1
            elif lateness:
                counts["late" if lateness <= 5 else "too_late"] += 1
            counts["retractions"] += record["event_type"] == "retract"
            seen[record["event_id"]] = line
    planted = json.loads((logs / "_truth" / "dirt.json").read_text(encoding="utf-8"))
    assert {day: dict(+counts) for day, counts in found.items()} == {
        day: {kind: n for kind, n in counts.items() if n} for day, counts in planted["days"].items()
    }
    totals: Counter[str] = sum(found.values(), Counter())
    assert totals == planted["totals"]
    assert all(totals.values()) and len(totals) == 8
    dirt = sum(totals.values()) - totals["lines"] - totals["retractions"]
    assert 0.01 < dirt / totals["lines"] < 0.02


def test_fields_are_what_the_format_says(logs: Path, events: list[dict[str, Any]]) -> None:
    truth, topics = truth_of(logs), topics_of(logs)
    assert {event["event_type"] for event in events} == TYPES
    for event in events:
        assert event["when"].utcoffset() == timedelta(minutes=truth[event["user_id"]]["utc_offset_min"])
        assert None not in event.values() and "" not in event.values()
        about_item = event["event_type"] != "retract"
        assert ("item_id" in event) == ("title" in event) == ("attributes" in event) == about_item
        assert event.get("item_id") in (topics if about_item else [None])
        assert ("text" in event) == (event["event_type"] == "review")
        assert ("value" in event) == (event["event_type"] == "purchase")
        assert ("rating" in event) == (event["event_type"] in ("rating", "review"))
        assert event.get("rating", 1) in (1, 2, 3, 4, 5)
    for field in ("place", "companions", "extra"):
        assert 0 < sum(field in event for event in events) < len(events)


def test_reviews_agree_with_their_stars(events: list[dict[str, Any]]) -> None:
    reviews = [event for event in events if event["event_type"] == "review"]
    assert len({event["text"] for event in reviews}) > 0.9 * len(reviews) > 100
    for event in reviews:
        tone = "good" if event["rating"] > 3 else "mixed" if event["rating"] == 3 else "bad"
        assert event["text"].endswith(tuple(load_reviews().closings[tone]))


def test_retractions_name_an_earlier_event_of_the_same_user(events: list[dict[str, Any]]) -> None:
    by_id = {event["event_id"]: event for event in events}
    retractions = [event for event in events if event["event_type"] == "retract"]
    assert len(retractions) > 5
    for event in retractions:
        target = by_id[event["retracts_event_id"]]
        assert target["user_id"] == event["user_id"] and target["event_type"] != "retract"
        assert timedelta(0) < event["when"] - target["when"] <= timedelta(days=3)


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


def test_events_follow_the_truth_of_their_moment(logs: Path, events: list[dict[str, Any]]) -> None:
    """Expected and found events of each topic, over all users, in each of the four situations; and the old truth no longer holds."""
    truth, topics = truth_of(logs), topics_of(logs)
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    in_old_main = []
    for event in events:
        user = truth[event["user_id"]]
        topic = topics.get(event.get("item_id", ""))
        if topic is None or topic == user.get("dislikes"):
            continue
        changed = user["change_date"] and event["when"].astimezone(UTC).date() >= date.fromisoformat(
            user["change_date"]
        )
        situation = "after" if changed else "before"
        if user["evening"] and is_evening_or_weekend(event["when"]):
            situation = "evening"
        if user["with_family"] and "family" in event.get("companions", []):
            situation = "with_family"
        # Each user's own heaviest topics, by rank, so that the topics of different users do not cancel out.
        ranks = {
            t: f"{situation} {i}"
            for i, (t, _) in enumerate(sorted(user[situation].items(), key=lambda item: -item[1]))
        }
        for t, weight in user[situation].items():
            expected[situation][ranks[t]] += weight
        found[situation][ranks[topic]] += 1
        if situation == "after":
            in_old_main.append(user["before"].get(topic, 0) > 0.1)
    assert set(expected) == {"before", "after", "evening", "with_family"}
    for situation in expected:
        for rank, mean in expected[situation].items():
            assert abs(found[situation][rank] - mean) < 4 * max(mean, 1) ** 0.5, (
                rank,
                mean,
                found[situation][rank],
            )
        assert sum(found[situation].values()) > 150
    assert sum(in_old_main) < 0.1 * len(in_old_main)


def test_change_comes_at_utc_midnight_of_the_change_date() -> None:
    change = date(2025, 3, 12)
    user = User("u1", {"old": 1.0}, {"new": 1.0}, change, None, None, None, 540, False)
    zone = timezone(timedelta(hours=9))
    assert user.mixture(datetime(2025, 3, 12, 8, 59, tzinfo=zone), []) == user.before
    assert user.mixture(datetime(2025, 3, 12, 9, 0, tzinfo=zone), []) == user.after


def test_disliked_topics_get_one_or_two_stars_and_are_met_for_nothing_else(
    logs: Path, events: list[dict[str, Any]]
) -> None:
    truth, topics = truth_of(logs), topics_of(logs)
    disliked = [
        e
        for e in events
        if "dislikes" in truth[e["user_id"]]
        and topics.get(e.get("item_id", "")) == truth[e["user_id"]]["dislikes"]
    ]
    assert len(disliked) > 20
    assert all(event["rating"] in (1, 2) for event in disliked)


def test_evenings_are_busier_than_mornings(events: list[dict[str, Any]]) -> None:
    hours = Counter(event["when"].hour for event in events)
    assert sum(hours[h] for h in range(18, 23)) > 1.5 * sum(hours[h] for h in range(7, 12))


@pytest.mark.parametrize("domain", domain_names())
def test_every_domain_has_eight_topics_of_forty_items(domain: str, tmp_path: Path) -> None:
    logs = make(tmp_path / "logs", "--domain", domain, "--days", "3", "--users", "20")
    assert set(Counter(topics_of(logs).values()).values()) == {40} and len(set(topics_of(logs).values())) == 8
    titles = [
        json.loads(line)["title"]
        for line in (logs / "_truth" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(set(titles)) == 320 and all(title[0].isupper() or title[0].isdigit() for title in titles)
    texts = [event["text"] for event in good_events(logs) if "text" in event]
    assert texts and not any("{" in text or "  " in text for text in texts)


def test_smallest_log(tmp_path: Path) -> None:
    logs = make(tmp_path / "logs", "--days", "2", "--users", "1")
    assert sorted(path.name for path in logs.iterdir()) == ["_truth", "dt=2025-03-03", "dt=2025-03-04"]


@pytest.mark.parametrize(
    "bad", [["--days", "1"], ["--users", "0"], ["--seed", "-1"], ["--start", "0001-01-01"]]
)
def test_bad_arguments_are_refused_and_leave_nothing(
    bad: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--logs", str(tmp_path / "logs"), *bad]) == 2
    said = capsys.readouterr().err
    assert bad[0] in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_unknown_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--logs", str(tmp_path / "logs"), "--domain", "weather"])
    assert stop.value.code == 2 and not list(tmp_path.iterdir())


def test_existing_log_days_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dt=2020-01-01").mkdir()
    assert main(["--logs", str(tmp_path)]) == 2
    assert "already holds log days" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["dt=2020-01-01"]
