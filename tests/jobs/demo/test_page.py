"""The demo's page shows the days around the largest move, with their causes, and the truth about the user."""

from datetime import date, timedelta

from jobs.demo.page import (
    PARTS,
    QUERIES,
    embedding_lines,
    list_lines,
    profile_lines,
    query_lines,
    table_lines,
    truth_lines,
)

FIRST = date(2025, 3, 1)


def day(number: int, drift: float | None, text: str | None = None) -> dict[str, object]:
    cause = {"event_type": "click", "text": text, "weight": 0.25} if text else None
    return {"as_of_date": FIRST + timedelta(days=number), "event_count": 7, "drift": drift, "cause": cause}


def test_the_longest_bar_is_the_largest_drift() -> None:
    head, *lines = profile_lines([day(0, None), day(1, 0.2, "tea"), day(2, 0.1)], FIRST + timedelta(days=1))
    assert head.startswith("  day        events  drift")
    assert [line.count("█") for line in lines] == [0, 24, 12]
    assert lines[1].startswith("  2025-03-02      7  0.200 ") and lines[1].endswith(" click 'tea' 25%")


def test_without_drift_there_are_no_bars() -> None:
    assert "█" not in "".join(profile_lines([day(0, None), day(1, 0.0)], FIRST))


def test_twelve_days_around_the_turn_are_shown() -> None:
    days = [day(number, 0.1) for number in range(30)]
    for turn, first in ((0, 0), (15, 9), (29, 18)):
        lines = profile_lines(days, FIRST + timedelta(days=turn))[1:]
        assert len(lines) == 12 and lines[0].startswith(f"  {FIRST + timedelta(days=first)}")


def test_a_long_text_is_cut() -> None:
    line = profile_lines([day(0, 0.1, "x" * 45)], FIRST)[1]
    assert f"'{'x' * 43}…'" in line


def test_an_item_has_its_parts_and_the_events_behind_it() -> None:
    parts = dict.fromkeys(PARTS, 0.0) | {"content": 0.25, "own": 0.5}
    item = {"rank": 1, "name": "x" * 31, "score": 0.75, **parts}
    cause = {"event_type": "click", "text": "tea"}
    head, *lines = list_lines([item | {"because": [cause]}, item | {"rank": 10, "because": []}])
    assert head.split() == ["item", "score", *PARTS]
    assert lines[0].split() == ["1", "x" * 29 + "…", "0.750", "0.250", "0.000", "0.000", "0.500", "0.000"]
    assert lines[1] == "     because of click 'tea'" and lines[2].startswith("  10 ") and len(lines) == 3


def test_truth_names_the_main_topics() -> None:
    truth = {
        "change_date": "2025-03-13",
        "before": {"tea": 0.3, "rest": 0.1, "art": 0.6},
        "after": {"sea": 0.9},
    }
    assert truth_lines(truth) == [
        "  Ground truth: on 2025-03-13 the interests changed from art and tea to sea."
    ]
    assert truth_lines(truth | {"change_date": None}) == [
        "  Ground truth: this user's interests never change."
    ]
    assert truth_lines(None) == []


def test_a_line_for_each_table_run_and_query() -> None:
    assert table_lines([("items", 3, 1234)])[1] == "  items                      3     1,234"
    counts = {"texts": 10, "embedded": 4, "reused": 6}
    runs = [{"from_date": FIRST, "date": last, "counts": counts} for last in (FIRST, date(2025, 3, 5))]
    lines = embedding_lines(runs)
    assert [line.split()[0] for line in lines] == ["2025-03-01", "2025-03-01..2025-03-05"]
    assert lines[0].split()[1:] == ["10", "texts", "4", "embedded", "6", "reused"]
    assert len(query_lines("w")) == 2 * len(QUERIES) == 6
    assert query_lines("w")[1].startswith('     make query WAREHOUSE=w SQL="SELECT ')
