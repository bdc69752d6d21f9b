"""Which rows go: each way to find a user's rows takes these and no others."""

import re
from datetime import date, timedelta
from json import dumps
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobs.erase.rows import (
    HIDDEN,
    Wanted,
    alone,
    beside_others,
    doomed,
    erase_rows,
    hide_messages,
    known_users,
    spellings_of,
)
from schemas import (
    behavior_events,
    items,
    pipeline_runs,
    profile_states,
    quarantined_events,
    ranking_models,
    recommendations,
    rejected_texts,
    text_embeddings,
)
from schemas.items import BY_CATALOGUE, BY_EVENTS
from schemas.table import APPEND_ONLY
from tests.builders import row, store

DAY = date(2025, 3, 3)


def wanted(spark, *ids, stored=None):
    return Wanted(spark, ids, stored or ids)


def event(user, n, **more):
    return row(behavior_events.TABLE, user_id=user, event_id=f"{user}-{n}", log_date=DAY, **more)


# ---- each way to find rows


def test_rows_of_users_go_by_the_stored_form(spark, warehouse, warehouse_at):
    store(spark, warehouse, behavior_events.TABLE, [event(user, 1) for user in ("k:1", "ann", "k:11", "k:2")])
    gone = doomed(warehouse_at(warehouse), behavior_events.TABLE, wanted(spark, "ann", stored=("k:1",)))
    assert [r["user_id"] for r in gone.collect()] == ["k:1"]


RAW = {
    "own": '{"user_id":"u1","rating":9}',
    "in_an_id": '{"event_id":"shop-u1-00001"}',
    "csv": "2025-03-03;u1;view",
    "other": '{"user_id":"u12"}',
    "longer": '{"user_id":"xu1"}',
    "none": "",
    # The proof, which reads bytes, takes no other letters than those of ASCII for a part of a word.
    "beside_another_letter": '{"note":"u1\u00e9"}',
}


def test_rejected_records_go_where_an_id_stands_alone(spark, warehouse, warehouse_at):
    stored = [row(quarantined_events.TABLE, record_hash=name, raw=raw) for name, raw in RAW.items()]
    stored.append(row(quarantined_events.TABLE, record_hash="file", source_file="dt=1/user=u1/a.jsonl"))
    store(spark, warehouse, quarantined_events.TABLE, stored)
    gone = doomed(warehouse_at(warehouse), quarantined_events.TABLE, wanted(spark, "u1", "absent"))
    assert gone.columns == list(quarantined_events.TABLE.key)
    assert {r["record_hash"] for r in gone.collect()} == {
        *("own", "in_an_id", "csv", "file", "beside_another_letter")
    }


ODD = ["a.b*c(d)[e]", r"x\E$y\Q", "#&~- |", "zoé", "\U0001f600 z", 'say "so"', "back\\slash", "^1", "{u}"]


def test_ids_of_any_characters_are_found_in_json_and_no_expression_is_made_of_them(
    spark, warehouse, warehouse_at
):
    records = {
        f"{n} {ascii_}": dumps({"u": id_}, ensure_ascii=ascii_)
        for n, id_ in enumerate(ODD)
        for ascii_ in (0, 1)
    }
    other = {"dots": dumps({"u": "aXbbc(d)e"}), "longer": dumps({"u": "zoés"})}
    stored = [row(quarantined_events.TABLE, record_hash=k, raw=raw) for k, raw in (records | other).items()]
    store(spark, warehouse, quarantined_events.TABLE, stored)
    gone = doomed(warehouse_at(warehouse), quarantined_events.TABLE, wanted(spark, *ODD))
    assert {r["record_hash"] for r in gone.collect()} == records.keys()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_record_of_json_holds_one_of_the_spellings(text):
    for as_ascii in (True, False):
        record = dumps({"user_id": text}, ensure_ascii=as_ascii)
        assert any(spelling in record for spelling in spellings_of(text))
    pattern = re.compile(alone(text))
    assert pattern.search(f'"{text}"') and pattern.search(f"_{text}-1")


