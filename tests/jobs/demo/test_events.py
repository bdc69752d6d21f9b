"""The events of a demo log have valid fields and follow the truth about their user."""

from collections import Counter, defaultdict
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

from jobs.demo.people import is_evening_or_weekend
from jobs.demo.words import load_reviews
from tests.jobs.demo.reading import topics_of, truth_of

TYPES = {"view", "click", "cart", "purchase", "rating", "review", "retract"}


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
    closings = load_reviews().closings
    for event in reviews:
        tone = "good" if event["rating"] > 3 else "mixed" if event["rating"] == 3 else "bad"
        assert event["text"].endswith(tuple(closings[tone]))


def test_retractions_name_an_earlier_event_of_the_same_user(events: list[dict[str, Any]]) -> None:
    by_id = {event["event_id"]: event for event in events}
    retractions = [event for event in events if event["event_type"] == "retract"]
    assert len(retractions) > 5
    for event in retractions:
        target = by_id[event["retracts_event_id"]]
        assert target["user_id"] == event["user_id"] and target["event_type"] != "retract"
        assert timedelta(0) < event["when"] - target["when"] <= timedelta(days=3)


def test_events_follow_the_truth_of_their_moment(logs: Path, events: list[dict[str, Any]]) -> None:
    """Topic counts over all users match the expected ones in all four situations.

    After a change the former main topics are rare.
    """
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
        # By rank in the user's own weights: counted by name, the topics of different users would cancel out.
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
    for situation, by_rank in expected.items():
        for rank, mean in by_rank.items():
            assert abs(found[situation][rank] - mean) < 4 * max(mean, 1) ** 0.5, (
                rank,
                mean,
                found[situation][rank],
            )
        assert sum(found[situation].values()) > 150
    assert sum(in_old_main) < 0.1 * len(in_old_main)


def test_disliked_topics_are_only_rated_with_one_or_two_stars(
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
