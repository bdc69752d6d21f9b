"""A day's events depend only on its records, not on their order, files, duplicates or corrupt neighbours."""

import json
import random
import tempfile
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import make_demo_logs
from jobs.ingest import fates
from schemas.mapping import EVENT_FIELDS, parse_mapping, shipped_mapping
from schemas.settings import Settings
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import FIRST, SECOND, THIRD, event
from tests.jobs.records import DAY, fated, write_day
from udfs.privacy import keyed_user

CANONICAL = parse_mapping(shipped_mapping("canonical") or "", "canonical")
few = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def demo_lines() -> list[bytes]:
    """A generated day, with duplicates and bad records among its lines."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--logs", f"{folder}/logs", "--days", "2", "--users", "80", "--start", DAY]
        assert make_demo_logs.main(arguments) == 0
        return Path(folder, "logs", f"dt={DAY}", "events.jsonl").read_bytes().splitlines()


def without_ids(lines: list[bytes]) -> list[bytes]:
    """The same without event ids, some lines twice: two equal purchases."""
    events = [json.loads(line) for line in lines if line.endswith(b"}")]
    bare = [json.dumps({k: v for k, v in event.items() if k != "event_id"}).encode() for event in events]
    return bare + bare[: len(bare) // 5]


def retail_lines(shared_data: Path, count: int) -> list[bytes]:
    """Real purchases as canonical lines; without ids, which the source does not have."""
    columns = ["InvoiceNo", "StockCode", "Description", "InvoiceDate", "CustomerID"]
    table = pq.read_table(shared_data / "uci-online-retail" / "online_retail.parquet", columns=columns)
    events = [
        {
            "user_id": row["CustomerID"],
            "event_ts": f"{DAY}T{str(row['InvoiceDate'])[11:19]}Z",
            "event_type": "purchase",
            "item_id": row["StockCode"],
            "title": row["Description"],
            "session_id": row["InvoiceNo"],
        }
        for row in table.slice(0, count).to_pylist()
    ]
    return [json.dumps(event).encode() for event in events]


def delivered(lines: list[bytes], rng: random.Random) -> dict[str, bytes]:
    """The lines in a few files in any order, some files twice under other names.

    Equal lines stay in one file: they are two events.
    """
    equal = defaultdict(list)
    for line in lines:
        event = json.loads(line) if line.endswith(b"}") else {}
        equal[event.get("event_id", line)].append(line)
    files: list[list[bytes]] = [[] for _ in range(rng.randint(1, 4))]
    for group in equal.values():
        rng.choice(files).extend(group)
    for file in files:
        rng.shuffle(file)
    twice = [file for file in files if rng.random() < 0.5]
    return {f"{rng.randrange(10**9)}-{n}.jsonl": b"\n".join(file) for n, file in enumerate(files + twice)}


def stored(spark, files: dict[str, bytes]) -> set[str]:
    """The stored events, each as text of all its fields."""
    with tempfile.TemporaryDirectory() as folder:
        write_day(Path(folder), files)
        rows = fated(spark, folder, CANONICAL).collect()
    events = [repr([row[name] for name in EVENT_FIELDS]) for row in rows if row["fate"] == "stored"]
    assert len(events) == len(set(events))
    return set(events)


# Real purchases have no ids either: the fast suite proves the same on generated ones.
@pytest.mark.parametrize(
    "kind", ["with ids", "without ids", pytest.param("real purchases", marks=pytest.mark.slow)]
)
def test_the_form_of_delivery_changes_no_event(spark, request, kind):
    if kind == "real purchases":
        lines = retail_lines(request.getfixturevalue("shared_data"), 400)
    else:
        lines = demo_lines() if kind == "with ids" else without_ids(demo_lines())
    expected = stored(spark, {"a.jsonl": b"\n".join(lines)})
    assert len(expected) > 100

    @few
    @given(st.integers(0, 2**32))
    def holds(seed):
        assert stored(spark, delivered(lines, random.Random(seed))) == expected

    holds()


@pytest.mark.parametrize("kind", ["with ids", "without ids"])
def test_many_ambiguous_records_are_decided_like_few(spark, monkeypatch, kind):
    lines = demo_lines() if kind == "with ids" else without_ids(demo_lines())
    files = delivered(lines, random.Random(1))
    few_compared = stored(spark, files)
    monkeypatch.setattr(fates, "FEW_AMBIGUOUS", 1)
    assert stored(spark, files) == few_compared


@few
@given(st.integers(0, 2**32))
def test_corrupt_bytes_cost_only_their_own_line(spark, seed):
    rng = random.Random(seed)
    by_id = {json.loads(line)["event_id"]: line for line in demo_lines() if line.endswith(b"}")}
    lines = list(by_id.values())
    broken = set(rng.sample(range(len(lines)), 40))
    sound = stored(spark, {"a.jsonl": b"\n".join(line for n, line in enumerate(lines) if n not in broken)})
    harmless = [byte for byte in range(256) if byte not in b"\n\r"]

    def corrupt(line: bytes) -> bytes:
        at = rng.randrange(len(line))
        return line[:at] + bytes([rng.choice(harmless)]) + line[at + 1 :]

    mixed = b"\n".join(corrupt(line) if n in broken else line for n, line in enumerate(lines))
    assert sound <= stored(spark, {"a.jsonl": mixed})


# ---- ids of two users

KEYED = "an old secret of sixteen bytes and more"


def record(user: str, event_id: str, place: str) -> bytes:
    at = f"{DAY}T10:00:00Z"
    event = {"event_id": event_id, "user_id": user, "event_ts": at, "event_type": "purchase", "item_id": "S1"}
    return json.dumps(event | {"place": place}).encode()


@pytest.mark.parametrize("user_ids", ["plain", "keyed"])
def test_an_id_belongs_to_its_user_whose_own_repeats_and_conflicts_are_found(
    spark, tmp_path, monkeypatch, user_ids
):
    monkeypatch.setenv("NIGHTFOLD_KEY", KEYED)
    rng, drawn = random.Random(user_ids), Counter()
    # Ids that would be equal if user and event id were written one after the other.
    for _ in range(120):
        user, event_id = rng.choice(["a", "ab", "a b", "b"]), rng.choice(["1", "b1", "b 1", " 1"])
        drawn[user, event_id, rng.choice("xyz")] += 1
    lines = [record(*one) for one, count in drawn.items() for _ in range(count)]
    rng.shuffle(lines)
    write_day(tmp_path, {"1.jsonl": b"\n".join(lines[:50]), "2.jsonl": b"\n".join(lines[50:])})
    chosen = Settings.model_validate({"privacy": {"user_ids": user_ids}})
    rows = fated(spark, str(tmp_path), CANONICAL, chosen).collect()
    kept = {(row["user_id"], row["event_id"]): row["place"] for row in rows if row["fate"] == "stored"}
    named = {user: keyed_user(KEYED.encode(), user) if user_ids == "keyed" else user for user, _, _ in drawn}
    of_event = defaultdict(Counter)
    for (user, event_id, place), count in drawn.items():
        of_event[named[user], event_id][place] += count
    assert kept.keys() == of_event.keys() and all(of_event[key][place] for key, place in kept.items())
    fates = Counter((row["user_id"], row["event_id"], row["fate"]) for row in rows)
    for key, places in of_event.items():
        equal = places[kept[key]]
        assert fates[(*key, "stored")] == 1 and fates[(*key, "duplicate")] == equal - 1
        assert fates[(*key, "quarantined")] == places.total() - equal


def test_nobody_takes_the_place_of_another_users_event_on_any_day(ingest, tmp_path):
    victim = {"user_id": "berta", "event_id": "1", "event_type": "purchase", "text": "a"}
    thief = {"user_id": "eve", "event_id": "1", "text": "other"}
    share = "ingest: {max_bad_share: 1}"
    ingest(FIRST, event(**thief), settings=share)
    ingest(SECOND, event(SECOND, **thief), event(SECOND, **victim), settings=share)
    back = {"user_id": "eve", "event_id": "back", "event_type": "retract", "retracts_event_id": "1"}
    again = event(SECOND, **victim), event(THIRD, **thief), event(THIRD, **back)
    events = ingest(THIRD, *again, settings=share)
    assert sorted((row["user_id"], row["event_id"], row["log_date"]) for row in events) == [
        ("berta", "1", SECOND),
        ("eve", "1", FIRST),
        ("eve", "back", THIRD),
    ]
    # The thief's own others differ in their times.
    reasons = [(row["log_date"], row["reason"]) for row in rows_of(str(tmp_path / "w"), "quarantined_events")]
    assert sorted(reasons) == [(SECOND, "conflicting_id"), (THIRD, "conflicting_id")]
