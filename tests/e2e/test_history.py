"""One history, many ways to it: nights, ranges, chunks, repairs and rebuilds end in the same bits, and in those of a plain fold.

Events and vectors are put straight into the tables, so that what is tried is the fold alone, on histories that chance draws.
"""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import backfill_profiles, fold_profiles, maintain_tables, make_demo_logs, run_night
from jobs.fold import ranges
from jobs.fold import ranges as fold_ranges
from jobs.fold.days import fold_days
from jobs.fold.tables import newest_of_fold
from jobs.io import delta
from jobs.io.messages import JobError
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from schemas import behavior_events, text_embeddings, user_profiles
from schemas.settings import Settings
from tests.e2e.tables import STATE_COLUMNS, call, differences, rows_of, version_of
from tests.oracle import canonical_hash

FIRST = date(2025, 3, 3)
DIM = 12
SETTINGS = Settings.model_validate({"engine": {"kind": "hash", "hash_dimensions": DIM}})
TEXTS = [f"{number:064x}" for number in range(9)]


def event(number, day, log_day, user, second, text, kind="view", rating=None, retracts=None):
    """A row of behavior_events."""
    when = datetime(2025, 3, 3, tzinfo=UTC) + timedelta(days=day, seconds=second)
    row = dict.fromkeys(behavior_events.TABLE.names) | {
        "event_id": f"e{number:03}-é", "user_id": f"u{user}", "user_bucket": user, "event_ts": when, "event_date": when.date(),
        "log_date": FIRST + timedelta(days=log_day), "event_type": kind, "rating": rating, "retracts_event_id": retracts,
        "source_file": "f", "ordinal": 0,
    }  # fmt: skip
    return row if kind == "retract" else row | {"text": "t", "text_key": TEXTS[text]}


@st.composite
def histories(draw):
    """Events of three users over five log days: late ones, one day ahead, negative ones, and some that are taken out again."""
    events = []
    for number in range(draw(st.integers(1, 40))):
        day, late = draw(st.integers(0, 4)), draw(st.sampled_from((0, 0, 0, 1, 3, -1)))
        log_day = min(max(day + late, 0), 4)
        kind, rating = draw(
            st.sampled_from(
                (("view", None), ("purchase", None), ("rating", 0.25), ("rating", 0.9), ("return", None))
            )
        )
        events.append(
            event(
                number,
                day,
                log_day,
                draw(st.integers(0, 2)),
                draw(st.integers(0, 9)),
                draw(st.integers(0, 8)),
                kind,
                rating,
            )
        )
    # The first one stays: a history of nothing makes no tables.
    for number in draw(st.sets(st.integers(1, len(events)), max_size=4)) - {len(events)}:
        target = events[number]
        log_day = min((target["log_date"] - FIRST).days + draw(st.integers(0, 2)), 4)
        user = int(target["user_id"][1:])
        events.append(
            event(900 + number, min(log_day, 4), log_day, user, 50, 0, "retract", retracts=target["event_id"])
        )
    return events


def write_events(spark, warehouse, events):
    delta.overwrite(
        spark,
        warehouse,
        behavior_events.TABLE,
        spark.createDataFrame(events, behavior_events.TABLE.spark_schema()),
    )


@pytest.fixture(scope="module")
def vectors(spark, tmp_path_factory):
    """A warehouse with the vectors alone."""
    folder = str(tmp_path_factory.mktemp("vectors"))
    drawn = np.random.default_rng(7).standard_normal((len(TEXTS), DIM)).astype(np.float32)
    drawn[1] = -drawn[0]
    model = model_key_of(SETTINGS.engine)
    rows = [
        (key, model, DIM, 1, False, "hash", "float32", "r", v.tolist())
        for key, v in zip(TEXTS, drawn, strict=True)
    ]
    delta.overwrite(
        spark,
        folder,
        text_embeddings.TABLE,
        spark.createDataFrame(rows, text_embeddings.TABLE.spark_schema()),
    )
    return Path(folder)


def fold(spark, warehouse, first, last, work=fold_days):
    run = Run("r", "fold_profiles", FIRST, FIRST, "c")
    work(spark, warehouse, SETTINGS, run, FIRST + timedelta(days=first), FIRST + timedelta(days=last))
    return run.counts


def hashes(warehouse):
    return [
        canonical_hash(rows_of(str(warehouse), table), STATE_COLUMNS)
        for table in ("profile_states", "user_profiles")
    ]


