"""Item versions from events and catalogues: which title holds on which day, in any order of the days."""

import gzip
import json
from collections import Counter

import pytest

from jobs.ingest.reasons import ITEM_REASONS
from jobs.io.messages import JobError
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import (
    CATALOGUE,
    FIFTH,
    FIRST,
    FOURTH,
    SECOND,
    THIRD,
    by_days,
    canonical,
    catalogue,
    counts_of_newest,
    event,
    stored_in,
)

# ---- titles of events

TITLES = {FIRST: "A", SECOND: "B", THIRD: "A"}


@pytest.fixture(scope="module")
def titled(ingest_in, tmp_path_factory):
    """Four days, the first of them ingested after the second: the stored events and item versions.

    The items do not touch each other, and each test is about its own.
    """
    root = tmp_path_factory.mktemp("titled")
    early, late = f"{FIRST}T08:00:00Z", f"{FIRST}T09:00:00Z"
    several = [("9", early, "Z"), ("1", late, "A"), ("3", late, "B"), ("2", late, "C")]
    days = {day: [event(day, event_id=f"{day}", title=title)] for day, title in TITLES.items()}
    days[FIRST] += [event(item_id="several", event_id=n, event_ts=at, title=text) for n, at, text in several]
    days[FIRST] += [
        event(item_id="blank", event_id="5", title="Kettle"),
        event(item_id="blank", event_id="6", event_ts=f"{FIRST}T11:00:00Z", title="\u00a0\t"),
    ]
    days[THIRD] += [
        event(THIRD, item_id="changed", event_id="7", title="Old  name"),
        event(THIRD, item_id="changed", event_id="8"),
    ]
    days[FOURTH] = [
        event(FOURTH, event_id="4"),
        event(FOURTH, item_id="own", event_id="9b", title="\u00a0\t", text="own"),
        event(FOURTH, item_id="changed", event_id="10", title="New name", user_id="berta"),
        event(FOURTH, item_id="changed", event_id="11", title="New  name", user_id="carl"),
        event(FOURTH, item_id="changed", event_id="12"),
        event(FOURTH, item_id="changed", event_id="13", title="Third name"),
        event(FOURTH, item_id="changed", event_id="14", title="Third name", text="own"),
    ]
    # The second once more, as its first ingest could not know of the first.
    for day in (SECOND, FIRST, SECOND, THIRD, FOURTH):
        events = ingest_in(root, day, *days[day])
    return events, rows_of(str(root / "w"), "items")


def of_item(rows, item):
    return [row for row in rows if row["item_id"] == item]


@pytest.mark.slow
def test_of_a_users_titles_the_last_counts_and_at_one_instant_that_of_the_greatest_id(titled):
    _, items = titled
    assert [row["title"] for row in of_item(items, "several")] == ["B"]


def test_a_title_of_white_space_is_not_a_title(titled):
    _, items = titled
    assert [row["title"] for row in of_item(items, "blank")] == ["Kettle"]
    assert of_item(items, "own") == []


def test_a_title_of_most_users_is_a_new_text_from_its_day_on_and_others_are_their_events_own(titled):
    events, items = titled
    assert {row["event_id"]: row["text"] for row in of_item(events, "changed")} == {
        "7": "Old name",
        "8": "Old name",
        "10": "New name",
        "11": "New name",
        "12": "New name",
        "13": "Third name",
        "14": "own",
    }
    versions = sorted(of_item(items, "changed"), key=lambda row: row["valid_from"])
    assert [(row["title"], row["first_seen_date"], row["valid_from"]) for row in versions] == [
        ("Old  name", THIRD, THIRD),
        # Of two spellings the least.
        ("New  name", THIRD, FOURTH),
    ]


def test_titles_hold_from_their_day_on_in_whatever_order_days_arrive(titled):
    events, _ = titled
    found = of_item(events, "S1") + of_item(events, "own")
    assert by_days(found) == [(FIRST, "A"), (SECOND, "B"), (THIRD, "A"), (FOURTH, "A"), (FOURTH, "own")]


# ---- titles that change stored texts of later days


