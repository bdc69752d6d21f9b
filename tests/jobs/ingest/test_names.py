"""Which name of an item holds: no user alone changes it for others, and ranges decide like nights."""

import json
import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs import ingest_events
from jobs.ingest.days import ingest_days
from jobs.ingest.names import elected
from jobs.io.days import Days
from jobs.io.logs import Logs
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import FIRST, canonical, counts_of_newest, deliver, stored_in
from tests.jobs.ingest.naming import key_of, named_items, texts_of

WINDOW = 2
SETTINGS = Settings.model_validate({"fold": {"window_days": WINDOW}, "ingest": {"max_bad_share": 1}})
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
TITLES = ("Kettle", "Copper  kettle", "Pan", "Pan ")


def spans(size):
    return Days(DAYS[0], DAYS[-1]).chunks(size)


# ---- votes


def drawn_votes(rng: random.Random, count: int) -> list[tuple[str, str, str, datetime, date, str]]:
    """item_id, user_id, event_id, event_ts, log_date, title_key of votes, many at the same instant."""
    found = []
    for number in range(count):
        day = rng.choice(DAYS)
        moment = datetime(day.year, day.month, day.day, rng.randrange(3), tzinfo=UTC)
        late = moment - timedelta(days=rng.randrange(WINDOW + 1))
        user, item = f"u{rng.randrange(6)}", f"i{rng.randrange(20)}"
        found.append((item, user, f"e{number:03}", late, day, rng.choice("abcd")))
    return found


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_votes_give_the_same_names_day_by_day_and_together_and_as_the_rule_says(spark, seed):
    rows = drawn_votes(random.Random(seed), 300)
    types = "item_id string, user_id string, event_id string, event_ts timestamp, log_date date, title string"
    keyed = spark.createDataFrame(rows, types).withColumn("title_key", F.sha2("title", 256))
    votes = keyed.drop("title").localCheckpoint()
    names = {"i0": "a", "i1": "z"}

    def given_in(chunks):
        held, found = {item: key_of((title, "{}")) for item, title in names.items()}, set()
        for days in chunks:
            before = spark.createDataFrame(list(held.items()), "item_id string, title_key string")
            in_reach = votes.where(days.widened(before=WINDOW).sql("log_date"))
            given = sorted(map(tuple, elected(in_reach, before, days, WINDOW).collect()), key=lambda r: r[1])
            found |= set(given)
            held |= {item: key for item, _, key in given}
        return found

    days = defaultdict(list)
    for item, user, event_id, moment, day, title in rows:
        record = {"item_id": item, "user_id": user, "event_id": event_id, "title": title}
        days[day].append(record | {"event_ts": moment.isoformat()})
    ruled = named_items(days, WINDOW, held=names)
    expected = {(item, day, key_of(face)) for (item, day), face in ruled.items()}
    assert len(expected) > 20
    assert given_in(spans(1)) == given_in(spans(4)) == expected


# ---- nights and days read together


def drawn_log(rng: random.Random) -> dict[date, list[dict]]:
    """A log of titled and untitled events, late, early and delivered again, of users who share event ids."""
    days = defaultdict(list)
    for number in range(150):
        day = rng.choice(DAYS)
        moment = datetime(day.year, day.month, day.day, rng.randrange(24), tzinfo=UTC)
        record = {
            "event_id": f"e{number // 2}",
            "user_id": f"u{number % 2}{rng.randrange(3)}",
            "event_ts": (moment + timedelta(days=rng.choice((-2, -1, 0, 0, 0, 1)))).isoformat(),
            "event_type": "view",
            "item_id": f"i{rng.randrange(5)}",
        }
        if rng.random() < 0.7:
            record["title"] = rng.choice(TITLES)
        if rng.random() < 0.2:
            record["attributes"] = {"kind": rng.choice("xy")}
        if rng.random() < 0.1:
            record["text"] = f"own words {number}"
        days[day].append(record)
        again = day + timedelta(days=1)
        if rng.random() < 0.1 and again in DAYS:
            days[again].append(record)
    return dict(days)