@pytest.mark.slow
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    events=histories(),
    order=st.randoms(use_true_random=False),
    partitions=st.integers(1, 5),
    batch=st.integers(1, 7),
    few=st.sampled_from([0, 9]),
)
def test_every_way_to_a_history_ends_in_the_same_bits(
    spark, vectors, tmp_path_factory, events, order, partitions, batch, few
):
    last = max(max(e["log_date"] for e in events), max(e["event_date"] for e in events))
    nights, whole = (str(shutil.copytree(vectors, tmp_path_factory.mktemp("w") / "w")) for _ in range(2))
    write_events(spark, whole, events)
    fold(spark, whole, 0, 5)
    assert differences(whole, FIRST + timedelta(days=5)) == []

    # As nights, each with what had arrived by then in any order, cut into other tasks and batches.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fold_profiles, "tasks_of", lambda *_: partitions)
        patched.setattr("jobs.fold.days.FEW_FACETS", few)
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch))
        for day in range(6):
            arrived = [e for e in events if e["log_date"] <= FIRST + timedelta(days=day)]
            if arrived:
                order.shuffle(arrived)
                write_events(spark, nights, arrived)
                fold(spark, nights, day, day)
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20000")
    assert hashes(nights) == hashes(whole), last
    # And again: nothing changes.
    versions = [version_of(nights, table) for table in ("profile_states", "user_profiles")]
    assert fold(spark, nights, 5, 5)["profiles_changed"] == 0
    assert [version_of(nights, table) for table in ("profile_states", "user_profiles")] == versions


def busy(days=range(5)):
    return [
        event(100 * day + n, day, day, n % 3, n, (n + day) % 9, "purchase" if n % 4 else "view")
        for day in days
        for n in range(12)
    ]


@pytest.fixture(scope="module")
def history(spark, vectors, tmp_path_factory):
    """Five busy days, folded at once."""
    folder = shutil.copytree(vectors, tmp_path_factory.mktemp("history") / "w")
    write_events(spark, str(folder), busy())
    fold(spark, str(folder), 0, 4)
    return folder


def test_a_range_in_chunks_that_was_killed_goes_on(spark, vectors, history, tmp_path, monkeypatch, capsys):
    folder = str(shutil.copytree(vectors, tmp_path / "w"))
    write_events(spark, folder, busy())
    monkeypatch.setattr(fold_ranges, "CHUNK_EVENTS", 24)
    folded, real = [], fold_days

    def dies_in_the_second(spark, warehouse, settings, run, first, last, **where):
        folded.append((first, last))
        if len(folded) == 2:
            raise KeyboardInterrupt
        real(spark, warehouse, settings, run, first, last, **where)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fold_ranges, "fold_days", dies_in_the_second)
        fold(spark, folder, 0, 4, ranges.fold_range)
    counts = fold(spark, folder, 0, 4, ranges.fold_range)
    assert hashes(folder) == hashes(history)
    assert counts["stored"] == 60 and counts["events_folded"] == 36
    assert "[####################] 5 of 5 days" in capsys.readouterr().out


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=30), most=st.integers(1, 20))
def test_chunks_hold_every_day_once_and_not_too_much(counts, most):
    days = [FIRST + timedelta(days=n) for n in range(len(counts))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fold_ranges, "CHUNK_EVENTS", most)
        spans = ranges.day_chunks(days[0], days[-1], dict(zip(days, counts, strict=True)))
    inside = [[day for day in days if first <= day <= last] for first, last in spans]
    assert [day for span in inside for day in span] == days
    held = [sum(counts[days.index(day)] for day in span) for span in inside]
    assert all(total <= most or len(span) == 1 for total, span in zip(held, inside, strict=True))
    # No two chunks next to each other would go into one.
    assert all(one + counts[days.index(span[0])] > most for one, span in zip(held, inside[1:], strict=False))


def test_days_before_the_history_are_folded_before_it(spark, vectors, history, tmp_path):
    folder = str(shutil.copytree(vectors, tmp_path / "w"))
    write_events(spark, folder, busy(range(2, 5)))
    fold(spark, folder, 2, 4)
    write_events(spark, folder, busy())
    fold(spark, folder, 0, 1, ranges.fold_range)
    assert hashes(folder) == hashes(history)


def test_days_before_a_history_that_was_thinned_out_are_folded_before_it(spark, vectors, history, tmp_path):
    folder = str(shutil.copytree(vectors, tmp_path / "w"))
    write_events(spark, folder, busy(range(1, 5)))
    fold(spark, folder, 1, 4)
    # Of each facet the first state and the last one are left.
    assert maintain_tables.thin(spark, folder, FIRST + timedelta(days=5), dry_run=False) > 0
    write_events(spark, folder, busy())
    fold(spark, folder, 0, 0, ranges.fold_range)
    assert hashes(folder) == hashes(history)


