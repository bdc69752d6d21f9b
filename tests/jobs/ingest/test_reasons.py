"""Hostile and malformed records, one file each, and their fates: stored, or quarantined with a reason.

The day is ingested once, through Spark and Delta, and read with the deltalake package alone.
"""

import json
from datetime import UTC, datetime

import pytest

from jobs import ingest_events
from jobs.ingest.reasons import REASONS
from schemas.settings import Settings
from tests.e2e.tables import call, rows_of
from tests.jobs.ingest.days import counts_of_newest
from tests.jobs.records import DAY, ROWS, as_json, fated, mapping_of, write_day


def line(**fields) -> bytes:
    """A good event with some fields replaced, or left out where they are None."""
    event = {"user_id": "u1", "event_ts": f"{DAY}T10:00:00Z", "event_type": "view", "item_id": "S1"} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)  # type: ignore[misc]


# Records that write one moment in several ways have devices of their own: equal ones would be repetitions.
# Name, content of the file, and the fate: a reason, or fields of the one stored event.
HOSTILE: list[tuple[str, bytes, str | dict]] = [
    # ids are text, whatever it is
    (
        "sql_user",
        line(user_id="'; DROP TABLE behavior_events; --"),
        {"user_id": "'; DROP TABLE behavior_events; --"},
    ),
    ("path_user", line(user_id="../../etc/passwd"), {"user_id": "../../etc/passwd"}),
    ("lookup_user", line(user_id="${jndi:ldap://x/a}"), {"user_id": "${jndi:ldap://x/a}"}),
    ("quotes_in_item", line(item_id="`a` \"b\" 'c' \\"), {"item_id": "`a` \"b\" 'c' \\"}),
    ("sql_event_id", line(event_id="1 OR 1=1"), {"event_id": "1 OR 1=1"}),
    ("leading_zeros", line(user_id="007"), {"user_id": "007"}),
    ("number_as_id", line(user_id=12345678901234567890), {"user_id": "12345678901234567890"}),
    ("emoji_user", line(user_id="👩‍👩‍👧"), {"user_id": "👩‍👩‍👧"}),
    ("right_to_left_user", line(user_id="a\u202eb"), {"user_id": "a\u202eb"}),
    ("surrogate_in_id", line(user_id="a\ud800b"), "control_characters"),
    ("long_user", line(user_id="u" * 10_240), "over_long"),
    ("long_event_id", line(event_id="e" * 10_240), "over_long"),
    ("long_item", line(item_id="i" * 10_240), "over_long"),
    ("nul_in_user", line(user_id="a\0b"), "control_characters"),
    ("tab_in_user", line(user_id="a\tb"), "control_characters"),
    ("line_end_in_event_id", line(event_id="a\nb"), "control_characters"),
    ("c1_control_in_item", line(item_id="a\x9bb"), "control_characters"),
    ("zero_width_space_in_user", line(user_id="a\u200bb"), "control_characters"),
    ("lost_letter_in_user", line(user_id="Z\ufffd"), "control_characters"),
    ("nul_in_place", line(place="a\0b"), "control_characters"),
    ("escape_in_extra", line(extra={"a": "\x1b[2J"}), "control_characters"),
    ("five_megabytes_of_extra", line(extra={"a": "x" * 5_000_000}), "over_long"),
    (
        "key_twice_in_extra",
        line(extra={"a": 1}).replace(b'"a": 1', b'"a": 1, "b": 3, "a": 2'),
        {"extra": [("a", "2"), ("b", "3")]},
    ),
    (
        "key_twice_in_attributes",
        line(user_id="u9", title="T", attributes={"a": 1}).replace(b'"a": 1', b'"a": 1, "a": 2'),
        {"text": "T"},
    ),
    ("reserved_event_id", line(event_id="~abc"), "reserved_id"),
    ("no_user", line(user_id=None), "missing_user"),
    ("empty_user", line(user_id=""), "missing_user"),
    ("blank_user", line(user_id="   "), "missing_user"),
    ("null_user", line().replace(b'"u1"', b"null"), "missing_user"),
    # texts
    ("sql_text", line(text='"); DELETE FROM items; /*'), {"text": '"); DELETE FROM items; /*'}),
    ("script_text", line(text="<script>alert(1)</script>"), {"text": "<script>alert(1)</script>"}),
    ("formula_text", line(text="=cmd|' /C calc'!A0"), {"text": "=cmd|' /C calc'!A0"}),
    ("right_to_left_text", line(text="\u200fשלום\u202e abc"), {"text": "\u200fשלום\u202e abc"}),
    ("surrogate_in_text", line(text="a\udfffb"), {"text": "a\ufffdb"}),
    ("white_space", line(text=" a\t\n b\u00a0\u3000c\x85 "), {"text": "a b c"}),
    ("decomposed", line(text="cafe\u0301"), {"text": "café"}),
    ("one_word_often", line(text="word " * 100_000), {"text": ("word " * 100_000).strip()}),
    ("five_megabytes", line(text="x" * 5_000_000), "over_long"),
    ("nul_in_text", line(text="a\0b"), {"text": "ab"}),
    ("backspace_in_text", line(text="很\b好"), {"text": "很好"}),
    ("byte_order_mark_in_text", line(text="\ufeffx\u200by"), {"text": "xy"}),
    ("escape_in_title", line(item_id="S7", title="\x1bTea"), {"text": "Tea"}),
    ("unseen_text_no_item", line(item_id=None, text="\u200b\ufeff\u200e"), "no_text_no_item"),
    ("blank_text_no_item", line(item_id=None, text=" \u00a0 "), "no_text_no_item"),
    ("no_text_no_item", line(item_id=None), "no_text_no_item"),
    ("blank_item_no_text", line(item_id=" "), "no_text_no_item"),
    # numbers
    ("nan_rating", line(rating=float("nan")), "bad_rating"),
    ("nan_rating_in_words", line(rating="NaN"), "bad_rating"),
    ("infinite_rating", line(rating=float("inf")), "bad_rating"),
    ("rating_above", line(rating=6), "bad_rating"),
    ("rating_below", line(rating=0), "bad_rating"),
    ("rating_in_words", line(rating="good"), "wrong_type"),
    ("list_for_a_number", line(value=[1]), "wrong_type"),
    ("text_for_a_list", line(companions="Ann"), "wrong_type"),
    ("infinite_value", line(value=float("inf")), "bad_number"),
    ("value_beyond_double", line().replace(b"}", b', "value": 1e999}'), "bad_number"),
    ("nan_latitude", line(lat=float("nan")), "bad_number"),
    # times
    ("year_1969", line(event_ts="1969-12-31T23:59:59Z"), "too_late"),
    ("year_0001", line(event_ts="0001-01-01T00:00:00Z"), "too_late"),
    ("year_9999", line(event_ts="9999-12-31T23:59:59Z"), "future"),
    ("year_99999", line(event_ts="99999-01-01T00:00:00Z"), "bad_time"),
    ("eight_days_late", line(event_ts="2025-03-24T23:59:59Z"), "too_late"),
    ("seven_days_late", line(event_ts="2025-03-25T00:00:00Z"), {"event_ts": at(2025, 3, 25)}),
    ("two_days_ahead", line(event_ts="2025-04-03T00:00:00Z"), "future"),
    ("one_day_ahead", line(event_ts="2025-04-02T23:59:59Z"), {"event_ts": at(2025, 4, 2, 23, 59, 59)}),
    (
        "clock_forward",
        line(event_ts="2025-03-30T02:30:00+01:00"),
        {"event_ts": at(2025, 3, 30, 1, 30), "utc_offset_min": 60},
    ),
    (
        "clock_back",
        line(event_ts="2025-04-01T02:30:00-03:30"),
        {"event_ts": at(2025, 4, 1, 6), "utc_offset_min": -210},
    ),
    (
        "leap_second",
        line(event_ts=f"{DAY}T23:59:60Z"),
        {"event_ts": at(2025, 4, 1, 23, 59, 59, 999_999), "utc_offset_min": 0},
    ),
    ("end_of_day", line(event_ts=f"{DAY}T24:00:00Z"), {"event_ts": at(2025, 4, 2)}),
    ("hour_alone", line(event_ts=f"{DAY}T10+02"), {"event_ts": at(2025, 4, 1, 8), "utc_offset_min": 120}),
    ("minus_sign", line(event_ts=f"{DAY}T10:00:00\u221202:00"), {"event_ts": at(2025, 4, 1, 12)}),
    (
        "zone_and_calendar",
        line(device="zone_and_calendar", event_ts=f"{DAY}T10:00:00+02:00[Europe/Paris][u-ca=iso8601]"),
        {"event_ts": at(2025, 4, 1, 8)},
    ),
    ("abbreviated_zone", line(event_ts=f"{DAY}T10:00:00 BST"), "bad_time"),
    ("digits_of_a_time", line(event_ts=20250401100000), "bad_time"),
    ("digits_of_a_time_without_seconds", line(event_ts="202504011000 "), "bad_time"),
    ("digits_with_a_fraction", line(event_ts="20250401100000.5"), "bad_time"),
    ("month_13", line(event_ts="2025-13-01T00:00:00Z"), "bad_time"),
    ("30_february", line(event_ts="2025-02-30T00:00:00Z"), "bad_time"),
    (
        "offset_without_colon",
        line(event_ts="2025-04-01T03:30:00-0330"),
        {"event_ts": at(2025, 4, 1, 7), "utc_offset_min": -210},
    ),
    ("no_offset", line(event_ts=f"{DAY}T10:00:00"), "bad_time"),
    ("time_of_day_alone", line(event_ts="12:30"), "bad_time"),
    ("offset_of_25_hours", line(event_ts=f"{DAY}T10:00:00+25:00"), "bad_time"),
    ("sql_time", line(event_ts="now()"), "bad_time"),
    ("no_time", line(event_ts=None), "bad_time"),
    ("negative_time", line(event_ts=-86400), "too_late"),
    (
        "seconds",
        line(device="seconds", event_ts=1743501600),
        {"event_ts": at(2025, 4, 1, 10), "utc_offset_min": None},
    ),
    ("seconds_with_fraction", line(event_ts=1743501600.25), {"event_ts": at(2025, 4, 1, 10, 0, 0, 250_000)}),
    (
        "milliseconds",
        line(device="milliseconds", event_ts=1743501600123),
        {"event_ts": at(2025, 4, 1, 10, 0, 0, 123_000)},
    ),
    (
        "microseconds",
        line(device="microseconds", event_ts=1743501600123456),
        {"event_ts": at(2025, 4, 1, 10, 0, 0, 123_456)},
    ),
    (
        "nanoseconds",
        line(device="nanoseconds", event_ts=1743501600123456789),
        {"event_ts": at(2025, 4, 1, 10, 0, 0, 123_456)},
    ),
    (
        "exponent",
        line().replace(f'"{DAY}T10:00:00Z"'.encode(), b"1.743501600123E9"),
        {"event_ts": at(2025, 4, 1, 10, 0, 0, 123_000)},
    ),
    (
        "exponent_as_text",
        line(device="exponent_as_text", event_ts="1.7435016e12"),
        {"event_ts": at(2025, 4, 1, 10)},
    ),
    (
        "blank_behind_seconds",
        line(device="blank_behind_seconds", event_ts="1743501600 "),
        {"event_ts": at(2025, 4, 1, 10)},
    ),
    # types
    ("no_type", line(event_type=None), "missing_type"),
    ("blank_type", line(event_type=" "), "missing_type"),
    ("own_type", line(event_type="waved"), {"event_type": "waved"}),
    ("retraction_of_nothing", line(event_type="retract"), "no_target"),
    # lines
    ("truncated_line", line()[:-5], "unreadable"),
    ("no_json", b"hello, world", "unreadable"),
    ("number_alone", b"5", "unreadable"),
    ("null_alone", b"null", "unreadable"),
    ("empty_array", b"[]", "unreadable"),
    ("empty_object", b"{}", "missing_user"),
    (
        "deep",
        line(extra=None).replace(b"}", b', "extra": ' + b'{"x":' * 5000 + b"1" + b"}" * 5000 + b"}"),
        "unreadable",
    ),
    ("raw_nul", line(text="a b").replace(b"a b", b"a\0b"), "unreadable"),
    ("broken_utf8", line(text="a b").replace(b"a b", b"a\xff\xfeb"), "unreadable"),
    ("key_twice", line().replace(b"}", b', "user_id": "u2"}'), {"user_id": "u2"}),
    ("byte_order_mark", b"\xef\xbb\xbf" + line(user_id="bom"), {"user_id": "bom"}),
    ("windows_line_end", line(device="tv") + b"\r\n\r\n", {"device": "tv"}),
    ("blank_lines", b"\n\n" + line(device="pad") + b"\n\n \n", {"device": "pad"}),
]