@pytest.mark.slow
def test_a_title_before_stored_days_or_withdrawn_says_which_to_ingest_again_and_that_repairs_them(
    ingest, read_together, tmp_path, capsys
):
    days = {
        FIRST: [event(event_id="1", title="Kettle")],
        SECOND: [event(SECOND, event_id="2"), event(SECOND, event_id="own", text="own")],
        THIRD: [
            event(THIRD, event_id="3"),
            event(THIRD, event_id="other", item_id="S2"),
            event(THIRD, event_id="back", event_type="retract", retracts_event_id="2"),
        ],
    }
    for day in (SECOND, THIRD):
        ingest(day, *days[day])
    assert "another text" not in capsys.readouterr().out
    ingest(FIRST, *days[FIRST])
    warning = (
        "2 events of later days would have another text, because 2025-04-01..2025-04-01 name their items "
        "differently: ingest 2025-04-02..2025-04-03 again, in order"
    )
    assert warning in capsys.readouterr().out
    assert counts_of_newest(str(tmp_path / "w"))["stale_texts"] == 2
    together = read_together(days)
    assert stored_in(str(tmp_path / "w")) != together
    for day in (SECOND, THIRD):  # as the warning says
        ingest(day, *days[day])
    assert stored_in(str(tmp_path / "w")) == together
    capsys.readouterr()
    ingest(FIRST, *days[FIRST])
    assert "another text" not in capsys.readouterr().out
    # Withdrawn again, the title leaves them without their text.
    ingest(FIRST, event(event_id="1"))
    assert "2 events of later days would have another text" in capsys.readouterr().out
    texts = {row["event_id"]: row["text"] for row in ingest(SECOND, *days[SECOND])}
    assert (texts["1"], texts["2"], texts["own"]) == (None, None, "own")


@pytest.mark.slow
def test_titles_added_to_an_older_day_hold_until_others_take_over(ingest, read_together, tmp_path, capsys):
    berta, carl, dora = ({"user_id": user} for user in ("berta", "carl", "dora"))
    days = {
        FIRST: [
            event(event_id="1", title="A"),
            event(event_id="s3", item_id="S3", title="E"),
        ],
        SECOND: [event(SECOND, event_id="2")],
        # Repeats the title in force, so that the table of items has no row of this day.
        THIRD: [event(THIRD, event_id="3", title="A", text="own")],
        FOURTH: [
            event(FOURTH, event_id="4"),
            event(FOURTH, event_id="5", item_id="S2", title="C"),
            event(FOURTH, event_id="6", item_id="S3", title="F", **berta),
            event(FOURTH, event_id="7", item_id="S3", title="F", **carl),
        ],
        FIFTH: [event(FIFTH, event_id="8", item_id="S2"), event(FIFTH, event_id="9", item_id="S3")],
    }
    for day, events in days.items():
        ingest(day, *events)
    days[SECOND] += [
        event(SECOND, event_id="10", title="B", **berta),
        event(SECOND, event_id="11", title="B", **carl),
        event(SECOND, event_id="12", item_id="S2", title="D", **berta),
        # One vote more for the name in force: then two for another do not replace it two days later.
        event(SECOND, event_id="13", item_id="S3", title="E", **dora),
    ]
    capsys.readouterr()
    ingest(SECOND, *days[SECOND])
    said = capsys.readouterr().out
    # Those of the three items that have no title of their own.
    assert "3 events of later days would have another text" in said
    assert "ingest 2025-04-03..2025-04-05 again, in order" in said
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["stale_texts"], counts["stale_names"]) == (3, 2)
    for day in (THIRD, FOURTH, FIFTH):
        ingest(day, *days[day])
    assert stored_in(str(tmp_path / "w")) == read_together(days)
    capsys.readouterr()
    for day, events in days.items():
        ingest(day, *events)
    assert "later days" not in capsys.readouterr().out


# ---- catalogues


def rejected_of_catalogue(root):
    """(log_date, source_file, reason, what raw holds) of the quarantined rows of catalogues, sorted."""
    rows = rows_of(str(root / "w"), "quarantined_events")
    kept = ("log_date", "source_file", "reason", "raw")
    return sorted(tuple(row[n] for n in kept) for row in rows if row["reason"] in ITEM_REASONS)