def test_an_event_of_the_next_day_is_folded_though_that_day_was_empty(spark, vectors, tmp_path, monkeypatch):
    one, other = (str(shutil.copytree(vectors, tmp_path / name)) for name in ("one", "other"))
    day, early = event(1, 0, 0, 0, 5, 1), event(2, 1, 0, 0, 5, 2)
    write_events(spark, one, [day])
    fold(spark, one, 0, 0)
    monkeypatch.setattr(
        "jobs.fold.days.publications", lambda *_: [SimpleNamespace(last=FIRST + timedelta(days=2))]
    )
    # Day 0 is delivered again when days 1 and 2 have long been published without a state.
    for folder in (one, other):
        write_events(spark, folder, [day, early])
    assert fold(spark, one, 0, 0)["states"] == 1
    fold(spark, other, 0, 2)
    assert hashes(one) == hashes(other) and len(rows_of(one, "profile_states")) == 2


def test_only_touched_users_are_folded_again(spark, history, tmp_path):
    folder = str(shutil.copytree(history, tmp_path / "w"))
    before = {(r["user_id"], r["as_of_date"]): r for r in rows_of(folder, "profile_states")}
    write_events(spark, folder, [*busy(), event(999, 1, 4, 2, 40, 5, "purchase")])
    counts = fold(spark, folder, 4, 4)
    assert (counts["profiles_changed"], counts["profiles_repaired"], counts["states"]) == (1, 1, 4)
    assert counts["states_moved"] > 0 and counts["drift_millionths"] > 0
    after = {(r["user_id"], r["as_of_date"]): r for r in rows_of(folder, "profile_states")}
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {("u2", FIRST + timedelta(days=day)) for day in range(1, 5)}
    assert differences(folder, FIRST + timedelta(days=4)) == []


@pytest.mark.parametrize("killed_at", ["profile_states", "user_profiles"])
def test_a_first_fold_killed_right_after_it_made_a_table_is_folded_whole(
    spark, vectors, history, tmp_path, monkeypatch, killed_at
):
    folder, real = str(shutil.copytree(vectors, tmp_path / "w")), delta.overwrite_where
    write_events(spark, folder, busy())

    def dies(spark, warehouse, table, rows, predicate):
        if table.name == killed_at:
            delta.open_table(spark, warehouse, table)
            raise KeyboardInterrupt
        real(spark, warehouse, table, rows, predicate)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(delta, "overwrite_where", dies)
        fold(spark, folder, 0, 4)
    fold(spark, folder, 0, 4)
    assert hashes(folder) == hashes(history)


@pytest.mark.parametrize("few", [0, 200_000])
def test_a_profile_whose_last_day_is_taken_back_is_the_one_before_it(
    spark, vectors, history, tmp_path, monkeypatch, few
):
    monkeypatch.setattr("jobs.fold.days.FEW_FACETS", few)
    one, other = (
        str(shutil.copytree(history, tmp_path / "one")),
        str(shutil.copytree(vectors, tmp_path / "other")),
    )
    left = [e for e in busy() if (e["user_id"], e["event_date"]) != ("u2", FIRST + timedelta(days=4))]
    for folder in (one, other):
        write_events(spark, folder, left)
    fold(spark, one, 4, 4)
    fold(spark, other, 0, 4)
    assert hashes(one) == hashes(other) != hashes(history)


def test_a_fold_after_a_fold_asks_no_profile_for_the_settings(spark, history, tmp_path):
    folder = str(shutil.copytree(history, tmp_path / "w"))
    note = delta.commit_note(spark, folder, user_profiles.TABLE)
    assert note["newest"] == str(FIRST + timedelta(days=4))
    known = SETTINGS.facet_hashes(model_key_of(SETTINGS.engine))
    assert newest_of_fold(spark, folder, None, known) == FIRST + timedelta(days=4)


def test_a_sleeper_s_file_is_left_alone(spark, vectors, tmp_path):
    folder = str(shutil.copytree(vectors, tmp_path / "w"))
    write_events(spark, folder, [event(1, 0, 0, 7, 1, 1), *busy(range(2, 4))])
    fold(spark, folder, 0, 2)
    asleep = sorted(Path(folder, "user_profiles").glob(f"as_of_date={FIRST}/*.parquet"))
    fold(spark, folder, 3, 3)
    assert sorted(Path(folder, "user_profiles").glob(f"as_of_date={FIRST}/*.parquet")) == asleep != []


# ---- the whole chain: a range, a rebuild, what would be done


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "logs"
    assert (
        make_demo_logs.main(["--logs", str(folder), "--days", "3", "--users", "12", "--start", str(FIRST)])
        == 0
    )
    return folder


