"""What the ingest leaves in the tables from day to day: refused days, hidden ids and texts, erased users, texts made by a mapping."""

import json
from datetime import date

import pytest
import yaml

from jobs import ingest_events
from jobs.io import delta
from jobs.io.shell import JobError
from schemas import erased_users
from schemas.mapping import shipped_mapping
from tests.e2e.tables import call, rows_of, version_of
from udfs.privacy import erased_user, key_id, keyed_user

FIRST, SECOND = date(2025, 4, 1), date(2025, 4, 2)
KEY = b"an old secret of sixteen bytes and more"


def event(day=FIRST, **fields):
    return {"user_id": "anneliese", "event_ts": f"{day}T10:00:00Z", "event_type": "view", "item_id": "S1"} | fields


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
        call(spark, ingest_events, tmp_path / "w", str(tmp_path / "config.yaml"), "--logs", tmp_path / "logs", "--date", day, *more)
        return rows_of(str(tmp_path / "w"), "behavior_events")

    return run


def test_a_day_that_is_mostly_unusable_is_refused(ingest, tmp_path):
    before = {row["event_id"] for row in ingest(FIRST, event(event_id="1"))}
    versions = {name: version_of(str(tmp_path / "w"), name) for name in ("behavior_events", "items", "quarantined_events")}
    with pytest.raises(JobError, match=r"2 of 3 records of 2025-04-02 can't be used.*only quarantined_events was written"):
        ingest(SECOND, event(SECOND, event_id="2"), event(SECOND, user_id=None), event(SECOND, event_ts=None))
    assert {row["event_id"] for row in rows_of(str(tmp_path / "w"), "behavior_events")} == before
    assert {row["reason"] for row in rows_of(str(tmp_path / "w"), "quarantined_events")} == {"missing_user", "bad_time"}
    after = {name: version_of(str(tmp_path / "w"), name) for name in versions}
    assert after == versions | {"quarantined_events": after["quarantined_events"]}


def test_of_several_titles_the_last_counts_and_of_one_instant_that_of_the_greatest_id(ingest, tmp_path):
    early, late = f"{FIRST}T08:00:00Z", f"{FIRST}T09:00:00Z"
    told = [("9", early, "Z"), ("1", late, "A"), ("3", late, "B"), ("2", late, "C")]
    ingest(FIRST, *[event(event_id=id_, event_ts=time, title=title) for id_, time, title in told])
    assert [row["title"] for row in rows_of(str(tmp_path / "w"), "items")] == ["B"]


def test_a_changed_title_is_a_new_text_from_its_day_on(ingest, tmp_path):
    ingest(FIRST, event(event_id="1", title="Old  name"), event(event_id="2"))
    events = ingest(SECOND, event(SECOND, event_id="3", title="New name"), event(SECOND, event_id="4"))
    assert {row["event_id"]: row["text"] for row in events} == {"1": "Old name", "2": "Old name", "3": "New name", "4": "New name"}
    items = sorted(rows_of(str(tmp_path / "w"), "items"), key=lambda row: row["valid_from"])
    assert [(row["title"], row["first_seen_date"], row["valid_from"]) for row in items] == [
        ("Old  name", FIRST, FIRST), ("New name", FIRST, SECOND),
    ]  # fmt: skip


def test_texts_are_made_of_event_and_item_by_type(ingest):
    mapping = yaml.safe_load(shipped_mapping("canonical"))
    mapping["texts"] = {"review": "concat(item_title, ':\n', text)", "default": "if(place = 'home', concat('at home, ', item_text), NULL)"}
    review = event(event_id="1", event_type="review", text="cafe\u0301 was  fine", title="Kettle")
    events = ingest(FIRST, review, event(event_id="2", place="home"), event(event_id="3"), mapping=mapping)
    texts = {row["event_id"]: row["text"] for row in events}
    assert texts == {"1": "Kettle: café was fine", "2": "at home, Kettle", "3": "Kettle"}
    # Delivered a second time on another day, a text that was made of several is no conflict.
    again = ingest(SECOND, review, event(SECOND, event_id="4"), mapping=mapping)
    assert {row["event_id"] for row in again} == {"1", "2", "3", "4"}
    with pytest.raises(JobError, match="the mapping's texts do not fit"):
        ingest(SECOND, event(SECOND, event_id="5"), mapping=mapping | {"texts": {"default": "no_such_column"}})


def test_what_is_private_is_hidden_before_it_is_stored(ingest, tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    settings = f"privacy: {{scrub_texts: true, user_ids: keyed, key_file: {tmp_path / 'key'}}}\ningest: {{max_bad_share: 1}}\n"
    private = event(event_id="1", text="mail anneliese@example.com", title="By anneliese@example.com")
    events = ingest(FIRST, private, event(user_id="evelyn", event_id="2", rating=9, text="evelyn@example.com"), settings=settings)
    assert [(row["user_id"], row["text"]) for row in events] == [(keyed_user(KEY, "anneliese"), "mail [email]")]
    everything = repr([rows_of(str(tmp_path / "w"), name) for name in ("behavior_events", "quarantined_events", "items")])
    assert "anneliese" not in everything and "evelyn" not in everything and "example.com" not in everything
    with pytest.raises(JobError, match=f"holds user ids keyed by key {key_id(KEY)}, and the settings ask for ids as they came"):
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
    events = ingest(FIRST, event(event_id="1"), event(event_id="2", user_id="bob"), event(event_id="3", rating=77))
    assert [row["user_id"] for row in events] == ["bob"]
    assert rows_of(str(tmp_path / "w"), "quarantined_events") == []
    counts = [dict(row["counts"]) for row in rows_of(str(tmp_path / "w"), "pipeline_runs") if row["status"] == "done"]
    assert counts[-1]["erased"] == 2 and counts[-1]["read"] == 1