def test_texts_go_that_nobody_else_needs(spark, warehouse, warehouse_at):
    texts = {"ann": ["own", "shared", "item"], "bob": ["shared", "bobs"]}
    events = [
        event(user, n, text=key, text_key=key) for user, keys in texts.items() for n, key in enumerate(keys)
    ]
    store(spark, warehouse, behavior_events.TABLE, events)
    named = {"item": BY_CATALOGUE, "hers": BY_EVENTS}
    rows = [row(items.TABLE, item_id=key, text=key, text_key=key, named_by=by) for key, by in named.items()]
    store(spark, warehouse, items.TABLE, rows)
    for table in (text_embeddings.TABLE, rejected_texts.TABLE):
        keys = ["own", "shared", "item", "bobs", "hers", "orphan"]
        stored = [row(table, text_key=key, model_key=model) for key in keys for model in ("m1", "m2")]
        store(spark, warehouse, table, stored)
        gone = doomed(warehouse_at(warehouse), table, wanted(spark, "ann"))
        assert sorted(r["text_key"] for r in gone.collect()) == [
            *["hers", "hers", "orphan", "orphan", "own", "own"]
        ]


def test_items_go_that_neither_a_catalogue_nor_an_event_of_others_knows(spark, warehouse, warehouse_at):
    events = [event("ann", n, item_id=item) for n, item in enumerate(["hers", "shared", "sold"])]
    store(spark, warehouse, behavior_events.TABLE, [*events, event("bob", 1, item_id="shared")])
    named = {"hers": BY_EVENTS, "shared": BY_EVENTS, "sold": BY_CATALOGUE}
    rows = [row(items.TABLE, item_id=item, valid_from=DAY, named_by=by) for item, by in named.items()]
    store(spark, warehouse, items.TABLE, [*rows, rows[0] | {"valid_from": DAY + timedelta(1)}])
    gone = doomed(warehouse_at(warehouse), items.TABLE, wanted(spark, "ann"))
    assert sorted((r["item_id"], r["valid_from"] - DAY) for r in gone.collect()) == [
        ("hers", timedelta(0)),
        ("hers", timedelta(1)),
    ]


def test_others_keep_their_events_without_the_name(spark, warehouse, warehouse_at):
    companions = {1: ["ann", "cid"], 2: ["anna"], 3: None, 4: []}
    events = [event("bob", n, companions=names) for n, names in companions.items()]
    store(spark, warehouse, behavior_events.TABLE, [*events, event("ann", 9, companions=["ann"])])
    found = beside_others(warehouse_at(warehouse), behavior_events.TABLE, wanted(spark, "ann"))
    assert [(r["event_id"], r["companions"]) for r in found.collect()] == [("bob-1", ["[erased]", "cid"])]


def test_only_users_with_rows_are_known(spark, warehouse, warehouse_at):
    opened = warehouse_at(warehouse)
    assert known_users(opened, wanted(spark, "ann")) == 0
    store(spark, warehouse, behavior_events.TABLE, [event("ann", 1), event("bob", 1)])
    store(
        spark, warehouse, profile_states.TABLE, [row(profile_states.TABLE, user_id=u) for u in ("ann", "cid")]
    )
    assert known_users(opened, wanted(spark, "ann", "cid", "dan")) == 2


# ---- what is done