def config_file(folder, text):
    file = folder / "config.yaml"
    file.write_text(f"engine: {{kind: hash}}\n{text}\n", encoding="utf-8")
    return str(file)


EVENING = "fold: {facets: [{name: evening, where: 'hour(event_ts) >= 18'}]}"


@pytest.mark.slow
def test_a_rebuild_folds_what_changed_and_gives_what_a_new_history_would(spark, logs, tmp_path, capsys):
    for name in ("plain", "evening", "other"):
        (tmp_path / name).mkdir()
    plain, evening = config_file(tmp_path / "plain", ""), config_file(tmp_path / "evening", EVENING)
    last = FIRST + timedelta(days=2)
    one, anew = tmp_path / "one", tmp_path / "anew"
    span = ("--logs", logs, "--start", FIRST, "--end", last)
    call(spark, backfill_profiles, one, plain, *span, "--dry-run")
    told = capsys.readouterr().out
    assert (
        "read: 3 days, 3 files" in told
        and "texts without a vector, about" in told
        and "profile_states, up to 3 partitions" in told
    )
    assert not (one / "behavior_events").exists()
    call(spark, backfill_profiles, one, plain, *span)
    assert "ingest [####################] 3 of 3 days" in capsys.readouterr().out
    call(spark, backfill_profiles, anew, evening, *span)
    with pytest.raises(JobError, match="run backfill_profiles --rebuild"):
        call(spark, run_night, one, evening, "--logs", logs, "--date", last)
    with pytest.raises(JobError, match="run backfill_profiles --rebuild"):
        call(spark, backfill_profiles, one, evening, *span, "--dry-run")

    before, rows = version_of(str(one), "profile_states"), rows_of(str(one), "profile_states")
    main_files = {f.name for f in one.glob("profile_states/*/*.parquet")}
    call(spark, backfill_profiles, one, evening, "--rebuild", "--dry-run")
    assert (
        "fold: evening, from the" in capsys.readouterr().out
        and version_of(str(one), "profile_states") == before
    )

    # Killed after the first table was swapped: the next run mends the second and publishes.
    with pytest.MonkeyPatch.context() as patched:
        real = delta.overwrite_where

        def dies(spark, warehouse, table, rows, predicate):
            if table.name == "user_profiles" and predicate.startswith("facet"):
                raise KeyboardInterrupt
            real(spark, warehouse, table, rows, predicate)

        patched.setattr(delta, "overwrite_where", dies)
        with pytest.raises(KeyboardInterrupt):
            call(spark, backfill_profiles, one, evening, "--rebuild")
    call(spark, backfill_profiles, one, evening, "--rebuild")
    assert hashes(one) == hashes(anew)
    runs = [
        r
        for r in rows_of(str(one), "pipeline_runs")
        if r["job"] == "fold_profiles" and dict(r["counts"]).get("states")
    ]
    evening_states = [r for r in rows_of(str(one), "profile_states") if r["facet"] == "evening"]
    assert evening_states and dict(max(runs, key=lambda r: r["started"])["counts"])["states"] in (
        len(evening_states),
        len(rows),
    )
    assert main_files <= {f.name for f in one.glob("profile_states/*/*.parquet")}
    # What was published before is there as it was.
    assert canonical_hash(rows_of(str(one), "profile_states", before), STATE_COLUMNS) == canonical_hash(
        rows, STATE_COLUMNS
    )
    assert not (one / "_rebuild").exists()
    published = [r for r in rows_of(str(one), "pipeline_runs") if r["status"] == "published"]
    assert len(published) == 2 and {r["from_date"] for r in published} == {FIRST}

    # A facet that no event enters is folded once too, and known from then on; back again both go, and nothing is folded.
    nobody = config_file(tmp_path / "other", EVENING.replace("[", "[{name: nobody, where: 'FALSE'}, "))
    call(spark, backfill_profiles, one, nobody, "--rebuild")
    call(spark, run_night, one, nobody, "--logs", logs, "--date", last)
    call(spark, backfill_profiles, one, plain, "--rebuild")
    assert canonical_hash(rows_of(str(one), "profile_states"), STATE_COLUMNS) == canonical_hash(
        rows, STATE_COLUMNS
    )
    call(spark, run_night, one, plain, "--logs", logs, "--date", last)


def test_arguments_that_do_not_go_together_are_refused(tmp_path, capsys):
    for argv, told in (
        (["--rebuild", "--start", "2025-03-03"], "leave out --logs"),
        (["--start", "2025-03-03"], "give --logs"),
    ):
        with pytest.raises(SystemExit) as stopped:
            backfill_profiles.main(["--warehouse", str(tmp_path / "w"), *argv])
        assert stopped.value.code == 2 and told in capsys.readouterr().err