@pytest.mark.slow
def test_another_attribute_counts_where_a_facet_asks_for_attributes(ingest, tmp_path, capsys):
    dear = """fold: {facets: [{name: dear, where: "ITEM_ATTRIBUTES['price'] > 9"}]}"""
    given = {"mapping": canonical(items=CATALOGUE)}
    cheap, expensive = (gzip.compress(b'{"id": "S1", "name": "Kettle", "price": %d}' % p) for p in (3, 10))
    catalogue(tmp_path, FIRST, cheap)
    ingest(FIRST, event(event_id="1"), **given)
    ingest(SECOND, event(SECOND, event_id="2"), **given)
    counts = []
    for settings, content in (("{}", expensive), (dear, cheap), (dear, cheap)):
        catalogue(tmp_path, FIRST, content)
        capsys.readouterr()
        ingest(FIRST, event(event_id="1"), settings=settings, **given)
        counts.append(counts_of_newest(str(tmp_path / "w"))["stale_texts"])
    # The texts stay, and the third changes nothing.
    assert counts == [0, 1, 0]
    assert "would have another text" not in capsys.readouterr().out


def test_unusable_rows_of_a_catalogue_are_counted_and_kept_with_a_reason(ingest, tmp_path):
    good = [{"id": "S1", "name": "Kettle", "price": 3}, {"id": "S2", "name": "Cu\u200bp"}]
    bad = [
        {"id": "S1"},
        {"name": "no id"},
        {"id": " ", "name": "blank"},
        {"id": "S1\0", "name": "ab"},
        {"id": "S1", "name": "x", "price": "cheap"},
        {"id": "S" * 1500, "name": "anna@example.com"},
    ]
    lines = [json.dumps(row) for row in good + bad] + ['{"id": "S1", "na', "nothing"]
    catalogue(tmp_path, FIRST, gzip.compress("\n".join(lines).encode()))
    given = {"mapping": canonical(items=CATALOGUE), "settings": "privacy: {scrub_texts: true}"}
    # A catalogue's rows don't count into max_bad_share.
    events = ingest(FIRST, event(event_id="1"), **given)
    assert [row["text"] for row in events] == ["Kettle"]
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["items_read"], counts["items_unusable"], counts["items_cleaned"]) == (10, 8, 1)
    assert (counts["read"], counts["stored"], counts["quarantined"]) == (1, 1, 0)
    found = rejected_of_catalogue(tmp_path)
    assert {(day, file) for day, file, _, _ in found} == {(FIRST, f"items/dt={FIRST}/c.jsonl.gz")}
    reasons = Counter(reason for _, _, reason, _ in found)
    assert reasons == {"item_without_id": 2, "item_unreadable": 2} | dict.fromkeys(
        ITEM_REASONS.keys() - {"item_without_id", "item_unreadable", "item_bad_valid_from"}, 1
    )
    assert {r.replace("item", "items"): n for r, n in reasons.items()}.items() <= counts.items()
    raw = {reason: json.loads(raw) for _, _, reason, raw in found if reason != "item_unreadable"}
    assert raw["item_without_text"] == {"id": "S1"}
    assert raw["item_wrong_type"] == {"id": "S1", "name": "x", "not of its type": "price"}
    assert "anna" not in repr(found) and "[email]" in repr(found)


def test_rejected_rows_of_an_earlier_catalogue_are_of_the_first_day_and_stay_when_it_is_run_again(
    ingest, tmp_path
):
    catalogue(tmp_path, FIRST, gzip.compress(b'{"id": "S1"}\n' * 2 + b'{"id": "S1", "name": "Kettle"}\n'))
    for day in (SECOND, SECOND, THIRD):
        ingest(day, event(day, event_id=str(day)), mapping=canonical(items=CATALOGUE))
        found = rejected_of_catalogue(tmp_path)
        assert [(of_day, reason) for of_day, _, reason, _ in found] == [(SECOND, "item_without_text")] * 2
    rows = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert sorted(row["ordinal"] for row in rows) == [0, 1] and all(row["message"] for row in rows)


def test_a_corrupt_or_unfitting_catalogue_stops_the_day_before_anything_is_written(ingest, tmp_path):
    sound = gzip.compress(b'{"id": "S1", "name": "Kettle"}\n' * 5000)
    catalogue(tmp_path, FIRST, sound[:-30])
    with pytest.raises(JobError, match=r"c.jsonl.gz can't be decompressed"):
        ingest(FIRST, event(), event(user_id=None), mapping=canonical(items=CATALOGUE))
    catalogue(tmp_path, FIRST, sound)
    unfitting = CATALOGUE | {"fields": {"item_id": "id", "title": "no_such"}}
    with pytest.raises(JobError, match=r"the mapping's items do not fit the catalogue: .*no_such"):
        ingest(FIRST, event(), mapping=canonical(items=unfitting))
    assert not (tmp_path / "w" / "quarantined_events").exists()


