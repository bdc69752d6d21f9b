"""An ingest after an erasure: no record of the user is stored anywhere, whatever is wrong with it."""

import gzip
import hashlib
import json
import shutil
from datetime import date
from functools import partial

import pytest

from jobs import erase_users
from jobs.io.messages import JobError
from tests.e2e.tables import call, rows_of
from tests.jobs.ingest.days import (
    CATALOGUE,
    FIRST,
    SECOND,
    canonical,
    catalogue,
    counts_of_newest,
    event,
)
from udfs.privacy import keyed_user

KEY = b"an old secret of sixteen bytes and more"
GONE = "anneliese"
TABLES = ("behavior_events", "quarantined_events", "items", "erased_users")


@pytest.fixture(scope="module", params=["plain", pytest.param("keyed", marks=pytest.mark.slow)])
def erased_once(request, spark, ingest_in, tmp_path_factory):
    """The folder of a warehouse from which the user was erased before the first record, and its settings."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "key").write_bytes(KEY)
    (root / "ids").write_text(f"{GONE}\n", encoding="utf-8")
    privacy = f"{{user_ids: {request.param}, key_file: {root / 'key'}}}"
    settings = f"privacy: {privacy}\ningest: {{max_bad_share: 1}}\n"
    ingest_in(root, FIRST, event(user_id="bob", event_id="0"), settings=settings)
    config = str(root / "config.yaml")
    call(spark, erase_users, root / "w", config, "--ids", root / "ids", "--date", FIRST)
    return root, settings


@pytest.fixture
def after_erasure(erased_once, ingest, tmp_path):
    """Ingests a day into a copy of it."""
    root, settings = erased_once
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return partial(ingest, settings=settings)


def stored(root) -> str:
    return repr([rows_of(str(root / "w"), name) for name in TABLES])


def sums(counts: dict[str, int]) -> int:
    return sum(counts[fate] for fate in ("stored", "quarantined", "duplicate", "erased"))


def test_every_record_of_the_user_is_counted_and_none_is_stored(after_erasure, tmp_path):
    own = [
        event(SECOND, event_id="1", text="kumquat"),
        event(SECOND, event_id="1", text="kumquat"),
        event(SECOND, event_id="1", text="another kumquat"),
        event(SECOND, text="kumquat without an id"),
        event(SECOND, event_id="2", rating=9, text="bad kumquat"),
        event(SECOND, event_id="3", event_ts="kumquat"),
        event(SECOND, event_id="4", event_type="retract", retracts_event_id="1"),
        event(SECOND, event_id="5", item_id="S9", title="kumquat"),
    ]
    bob = event(SECOND, user_id="bob", event_id="1", text="a fine day", item_id="S9")
    events = after_erasure(SECOND, *own, bob)
    assert [row["text"] for row in events if row["log_date"] == SECOND] == ["a fine day"]
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["erased"], counts["stored"], counts["quarantined"]) == (len(own), 1, 0)
    assert counts["read"] == sums(counts) == len(own) + 1
    assert GONE not in stored(tmp_path) and "kumquat" not in stored(tmp_path)


def test_records_of_nobody_and_of_others_keep_no_trace(after_erasure, tmp_path):
    anonymous = event(SECOND, event_id=f"shop-{GONE}-1") | {"user_id": None}
    unseen = event(SECOND, user_id=f"{GONE}\u0000", event_id="8")
    bad = event(SECOND, user_id="bob", event_id="2", rating=9, companions=[GONE])
    friend = event(SECOND, user_id="bob", event_id="3", rating=9, extra={"friend": GONE})
    after_erasure(SECOND, anonymous, unseen, bad, friend)
    rejected = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert len(rejected) == 4 and GONE not in stored(tmp_path)
    assert {row["raw"] for row in rejected} == {""}
    plain = {hashlib.sha256(json.dumps(one).encode()).hexdigest() for one in (anonymous, unseen, bad, friend)}
    assert not plain & {row["record_hash"] for row in rejected}


def test_neither_do_rows_of_a_catalogue(after_erasure, tmp_path):
    catalogue(tmp_path, SECOND, gzip.compress(json.dumps({"id": None, "name": GONE}).encode()))
    bob = event(SECOND, user_id="bob", event_id="2")
    after_erasure(SECOND, bob, mapping=canonical(items=CATALOGUE))
    (row,) = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert row["reason"].startswith("item_") and row["raw"] == ""


def test_companions_are_nobody_and_the_event_is_the_same_when_it_comes_again(after_erasure, tmp_path):
    given = [
        event(SECOND, user_id="bob", event_id="1", text="together", companions=[GONE, "cid"]),
        event(SECOND, user_id="bob", text="together without an id", companions=[GONE]),
    ]
    events = after_erasure(SECOND, *given)
    companions = [row["companions"] for row in events if row["log_date"] == SECOND]
    assert sorted(companions, key=len) == [["[erased]"], ["[erased]", "cid"]]
    third = date(2025, 4, 3)
    after_erasure(third, *given)
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["duplicate"], counts["stored"], counts["quarantined"]) == (2, 0, 0)
    assert GONE not in stored(tmp_path)


@pytest.mark.slow
def test_a_filtered_record_is_filtered(spark, ingest, tmp_path):
    (tmp_path / "ids").write_text(f"{GONE}\n", encoding="utf-8")
    mapping = canonical(filter="event_type = 'view'")
    ingest(FIRST, event(user_id="bob", event_id="0"), mapping=mapping)
    config = str(tmp_path / "config.yaml")
    call(spark, erase_users, tmp_path / "w", config, "--ids", tmp_path / "ids", "--date", FIRST)
    ingest(SECOND, event(SECOND), event(SECOND, event_type="click"), mapping=mapping)
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["read"], counts["erased"], counts["filtered"]) == (1, 1, 1)


def test_pseudonyms_go_and_the_log_names_nobody(spark, ingest, tmp_path, capfd):
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "ids").write_text(f"{GONE}\n", encoding="utf-8")
    settings = f"privacy: {{user_ids: keyed, key_file: {tmp_path / 'key'}}}\n"
    ingest(
        FIRST,
        event(event_id="1", text="mine"),
        event(user_id="bob", event_id="2", text="ours", companions=[GONE]),
        settings=settings,
    )
    argv = ["--ids", tmp_path / "ids", "--date", FIRST]
    (tmp_path / "plain.yaml").touch()
    with pytest.raises(JobError, match="holds user ids keyed by key"):
        call(spark, erase_users, tmp_path / "w", str(tmp_path / "plain.yaml"), *argv)
    call(spark, erase_users, tmp_path / "w", str(tmp_path / "config.yaml"), *argv)
    pseudonym = keyed_user(KEY, GONE)
    events = rows_of(str(tmp_path / "w"), "behavior_events")
    assert [(row["text"], row["companions"]) for row in events] == [("ours", ["[erased]"])]
    files = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    held = [path.name for path in files for text in (GONE, pseudonym) if text.encode() in path.read_bytes()]
    said = "".join(capfd.readouterr())
    assert held == [] and "1 ids, 1 known" in said and GONE not in said and pseudonym not in said