def test_messages_of_runs_lose_the_id_and_the_table_takes_only_new_rows_again(spark, warehouse, run_on):
    said = {
        "file": "/logs/dt=2025-03-03/anna-7777.jsonl.gz is cut off",
        "pseudonym": "k:123456 is no user",
        "longer": "anna-77771 is another",
        "short": "u1 of 7 is too short to be looked for",
        "none": None,
    }
    runs = [row(pipeline_runs.TABLE, run_id=key, status="failed", message=text) for key, text in said.items()]
    path = store(spark, warehouse, pipeline_runs.TABLE, runs)
    gone = wanted(spark, "anna-7777", "u1", "7", stored=("k:123456", "u1", "7"))
    with run_on(warehouse) as run:
        run.log.flush()
        assert hide_messages(run.warehouse, None, pipeline_runs.TABLE, gone) == 2
        # As an erasure leaves it that was killed between two commits.
        run.writer.set_properties(pipeline_runs.TABLE, {APPEND_ONLY: "false"})
        assert [hide_messages(run.warehouse, run.writer, pipeline_runs.TABLE, gone) for _ in "12"] == [2, 0]
        assert run.warehouse.properties(pipeline_runs.TABLE)[APPEND_ONLY] == "true"
        left = {r["run_id"]: r["message"] for r in run.warehouse.read(pipeline_runs.TABLE).collect()}
    assert {key: left[key] for key in said} == said | dict.fromkeys(("file", "pseudonym"), HIDDEN)
    logs = "".join(file.read_text(encoding="utf-8") for file in Path(path, "_delta_log").glob("*.json"))
    assert "anna-7777" not in logs and "k:123456" not in logs


def test_tables_without_such_rows_get_no_commit(spark, warehouse, run_on):
    store(spark, warehouse, behavior_events.TABLE, [event("bob", 1)])
    store(spark, warehouse, quarantined_events.TABLE, [row(quarantined_events.TABLE)])
    with run_on(warehouse) as run:
        before = run.warehouse.versions()
        counts = erase_rows(run.warehouse, run.writer, wanted(spark, "ann"))
        assert run.warehouse.versions() == before and set(counts.values()) == {0}


def test_no_id_stands_in_a_tables_log(spark, warehouse, run_on):
    path = store(spark, warehouse, behavior_events.TABLE, [event("anneliese", 1), event("bob", 1)])
    with run_on(warehouse) as run:
        counts = erase_rows(run.warehouse, run.writer, wanted(spark, "anneliese"))
    logs = [file.read_text(encoding="utf-8") for file in Path(path, "_delta_log").glob("*.json")]
    assert counts["behavior_events_removed"] == 1 and len(logs) == 3
    assert not [log for log in logs if "anneliese" in log]


# ---- models and lists


def test_lists_lose_the_users_and_the_items_that_only_they_named(spark, warehouse, warehouse_at):
    events = [event("ann", n, item_id=item) for n, item in enumerate(["hers", "shared"])]
    store(spark, warehouse, behavior_events.TABLE, [*events, event("bob", 1, item_id="shared")])
    stored = [row(items.TABLE, item_id=item, named_by=by) for item, by in NAMED.items()]
    store(spark, warehouse, items.TABLE, stored)
    found = [
        row(recommendations.TABLE, user_id=user, rank=rank, item_id=item, score=5.0)
        for user in ("ann", "bob")
        for rank, item in enumerate(["hers", "shared", "sold"], 1)
    ]
    store(spark, warehouse, recommendations.TABLE, found)
    opened = warehouse_at(warehouse)
    # A list keeps no item alive.
    assert {r["item_id"] for r in doomed(opened, items.TABLE, wanted(spark, "ann")).collect()} == {"hers"}
    gone = doomed(opened, recommendations.TABLE, wanted(spark, "ann"))
    assert gone.columns == list(recommendations.TABLE.key)
    rows = sorted((r["user_id"], r["rank"]) for r in gone.distinct().collect())
    assert rows == [("ann", 1), ("ann", 2), ("ann", 3), ("bob", 1)]


NAMED = {"hers": BY_EVENTS, "shared": BY_EVENTS, "sold": BY_CATALOGUE}


def test_every_model_goes(spark, warehouse, warehouse_at):
    stored = [row(ranking_models.TABLE, version=version) for version in ("v1", "v2")]
    store(spark, warehouse, ranking_models.TABLE, stored)
    gone = doomed(warehouse_at(warehouse), ranking_models.TABLE, wanted(spark, "ann"))
    assert sorted(r["version"] for r in gone.collect()) == ["v1", "v2"]