@pytest.mark.slow
def test_rows_with_valid_from_count_from_that_day_or_their_delivery_in_nights_and_days_read_together(
    ingest, read_together, tmp_path
):
    deliveries = {
        FIRST: [
            ("S1", "Older", "2025-03-15"),
            ("S1", "Oldest", "2025-03-01"),
            ("S1", "New", str(THIRD)),
            ("S1", "Some day", "soon"),
            ("S2", "A", None),
            ("S2", "C", str(THIRD)),
            ("S3", "Over", str(THIRD)),
        ],
        SECOND: [("S2", "B", "2025-03-20"), ("S3", "Z", "")],
        THIRD: [("S3", "Under", "2025-03-20")],
    }
    names = ("id", "name", "since")
    for day, rows in deliveries.items():
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        catalogue(tmp_path, day, gzip.compress("\n".join(lines).encode()))
    columns = dict.fromkeys(names, "string")
    fields = {"item_id": "id", "title": "name", "valid_from": "since"}
    mapping = canonical(items={"source": {"format": "json", "columns": columns}, "fields": fields})
    days = {
        day: [event(day, event_id=f"{day} {item}", item_id=item) for item in ("S1", "S2", "S3")]
        for day in (FIRST, SECOND, THIRD)
    }
    for day in (*days, SECOND, THIRD):  # two of them once more
        events = ingest(day, *days[day], mapping=mapping)
    found = {item: [text for _, text in by_days(of_item(events, item))] for item in ("S1", "S2", "S3")}
    assert found == {"S1": ["Older", "Older", "New"], "S2": ["A", "B", "C"], "S3": [None, "Z", "Under"]}
    nights = stored_in(str(tmp_path / "w")), rejected_of_catalogue(tmp_path)
    assert [(day, reason) for day, _, reason, _ in nights[1]] == [(FIRST, "item_bad_valid_from")]
    assert nights[0] == read_together(days, mapping)


RICH = {
    "source": {"format": "json", "columns": {"id": "string", "name": "string", "words": "string"}},
    "fields": {"item_id": "id", "title": "name", "text": "words"},
}


def test_events_never_rename_what_a_catalogue_named_and_equal_titles_keep_its_text(
    ingest, read_together, tmp_path
):
    mapping = canonical(items=RICH)
    untitled = {"item_id": "S2"}
    days = {
        FIRST: [
            event(event_id="1", title="By an event"),
            event(event_id="2", title="Old", **untitled),
        ],
        SECOND: [
            event(SECOND, event_id="3", title=" Kettle "),
            *(event(SECOND, event_id=f"4{user}", user_id=user, title="Pan") for user in "abc"),
            event(SECOND, event_id="5"),
            event(SECOND, event_id="6", title="A cup", **untitled),
        ],
        THIRD: [
            *(event(THIRD, event_id=f"7{user}", user_id=user, title="Pan") for user in "abc"),
            event(THIRD, event_id="8"),
            event(THIRD, event_id="9", **untitled),
        ],
    }
    rows = {
        SECOND: [
            {"id": "S1", "name": "Kettle", "words": "A kettle of copper"},
            {"id": "S2", "words": "A text"},
        ],
        THIRD: [{"id": "S2", "name": "Mug"}],
    }
    for day, delivered in rows.items():
        catalogue(tmp_path, day, gzip.compress("\n".join(map(json.dumps, delivered)).encode()))
    for day in (*days, SECOND, THIRD):
        events = ingest(day, *days[day], mapping=mapping)
    texts = {row["event_id"]: row["text"] for row in events}
    assert texts == {
        "1": "By an event",
        "2": "Old",
        "3": "A kettle of copper",
        **dict.fromkeys(("4a", "4b", "4c", "7a", "7b", "7c"), "Pan"),
        "5": "A kettle of copper",
        # A catalogue's text without a title is the text of all.
        "6": "A text",
        "8": "A kettle of copper",
        "9": "Mug",
    }
    versions = [
        (row["item_id"], row["valid_from"], row["named_by"]) for row in rows_of(str(tmp_path / "w"), "items")
    ]
    assert sorted(versions) == [
        ("S1", FIRST, "events"),
        ("S1", SECOND, "catalogue"),
        ("S2", FIRST, "events"),
        ("S2", SECOND, "catalogue"),
        ("S2", THIRD, "catalogue"),
    ]
    assert stored_in(str(tmp_path / "w")) == read_together(days, mapping)