@pytest.fixture(scope="module")
def ingested(spark, tmp_path_factory):
    """The day's stored events, quarantined records, and the counts of its run."""
    root = tmp_path_factory.mktemp("hostile")
    # Each record in a file of its own, so that none can affect another.
    write_day(root / "logs", {f"{name}.jsonl": content for name, content, _ in HOSTILE})
    (root / "config.yaml").write_text("ingest: {max_bad_share: 1}\n", encoding="utf-8")
    call(spark, ingest_events, root / "w", str(root / "config.yaml"), "--logs", root / "logs", "--date", DAY)
    events, quarantined = (
        rows_of(str(root / "w"), name) for name in ("behavior_events", "quarantined_events")
    )
    return events, quarantined, counts_of_newest(str(root / "w"))


@pytest.mark.parametrize(
    ("name", "fate"), [(name, fate) for name, _, fate in HOSTILE], ids=[name for name, _, _ in HOSTILE]
)
def test_fate(ingested, name, fate):
    events, quarantined, _ = ingested
    file = f"dt={DAY}/{name}.jsonl"
    stored = [event for event in events if event["source_file"] == file]
    rejected = [record for record in quarantined if record["source_file"] == file]
    if isinstance(fate, str):
        assert [record["reason"] for record in rejected] == [fate] and not stored
        assert len(rejected[0]["raw"]) <= 2000 and rejected[0]["message"]
    else:
        assert not rejected and [{key: event[key] for key in fate} for event in stored] == [fate]


def test_nothing_is_lost_or_duplicated(ingested):
    events, quarantined, counts = ingested
    assert counts["read"] == len(HOSTILE) == len(events) + len(quarantined) + counts["duplicate"]
    assert counts["stored"] == len(events) and counts["quarantined"] == len(quarantined)
    assert counts["cleaned"] == 4


def test_types_that_the_settings_do_not_list_are_refused_on_demand(spark, tmp_path):
    write_day(tmp_path, {"a.jsonl": as_json([ROWS[0], ROWS[1] | {"what": "waved"}]).encode()})
    settings = Settings.model_validate({"ingest": {"unknown_types": "quarantine"}})
    rows = fated(spark, str(tmp_path), mapping_of("json"), settings).collect()
    assert sorted(row["reason"] or "" for row in rows) == ["", "unknown_type"]


def test_every_reason_is_met():
    met = {fate for _, _, fate in HOSTILE if isinstance(fate, str)}
    # The other two are met by test_fates.py and above.
    assert met | {"conflicting_id", "unknown_type"} == REASONS.keys()
