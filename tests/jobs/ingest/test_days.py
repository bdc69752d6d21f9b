"""What the ingest leaves in the tables from day to day: refused days, hidden ids and texts, erased users, texts made by a mapping."""

import gzip
import json
import re
from datetime import date

import pytest
import yaml

from jobs import ingest_events, query_tables
from jobs.ingest.days import ingest_days
from jobs.io import delta
from jobs.io.messages import JobError
from jobs.io.runs import Run
from schemas import behavior_events, erased_users
from schemas.mapping import parse_mapping, shipped_mapping
from schemas.settings import Settings
from tests.e2e.tables import call, rows_of, version_of
from udfs.privacy import erased_user, key_id, keyed_user

FIRST, SECOND, THIRD = date(2025, 4, 1), date(2025, 4, 2), date(2025, 4, 3)
KEY = b"an old secret of sixteen bytes and more"


def event(day=FIRST, **fields):
    return {
        "user_id": "anneliese",
        "event_ts": f"{day}T10:00:00Z",
        "event_type": "view",
        "item_id": "S1",
    } | fields


def deliver(root, day, *events):
    folder = root / "logs" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    (folder / "_SUCCESS").touch()


@pytest.fixture
def ingest(spark, tmp_path):
    """Delivers a day and ingests it, under settings and a mapping of the test's own."""

    def run(day, *events, settings="{}", mapping=None):
        deliver(tmp_path, day, *events)
        (tmp_path / "config.yaml").write_text(settings, encoding="utf-8")
        more = []
        if mapping is not None:
            (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
            more = ["--mapping", tmp_path / "mapping.yaml"]
        call(
            spark,
            ingest_events,
            tmp_path / "w",
            str(tmp_path / "config.yaml"),
            "--logs",
            tmp_path / "logs",
            "--date",
            day,
            *more,
        )
        return rows_of(str(tmp_path / "w"), "behavior_events")

    return run


def test_a_day_that_is_mostly_unusable_is_refused(ingest, tmp_path, capsys):
    before = {row["event_id"] for row in ingest(FIRST, event(event_id="1"))}
    versions = {
        name: version_of(str(tmp_path / "w"), name)
        for name in ("behavior_events", "items", "quarantined_events")
    }
    with pytest.raises(
        JobError,
        match=r"2 of 3 records .* can't be used \(1 \w+, 1 \w+\), .*only quarantined_events was written",
    ):
        ingest(SECOND, event(SECOND, event_id="2"), event(SECOND, user_id=None), event(SECOND, event_ts=None))
    assert {row["event_id"] for row in rows_of(str(tmp_path / "w"), "behavior_events")} == before
    assert {row["reason"] for row in rows_of(str(tmp_path / "w"), "quarantined_events")} == {
        "missing_user",
        "bad_time",
    }
    after = {name: version_of(str(tmp_path / "w"), name) for name in versions}
    assert after == versions | {"quarantined_events": after["quarantined_events"]}
    # Nothing is published, and what was refused can be looked at all the same.
    looked = ["--warehouse", str(tmp_path / "w"), "SELECT reason FROM quarantined_events"]
    assert query_tables.main(looked) == 1 and query_tables.main(["--newest", *looked]) == 0
    assert "missing_user" in capsys.readouterr().out


def test_of_several_titles_the_last_counts_and_of_one_instant_that_of_the_greatest_id(ingest, tmp_path):
    early, late = f"{FIRST}T08:00:00Z", f"{FIRST}T09:00:00Z"
    told = [("9", early, "Z"), ("1", late, "A"), ("3", late, "B"), ("2", late, "C")]
    ingest(FIRST, *[event(event_id=id_, event_ts=time, title=title) for id_, time, title in told])
    assert [row["title"] for row in rows_of(str(tmp_path / "w"), "items")] == ["B"]


def test_a_changed_title_is_a_new_text_from_its_day_on(ingest, tmp_path):
    ingest(FIRST, event(event_id="1", title="Old  name"), event(event_id="2"))
    events = ingest(SECOND, event(SECOND, event_id="3", title="New name"), event(SECOND, event_id="4"))
    assert {row["event_id"]: row["text"] for row in events} == {
        "1": "Old name",
        "2": "Old name",
        "3": "New name",
        "4": "New name",
    }
    items = sorted(rows_of(str(tmp_path / "w"), "items"), key=lambda row: row["valid_from"])
    assert [(row["title"], row["first_seen_date"], row["valid_from"]) for row in items] == [
        ("Old  name", FIRST, FIRST), ("New name", FIRST, SECOND),
    ]  # fmt: skip


def test_texts_are_made_of_event_and_item_by_type(ingest, tmp_path):
    mapping = yaml.safe_load(shipped_mapping("canonical"))
    mapping["texts"] = {
        "review": "concat(item_title, ':\n', text)",
        "default": "if(place = 'home', concat('at home, ', item_text), NULL)",
    }
    review = event(event_id="1", event_type="review", text="cafe\u0301 was  fine", title="Kettle")
    events = ingest(FIRST, review, event(event_id="2", place="home"), event(event_id="3"), mapping=mapping)
    texts = {row["event_id"]: row["text"] for row in events}
    assert texts == {"1": "Kettle: café was fine", "2": "at home, Kettle", "3": "Kettle"}
    # Delivered a second time on another day, a text that was made of several is no conflict.
    again = ingest(SECOND, review, event(SECOND, event_id="4"), mapping=mapping)
    assert {row["event_id"] for row in again} == {"1", "2", "3", "4"}
    with pytest.raises(JobError, match="the mapping's texts do not fit"):
        ingest(
            THIRD,
            event(THIRD, event_id="5"),
            event(THIRD, user_id=None),
            mapping=mapping | {"texts": {"default": "no_such_column"}},
        )
    assert rows_of(str(tmp_path / "w"), "quarantined_events") == []


def test_what_is_private_is_hidden_before_it_is_stored(ingest, tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    settings = f"privacy: {{scrub_texts: true, user_ids: keyed, key_file: {tmp_path / 'key'}}}\ningest: {{max_bad_share: 1}}\n"
    private = event(event_id="1", text="mail anneliese@example.com", title="By anneliese@example.com")
    events = ingest(
        FIRST,
        private,
        event(user_id="evelyn", event_id="2", rating=9, text="evelyn@example.com"),
        settings=settings,
    )
    assert [(row["user_id"], row["text"]) for row in events] == [
        (keyed_user(KEY, "anneliese"), "mail [email]")
    ]
    everything = repr(
        [rows_of(str(tmp_path / "w"), name) for name in ("behavior_events", "quarantined_events", "items")]
    )
    assert "anneliese" not in everything and "evelyn" not in everything and "example.com" not in everything
    with pytest.raises(
        JobError,
        match=f"holds user ids keyed by key {key_id(KEY)}, and the settings ask for ids as they came",
    ):
        ingest(SECOND, event(SECOND, event_id="3"))
    (tmp_path / "key").write_bytes(b"another secret of sixteen bytes")
    with pytest.raises(JobError, match="the two never mix"):
        ingest(SECOND, event(SECOND, event_id="3"), settings=settings)
    (tmp_path / "key").unlink()
    with pytest.raises(JobError, match="can't be read"):
        ingest(SECOND, event(SECOND, event_id="3"), settings=settings)


def test_an_erased_user_does_not_come_back(spark, ingest, tmp_path, monkeypatch):
    gone = spark.createDataFrame([(erased_user(KEY, "anneliese"), FIRST)], "user_hmac string, date date")
    delta.append(spark, str(tmp_path / "w"), erased_users.TABLE, gone)
    with pytest.raises(JobError, match="need a secret key"):
        ingest(FIRST, event(event_id="1"))
    monkeypatch.setenv("NIGHTFOLD_KEY", KEY.decode())
    events = ingest(
        FIRST, event(event_id="1"), event(event_id="2", user_id="bob"), event(event_id="3", rating=77)
    )
    assert [row["user_id"] for row in events] == ["bob"]
    assert rows_of(str(tmp_path / "w"), "quarantined_events") == []
    counts = [
        dict(row["counts"])
        for row in rows_of(str(tmp_path / "w"), "pipeline_runs")
        if row["status"] == "done"
    ]
    assert counts[-1]["erased"] == 2 and counts[-1]["read"] == 1


def by_days(rows):
    return sorted((row["log_date"], row["text"]) for row in rows)


def test_equal_events_of_two_days_stay_whatever_day_is_run_again(ingest):
    ingest(FIRST, event(item_id="S1", text="a"))
    stored = by_days(ingest(SECOND, event(text="a"), event(text="a")))
    assert stored == [(FIRST, "a"), (SECOND, "a")]
    assert by_days(ingest(FIRST, event(text="a"))) == stored
    assert by_days(ingest(SECOND, event(text="a"), event(text="a"))) == stored


def test_what_a_corrected_day_takes_back_is_said_where_later_days_may_repeat_it(ingest, tmp_path, capsys):
    kept, moved = event(event_id="kept", text="a"), event(event_id="moved", text="b")
    ingest(FIRST, kept, moved)
    ingest(SECOND, moved)
    ingest(FIRST, kept)
    assert (
        "1 events that 2025-04-01..2025-04-01 held before are gone or changed; the days up to 2025-04-02 may"
        in capsys.readouterr().out
    )
    assert by_days(ingest(SECOND, moved)) == [(FIRST, "a"), (SECOND, "b")]
    ingest(FIRST, kept)
    assert "gone or changed" not in capsys.readouterr().out


def test_titles_hold_from_their_day_on_though_days_come_in_another_order(ingest):
    titles = {FIRST: "A", SECOND: "B", THIRD: "A"}
    for day in (SECOND, FIRST, THIRD):
        ingest(day, event(day, event_id=f"{day}", title=titles[day]))
    last = date(2025, 4, 4)
    blank = event(last, event_id="blank", title="\u00a0\t", item_id="S2", text="own")
    found = ingest(last, event(last, event_id="4"), blank)
    assert by_days(found) == [(FIRST, "A"), (SECOND, "B"), (THIRD, "A"), (last, "A"), (last, "own")]


FOURTH = date(2025, 4, 4)


def read_together(spark, root, days):
    """The events and items of a warehouse of its own that takes the days at once."""
    for day, events in days.items():
        deliver(root, day, *events)
    run, mapping = (
        Run("r", "ingest_events", min(days), max(days), "c"),
        parse_mapping(shipped_mapping("canonical"), "test"),
    )
    ingest_days(spark, str(root / "together"), Settings(), run, str(root / "logs"), mapping, list(days))
    return stored_in(str(root / "together"))


def stored_in(warehouse):
    return [sorted(map(repr, rows_of(warehouse, name))) for name in ("behavior_events", "items")]


def stale_texts(root):
    done = [row for row in rows_of(str(root / "w"), "pipeline_runs") if row["status"] == "done"]
    return dict(max(done, key=lambda row: row["ended"])["counts"]).get("stale_texts")


def test_a_title_that_comes_before_stored_days_says_which_to_ingest_again_and_that_heals(
    spark, ingest, tmp_path, capsys
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
    told = "2 events of later days would have another text, by what 2025-04-01..2025-04-01 calls their items: ingest 2025-04-02..2025-04-03"
    assert told in capsys.readouterr().out and stale_texts(tmp_path) == 2
    together = read_together(spark, tmp_path, days)
    assert stored_in(str(tmp_path / "w")) != together
    for day in days:
        ingest(day, *days[day])
    assert stored_in(str(tmp_path / "w")) == together
    capsys.readouterr()
    ingest(FIRST, *days[FIRST])
    assert "another text" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_title_put_into_an_older_day_holds_until_the_next_one(spark, ingest, tmp_path, capsys):
    days = {
        FIRST: [event(event_id="1", title="A")],
        SECOND: [event(SECOND, event_id="2")],
        # Says again what held before it, so that the table of items has no line of it.
        THIRD: [event(THIRD, event_id="3", title="A", text="own")],
        FOURTH: [event(FOURTH, event_id="4"), event(FOURTH, event_id="5", item_id="S2", title="C")],
        date(2025, 4, 5): [event(date(2025, 4, 5), event_id="6", item_id="S2")],
    }
    for day, events in days.items():
        ingest(day, *events)
    days[SECOND] += [
        event(SECOND, event_id="7", title="B"),
        event(SECOND, event_id="8", item_id="S2", title="D"),
    ]
    capsys.readouterr()
    ingest(SECOND, *days[SECOND])
    # S2 is called otherwise from the fourth day on, as it was.
    assert (
        "1 events of later days would have another text" in (told := capsys.readouterr().out)
        and "ingest 2025-04-03..2025-04-04" in told
    )
    for day in (THIRD, FOURTH):
        ingest(day, *days[day])
    assert stored_in(str(tmp_path / "w")) == read_together(spark, tmp_path, days)


def test_a_title_that_is_taken_back_leaves_later_events_without_their_text(ingest, capsys):
    ingest(FIRST, event(event_id="1", title="A"))
    ingest(SECOND, event(SECOND, event_id="2"))
    ingest(FIRST, event(event_id="1"))
    assert "1 events of later days would have another text" in capsys.readouterr().out
    assert by_days(ingest(SECOND, event(SECOND, event_id="2"))) == [(FIRST, None), (SECOND, None)]


def test_of_texts_that_a_mapping_makes_every_event_of_a_renamed_item_counts(ingest, tmp_path):
    mapping = yaml.safe_load(shipped_mapping("canonical")) | {
        "texts": {"review": "concat(item_title, ': ', text)"}
    }
    later = (
        event(SECOND, event_id="2", event_type="review", text="fine"),
        event(SECOND, event_id="3", item_id="S2", text="own"),
    )
    ingest(SECOND, *later, mapping=mapping)
    ingest(FIRST, event(event_id="1", title="Kettle"), mapping=mapping)
    assert stale_texts(tmp_path) == 1
    assert (SECOND, "Kettle: fine") in by_days(ingest(SECOND, *later, mapping=mapping))


def test_an_ingest_killed_before_its_events_has_told_of_later_texts(ingest, monkeypatch, capsys):
    def dies(spark, warehouse, table, rows, predicate, real=delta.overwrite_where):
        if table.name == "behavior_events":
            raise KeyboardInterrupt
        real(spark, warehouse, table, rows, predicate)

    ingest(SECOND, event(SECOND, event_id="2"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(delta, "overwrite_where", dies)
        ingest(FIRST, event(event_id="1", title="Kettle"))
    # The next run finds the items as they are to be.
    assert "1 events of later days would have another text" in capsys.readouterr().out


def test_a_title_of_white_space_names_nothing(ingest, tmp_path):
    ingest(
        FIRST,
        event(event_id="1", title="Kettle"),
        event(event_id="2", event_ts=f"{FIRST}T11:00:00Z", title="\u00a0\t"),
    )
    assert [row["title"] for row in rows_of(str(tmp_path / "w"), "items")] == ["Kettle"]


CATALOGUE = {
    "source": {"format": "json", "columns": {"id": "string", "name": "string", "price": "int"}},
    "fields": {"item_id": "id", "title": "name", "attributes": "map('price', cast(price as string))"},
}


def catalogue(root, day, content):
    folder = root / "logs" / "items" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c.jsonl.gz").write_bytes(content)


def test_rows_of_a_catalogue_that_are_of_no_use_are_counted(ingest, tmp_path):
    good = [{"id": "S1", "name": "Kettle", "price": 3}, {"id": "S2", "name": "Cup"}]
    bad = [
        {"id": "S1"},
        {"name": "no id"},
        {"id": " ", "name": "blank"},
        {"id": "S1", "name": "a\0b"},
        {"id": "S1", "name": "x", "price": "cheap"},
    ]
    lines = [json.dumps(row) for row in good + bad] + ['{"id": "S1", "na', "nothing"]
    catalogue(tmp_path, FIRST, gzip.compress("\n".join(lines).encode()))
    events = ingest(
        FIRST,
        event(event_id="1", title="By the event"),
        mapping=yaml.safe_load(shipped_mapping("canonical")) | {"items": CATALOGUE},
    )
    assert [row["text"] for row in events] == ["Kettle"]
    done = [
        dict(row["counts"])
        for row in rows_of(str(tmp_path / "w"), "pipeline_runs")
        if row["status"] == "done"
    ]
    assert (done[-1]["items_read"], done[-1]["items_unusable"]) == (9, 7)


def test_a_catalogue_that_is_damaged_or_does_not_fit_stops_the_day_before_anything_is_written(
    ingest, tmp_path
):
    mapping = yaml.safe_load(shipped_mapping("canonical"))
    whole = gzip.compress(b'{"id": "S1", "name": "Kettle"}\n' * 5000)
    catalogue(tmp_path, FIRST, whole[:-30])
    with pytest.raises(JobError, match=r"c.jsonl.gz can't be unpacked"):
        ingest(FIRST, event(), event(user_id=None), mapping=mapping | {"items": CATALOGUE})
    catalogue(tmp_path, FIRST, whole)
    with pytest.raises(JobError, match=r"the mapping's items do not fit the catalogue: .*no_such"):
        ingest(
            FIRST,
            event(),
            mapping=mapping | {"items": CATALOGUE | {"fields": {"item_id": "id", "title": "no_such"}}},
        )
    assert not (tmp_path / "w" / "quarantined_events").exists()


@pytest.mark.parametrize("user_ids", ["plain", "keyed"])
def test_rejected_records_give_nothing_private_away(ingest, tmp_path, user_ids):
    (tmp_path / "key").write_bytes(KEY)
    settings = f"privacy: {{scrub_texts: true, user_ids: {user_ids}, key_file: {tmp_path / 'key'}}}\ningest: {{max_bad_share: 1}}\n"
    private = {"title": "By anna@example.com", "text": "mail anna@example.com"}
    cut = {"text": "x" * 1970 + " anneliese.schmidt@example.com", "rating": 9}
    long = {"text": "anna@example.com " * 5_000, "rating": 9}
    events = [
        event(user_id="u", **fields)
        for fields in ({"event_id": "1", "value": 1} | private, {"event_id": "1"} | private, cut, long)
    ]
    deliver(tmp_path, FIRST, *events)
    with (tmp_path / "logs" / f"dt={FIRST}" / "b.jsonl").open("w") as file:
        file.write(
            '{"text": "anna\\u0040example.com", "rating": 9, "user_id": "u", "event_ts": "2025-04-01T10:00:00Z", "event_type": "view"}\n'
        )
        file.write('{"torn": "anna\\u0040example.com", "user_id": "u"')
    ingest(FIRST, *events, settings=settings)
    rejected = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert sorted(row["reason"] for row in rejected) == ["bad_rating"] * 3 + ["conflicting_id", "unreadable"]
    assert not re.search("anna|anneliese|example", repr(rejected))
    assert user_ids == "plain" or {row["raw"] for row in rejected} == {""}


def test_a_job_killed_before_it_noted_the_key_does_not_lock_the_warehouse(spark, ingest, tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    delta.open_table(spark, str(tmp_path / "w"), behavior_events.TABLE)
    events = ingest(
        FIRST,
        event(event_id="1", text="a"),
        settings=f"privacy: {{user_ids: keyed, key_file: {tmp_path / 'key'}}}\n",
    )
    assert [row["user_id"] for row in events] == [keyed_user(KEY, "anneliese")]


@pytest.mark.parametrize(
    "texts", [{}, pytest.param({"default": "concat('about ', item_title)"}, marks=pytest.mark.slow)]
)
def test_nights_and_days_read_together_decide_alike(spark, ingest, tmp_path, texts):
    mapping = parse_mapping(
        yaml.safe_dump(yaml.safe_load(shipped_mapping("canonical")) | {"texts": texts}), "test"
    )
    shoes, boots = {"event_id": "X", "title": "Shoes"}, {"event_id": "Y", "item_id": "S2", "title": "Boots"}
    days = {
        FIRST: [
            event(**shoes),
            event(**boots),
            event(event_id="Z", text="good"),
            event(event_id="V", text="one"),
            event(event_id="V", text="two"),
        ],
        SECOND: [
            event(event_id="X", text="Shoes"),
            event(event_id="Y", item_id="S2", text="Hats"),
            event(event_id="Z", text="terrible"),
        ],
    }
    for day, events in days.items():
        deliver(tmp_path, day, *events)
    found = []
    for way in ([[FIRST], [SECOND]], [[FIRST, SECOND]]):
        warehouse = str(tmp_path / f"w{len(way)}")
        for part in way:
            run = Run("r", "ingest_events", part[0], part[-1], "c")
            settings = Settings.model_validate({"ingest": {"max_bad_share": 1}})
            ingest_days(spark, warehouse, settings, run, str(tmp_path / "logs"), mapping, part)
        rejected = sorted(
            (row["log_date"], row["reason"], json.loads(row["raw"])["event_id"])
            for row in rows_of(warehouse, "quarantined_events")
        )
        found.append((by_days(rows_of(warehouse, "behavior_events")), rejected))
    assert found[0] == found[1]
    across = [] if texts else [(SECOND, "conflicting_id", "Y"), (SECOND, "conflicting_id", "Z")]
    assert found[0][1] == [(FIRST, "conflicting_id", "V"), *across]
