"""Nothing private is stored: texts are scrubbed, user ids keyed, rejected records redacted."""

import re

import pytest

from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse
from schemas import behavior_events
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import FIRST, SECOND, counts_of_newest, deliver, event
from udfs.privacy import key_id, keyed_user
from udfs.text import NORMAL_FORM

KEY = b"an old secret of sixteen bytes and more"


@pytest.fixture
def key_file(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "key"


def test_private_data_is_redacted_before_it_is_stored(ingest, tmp_path, key_file):
    privacy = f"{{scrub_texts: true, user_ids: keyed, key_file: {key_file}}}"
    settings = f"privacy: {privacy}\ningest: {{max_bad_share: 1}}\n"
    private = event(event_id="1", text="mail anneliese@example.com", title="By anneliese@example.com")
    rejected = event(user_id="evelyn", event_id="2", rating=9, text="evelyn@example.com")
    events = ingest(FIRST, private, rejected, settings=settings)
    assert [(row["user_id"], row["text"]) for row in events] == [
        (keyed_user(KEY, "anneliese"), "mail [email]")
    ]
    tables = ("behavior_events", "quarantined_events", "items")
    everything = repr([rows_of(str(tmp_path / "w"), name) for name in tables])
    assert "anneliese" not in everything and "evelyn" not in everything and "example.com" not in everything

    later = event(SECOND, event_id="3")
    keyed = f"holds user ids keyed by key {key_id(KEY)}, and the settings ask for ids unchanged"
    with pytest.raises(JobError, match=keyed):
        ingest(SECOND, later)
    key_file.write_bytes(b"another secret of sixteen bytes")
    with pytest.raises(JobError, match="the two never mix"):
        ingest(SECOND, later, settings=settings)
    key_file.unlink()
    with pytest.raises(JobError, match="can't be read"):
        ingest(SECOND, later, settings=settings)


def test_unseen_characters_hide_nothing_private(ingest, tmp_path):
    hidden = event(event_id="1", text="mail ann\u200be@exam\bple.com", title="By ann\u2060e@example.com")
    events = ingest(FIRST, hidden, settings="privacy: {scrub_texts: true}")
    assert [row["text"] for row in events] == ["mail [email]"]
    assert [row["title"] for row in rows_of(str(tmp_path / "w"), "items")] == ["By [email]"]


def test_a_title_is_stored_as_it_is_seen_and_the_commit_names_the_form(spark, ingest, tmp_path):
    ingest(FIRST, event(event_id="1", title="\ufeffRunning\0 shoes  "))
    stored = rows_of(str(tmp_path / "w"), "items")
    assert [(row["title"], row["text"]) for row in stored] == [("Running shoes  ", "Running shoes")]
    assert counts_of_newest(str(tmp_path / "w"))["cleaned"] == 1
    noted = Warehouse(spark, str(tmp_path / "w")).content_note(behavior_events.TABLE)
    assert noted == {"normal_form": NORMAL_FORM}


def test_keyed_ids_need_a_key(ingest, monkeypatch):
    monkeypatch.delenv("NIGHTFOLD_KEY", raising=False)
    settings = "privacy: {user_ids: keyed}"
    with pytest.raises(JobError, match="need a secret key"):
        ingest(FIRST, event(event_id="1"), settings=settings)
    monkeypatch.setenv("NIGHTFOLD_KEY", KEY.decode())
    events = ingest(FIRST, event(event_id="1"), settings=settings)
    assert [row["user_id"] for row in events] == [keyed_user(KEY, "anneliese")]


@pytest.mark.parametrize("user_ids", ["plain", "keyed"])
def test_rejected_records_reveal_nothing_private(ingest, tmp_path, key_file, user_ids):
    privacy = f"{{scrub_texts: true, user_ids: {user_ids}, key_file: {key_file}}}"
    settings = f"privacy: {privacy}\ningest: {{max_bad_share: 1}}\n"
    private = {"title": "By anna@example.com", "text": "mail anna@example.com"}
    cut = {"text": "x" * 1970 + " anneliese.schmidt@example.com", "rating": 9}
    long = {"text": "anna@example.com " * 5_000, "rating": 9}
    fields = [{"event_id": "1", "value": 1} | private, {"event_id": "1"} | private, cut, long]
    events = [event(user_id="u", **more) for more in fields]
    deliver(tmp_path, FIRST, *events)
    escaped = (
        '{"text": "anna\\u0040example.com", "rating": 9, "user_id": "u", '
        '"event_ts": "2025-04-01T10:00:00Z", "event_type": "view"}\n'
        '{"torn": "anna\\u0040example.com", "user_id": "u"'
    )
    (tmp_path / "logs" / f"dt={FIRST}" / "b.jsonl").write_text(escaped)
    ingest(FIRST, *events, settings=settings)
    rejected = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert sorted(row["reason"] for row in rejected) == ["bad_rating"] * 3 + ["conflicting_id", "unreadable"]
    assert not re.search("anna|anneliese|example", repr(rejected))
    assert user_ids == "plain" or {row["raw"] for row in rejected} == {""}


def test_a_job_killed_before_it_named_the_key_does_not_lock_the_warehouse(run_on, ingest, tmp_path, key_file):
    with run_on(tmp_path / "w") as run:
        run.writer.create(behavior_events.TABLE)
    settings = f"privacy: {{user_ids: keyed, key_file: {key_file}}}\n"
    events = ingest(FIRST, event(event_id="1", text="a"), settings=settings)
    assert [row["user_id"] for row in events] == [keyed_user(KEY, "anneliese")]