def without_repeats(days):
    """Each event on the first day that delivered it."""
    seen, kept = set(), {}
    for day in sorted(days):
        kept[day] = [r for r in days[day] if (r["user_id"], r["event_id"]) not in seen]
        seen |= {(r["user_id"], r["event_id"]) for r in days[day]}
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nights_days_read_together_and_reruns_store_the_same_and_as_the_rule_says(run_on, tmp_path, seed):
    days = drawn_log(random.Random(seed))
    for day in DAYS:
        deliver(tmp_path, day, *days.get(day, []))
    logs = Logs(str(tmp_path / "logs"), parse_mapping(json.dumps(canonical()), "test"))
    found = {}
    for name, chunks in {"nights": spans(1), "together": spans(WINDOW + 2)}.items():
        for span in chunks:
            with run_on(tmp_path / name, ingest_events.JOB, span) as run:
                ingest_days(run, logs, SETTINGS, span)
        found[name] = stored_in(str(tmp_path / name))
    assert found["nights"] == found["together"]
    with run_on(tmp_path / "nights", ingest_events.JOB, Days.only(DAYS[3])) as run:
        ingest_days(run, logs, SETTINGS, Days.only(DAYS[3]))
    assert stored_in(str(tmp_path / "nights")) == found["together"]
    once = without_repeats(days)
    expected = named_items(once, WINDOW)
    versions = rows_of(str(tmp_path / "together"), "items")
    assert {(row["item_id"], row["valid_from"]): row["text"] for row in versions} == {
        key: face[0] for key, face in expected.items()
    }
    assert {row["named_by"] for row in versions} == {"events"}
    events = rows_of(str(tmp_path / "together"), "behavior_events")
    assert sorted(((r["log_date"], r["event_id"], r["text"]) for r in events), key=repr) == texts_of(
        once, expected
    )


# ---- one user against the others

OTHERS = ("berta", "carl", "dora")
# Named by one user on the first day, and outside the window when it is attacked.
OLD = "old"
LAST = DAYS[-1]


def honest_log() -> dict[date, list[dict]]:
    """Titled and untitled events of some users about several items; the new one appears on the last day."""
    days = {day: [] for day in DAYS}
    for n, day in enumerate(DAYS):
        for user in OTHERS:
            items = ["daily", "new"] if day == LAST else ["daily"]
            days[day] += [
                seen(day, user, item, title=f"The {item}", attributes={"kind": item}) for item in items
            ]
            days[day] += [seen(day, user, item) for item in [*items, OLD] if n]
    days[DAYS[0]].append(seen(DAYS[0], "berta", OLD, title=f"The {OLD}", attributes={"kind": OLD}))
    return days


def seen(day, user, item, at="12:00:00", number=0, **fields):
    """A view; titled ones come before the untitled."""
    named = "titled" if "title" in fields else "untitled"
    return {
        "event_id": f"{day} {item} {named} {number}",
        "user_id": user,
        "event_ts": f"{day}T{at}Z",
        "event_type": "view",
        "item_id": item,
    } | fields


def attack(day: date, users: tuple[str, ...], **kind) -> list[dict]:
    """Views of all items that the others have on the day, under a made-up title and attributes."""
    items, count = ("daily", OLD, *(["new"] if day == LAST else [])), kind.pop("count", 1)
    fields = {"title": "Bad words", "attributes": {"kind": "bad"}} | kind
    moment = fields.pop("on", day)
    made = [(user, item, n) for user in users for item in items for n in range(count)]
    return [
        seen(day, user, item, number=n) | {"event_ts": f"{moment}T23:59:59Z"} | fields
        for user, item, n in made
    ]


ATTACKS = {
    "a day ahead": {LAST: attack(LAST, ("eve",), on=LAST + timedelta(days=1))},
    "on the day": {LAST: attack(LAST, ("eve",))},
    "late": {LAST: attack(LAST, ("eve",), on=LAST - timedelta(days=WINDOW))},
    "many events": {LAST: attack(LAST, ("eve",), count=30)},
    "attributes alone": {
        LAST: [record | {"title": f"The {record['item_id']}"} for record in attack(LAST, ("eve",), count=3)]
    },
    "every day": {day: attack(day, ("eve",), count=2) for day in DAYS[1:]},
    "many events under others' ids": {LAST: attack(LAST, ("eve",)) + attack(LAST, ("eve",), event_id="1")},
}
slow = pytest.mark.slow


def of_others(warehouse):
    """What profiles of the others follow from: their events, and the items' versions."""
    events = [row for row in rows_of(warehouse, "behavior_events") if row["user_id"] in OTHERS]
    versions = [{**row, "first_seen_date": None} for row in rows_of(warehouse, "items")]
    return sorted(map(repr, events)), sorted(map(repr, versions))


def read(run_on, root, folder, chunks, days):
    for day in DAYS:
        deliver(root, day, *days[day])
    logs = Logs(str(root / "logs"), parse_mapping(json.dumps(canonical()), "test"))
    for span in chunks:
        with run_on(root / folder, ingest_events.JOB, span) as run:
            ingest_days(run, logs, SETTINGS, span)
    return of_others(str(root / folder)), run.counts


@pytest.fixture(scope="module")
def honest(run_on, tmp_path_factory):
    """What the honest log leaves."""
    return read(run_on, tmp_path_factory.mktemp("honest"), "w", spans(WINDOW + 2), honest_log())[0]


QUICK = ("a day ahead",)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else slow) for kind in ATTACKS]
)
def test_no_single_user_changes_an_event_of_others_or_the_name_of_an_item(run_on, honest, tmp_path, kind):
    days = honest_log()
    for day, events in ATTACKS[kind].items():
        days[day] = events + days[day]
    assert honest == read(run_on, tmp_path, "w", spans(WINDOW + 2), days)[0]


@pytest.mark.slow
def test_nor_does_one_by_nights_a_day_delivered_again_or_a_day_before_the_others(run_on, honest, tmp_path):
    attacked = honest_log()
    for day in DAYS:
        attacked[day] = attack(day, ("eve",), count=2) + attacked[day]
    only_eve = {day: attack(day, ("eve",)) for day in DAYS}
    first, rest = Days.only(DAYS[0]), spans(1)[1:]
    assert honest == read(run_on, tmp_path, "w", spans(1), attacked)[0]
    read(run_on, tmp_path, "again", spans(1), honest_log())
    assert honest == read(run_on, tmp_path, "again", spans(1)[2:4], attacked)[0]
    # Whoever names an item first, the majority renames it.
    read(run_on, tmp_path, "before", [first], only_eve)
    events, _ = read(run_on, tmp_path, "before", rest, honest_log())[0]
    texts = {
        row["text"]
        for row in rows_of(str(tmp_path / "before"), "behavior_events")
        if row["user_id"] in OTHERS
    }
    assert events and texts >= {"The daily", "The new"}


def test_a_name_that_moves_many_users_is_counted_and_told(ingest, tmp_path, capsys):
    after = FIRST + timedelta(days=1)
    ingest(FIRST, seen(FIRST, "berta", "i", title="Kettle"), seen(FIRST, "carl", "i"))
    counts = counts_of_newest(str(tmp_path / "w"))
    assert counts["renamed_items"] == 0
    told = [seen(after, user, "i", title="Pan") for user in ("eve", "frank")]
    more = [seen(after, user, "i") for user in OTHERS] + [seen(after, "eve", "i")]
    own = [seen(after, "gina", "i", title="Pot"), seen(after, "hanna", "i", number=1, text="own")]
    capsys.readouterr()
    ingest(after, *told, *more, *own)
    said = capsys.readouterr().out
    # Eve took the name that she gave, in an event without one.
    assert "titles of events rename items of 4 of the 7 users of 2025-04-02" in said
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["renamed_items"], counts["renamed_users"]) == (1, 4)


@pytest.mark.slow
def test_a_name_that_moves_few_users_is_counted_and_not_told(ingest, tmp_path, capsys):
    after = FIRST + timedelta(days=1)
    ingest(FIRST, seen(FIRST, "berta", "i", title="Kettle"))
    told = [seen(after, user, "i", title="Pan") for user in ("eve", "frank")]
    many = [seen(after, f"user {n}", "other", text="own") for n in range(40)]
    ingest(after, *told, *many, seen(after, "berta", "i"))
    assert "titles of events rename" not in capsys.readouterr().out
    counts = counts_of_newest(str(tmp_path / "w"))
    assert (counts["renamed_items"], counts["renamed_users"]) == (1, 1)
