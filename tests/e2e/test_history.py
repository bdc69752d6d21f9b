"""Nights, ranges, chunks, repairs and rebuilds of one history end in the same bits as a plain fold.

Events and vectors are written directly into the tables, so that only the fold is tested, and histories are
drawn at random.
"""

import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import backfill_profiles, maintain_tables, run_night
from jobs.fold import ranges
from jobs.fold.days import fold_days
from jobs.fold.note import FoldNote
from jobs.fold.tables import newest_of_fold
from jobs.io.days import Days
from jobs.io.messages import JobError
from jobs.io.model import model_key_of
from jobs.io.runs import Run, RunLog, RunSpec
from jobs.io.warehouse import Warehouse, Writer, open_writer
from schemas import behavior_events, text_embeddings, user_profiles
from schemas.settings import Settings
from tests.builders import frame, row
from tests.e2e.conftest import FIRST
from tests.e2e.tables import (
    STATE_COLUMNS,
    WEIGHTS,
    Beside,
    call,
    differences,
    rows_of,
    state_hash,
    state_hashes,
    version_of,
)
from tests.oracle import Gate, canonical_hash

DIM = 12
SETTINGS = Settings.model_validate({"engine": {"kind": "hash", "hash_dimensions": DIM}})
# Facets beside main, and what the plain fold must know of them.
BESIDE_MAIN = [
    {"name": "recent", "half_life_days": 1.5, "type_weights": {"view": 1.0, "purchase": 0.0}},
    {"name": "long", "where": "true", "gate": "mean", "half_life_days": 300},
    {"name": "resisting", "relevance": "resist", "alpha": 0.5, "k_min": 0.2, "k_max": 0.9},
]
BESIDE = [
    Beside("recent", Gate(half_life_days=1.5), {"view": 1.0, "purchase": 0.0}),
    Beside("long", Gate(gate="mean", half_life_days=300.0), WEIGHTS),
    Beside("resisting", Gate(relevance="resist", alpha=0.5, k_min=0.2, k_max=0.9), WEIGHTS),
]
WITH_BESIDE = Settings.model_validate(SETTINGS.model_dump() | {"fold": {"facets": BESIDE_MAIN}})
TEXTS = [f"{number:064x}" for number in range(9)]


def day(number):
    return FIRST + timedelta(days=number)


def event(number, day_number, log_day, user, second, text, kind="view", rating=None, retracts=None):
    """A row of behavior_events."""
    when = datetime(2025, 3, 3, tzinfo=UTC) + timedelta(days=day_number, seconds=second)
    of_text = {} if kind == "retract" else {"text": "t", "text_key": TEXTS[text]}
    return row(
        behavior_events.TABLE,
        event_id=f"e{number:03}-é",
        user_id=f"u{user}",
        user_bucket=user,
        event_ts=when,
        event_date=when.date(),
        log_date=day(log_day),
        event_type=kind,
        rating=rating,
        retracts_event_id=retracts,
        **of_text,
    )


@st.composite
def histories(draw):
    """Events of three users over five log days: some late, early, negative, or retracted again."""
    kinds = (("view", None), ("purchase", None), ("rating", 0.25), ("rating", 0.9), ("return", None))
    events = []
    for number in range(draw(st.integers(1, 40))):
        day_number, late = draw(st.integers(0, 4)), draw(st.sampled_from((0, 0, 0, 1, 3, -1)))
        log_day = min(max(day_number + late, 0), 4)
        kind, rating = draw(st.sampled_from(kinds))
        user, second, text = (draw(st.integers(0, most)) for most in (2, 9, 8))
        events.append(event(number, day_number, log_day, user, second, text, kind, rating))
    # The first one stays: an empty history makes no tables.
    for number in draw(st.sets(st.integers(1, len(events)), max_size=4)) - {len(events)}:
        target = events[number]
        log_day = min((target["log_date"] - FIRST).days + draw(st.integers(0, 2)), 4)
        user = int(target["user_id"][1:])
        events.append(
            event(900 + number, log_day, log_day, user, 50, 0, "retract", retracts=target["event_id"])
        )
    return events


def write_events(spark, warehouse, events):
    """Replaces the stored events by these."""
    with open_writer(Warehouse(spark, str(warehouse)), "test") as writer:
        writer.overwrite(behavior_events.TABLE, frame(spark, behavior_events.TABLE, events))


@pytest.fixture(scope="module")
def vectors(spark, tmp_path_factory):
    """A warehouse with only the vectors."""
    folder = tmp_path_factory.mktemp("vectors")
    drawn = np.random.default_rng(7).standard_normal((len(TEXTS), DIM)).astype(np.float32)
    drawn[1] = -drawn[0]
    table, model = text_embeddings.TABLE, model_key_of(SETTINGS.engine)
    rows = [
        row(table, text_key=key, model_key=model, dim=DIM, vector=vector.tolist())
        for key, vector in zip(TEXTS, drawn, strict=True)
    ]
    with open_writer(Warehouse(spark, str(folder)), "test") as writer:
        writer.overwrite(table, frame(spark, table, rows))
    return folder


@pytest.fixture
def empty(vectors, tmp_path):
    """A copy of the warehouse with only the vectors."""
    return shutil.copytree(vectors, tmp_path / "empty")


def fold(spark, warehouse, first, last, work=fold_days, given=SETTINGS):
    """Folds these days as a step would, without records; returns the run's counts."""
    days = Days(day(first), day(last))
    with open_writer(Warehouse(spark, str(warehouse)), "test") as writer:
        run = Run(RunLog(writer.warehouse), writer, RunSpec("fold_profiles", "r", days, "c"))
        work(run, given, days)
    return run.counts


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
    nights, whole = (shutil.copytree(vectors, tmp_path_factory.mktemp("w") / "w") for _ in range(2))
    write_events(spark, whole, events)
    fold(spark, whole, 0, 5, given=WITH_BESIDE)
    assert differences(str(whole), day(5), BESIDE) == []

    # As nights, each with the events that had arrived by then, shuffled and in other tasks and batches.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jobs.fold.days.task_count", lambda *_: partitions)
        patched.setattr("jobs.fold.days.FEW_FACETS", few)
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch))
        for number in range(6):
            arrived = [e for e in events if e["log_date"] <= day(number)]
            if arrived:
                order.shuffle(arrived)
                write_events(spark, nights, arrived)
                fold(spark, nights, number, number, given=WITH_BESIDE)
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20000")
    assert state_hashes(nights) == state_hashes(whole)
    # A rerun changes nothing.
    versions = [version_of(str(nights), table) for table in ("profile_states", "user_profiles")]
    assert fold(spark, nights, 5, 5, given=WITH_BESIDE)["profiles_changed"] == 0
    assert [version_of(str(nights), table) for table in ("profile_states", "user_profiles")] == versions


def busy(days=range(5)):
    """Twelve events of three users on each of the days."""
    return [
        event(100 * d + n, d, d, n % 3, n, (n + d) % 9, "purchase" if n % 4 else "view")
        for d in days
        for n in range(12)
    ]


@pytest.fixture(scope="module")
def history(spark, vectors, tmp_path_factory):
    """Five busy days, folded at once."""
    folder = shutil.copytree(vectors, tmp_path_factory.mktemp("history") / "w")
    write_events(spark, folder, busy())
    fold(spark, folder, 0, 4)
    return folder


@pytest.fixture
def folded(history, tmp_path):
    """A copy of the folded history."""
    return shutil.copytree(history, tmp_path / "folded")


def test_facets_with_constants_of_their_own_end_in_the_bits_of_a_plain_fold(spark, empty, history):
    """In two runs with three days without events between them, and main as it is without them."""
    events = busy((0, 1, 5))
    write_events(spark, empty, events)
    for first, last in ((0, 1), (2, 5)):
        fold(spark, empty, first, last, given=WITH_BESIDE)
    assert differences(str(empty), day(5), BESIDE) == []
    of_main = [r for r in rows_of(str(empty), "profile_states") if r["facet"] == "main"]
    plain = [r for r in rows_of(str(history), "profile_states") if r["facet"] == "main"]
    early = [[r for r in rows if r["as_of_date"] <= day(1)] for rows in (of_main, plain)]
    assert canonical_hash(early[0], STATE_COLUMNS) == canonical_hash(early[1], STATE_COLUMNS)


@pytest.mark.slow
def test_a_range_killed_between_its_chunks_continues(spark, empty, history, monkeypatch, capsys):
    write_events(spark, empty, busy())
    monkeypatch.setattr(ranges, "CHUNK_EVENTS", 24)
    chunks = []

    def dies_in_the_second(run, settings, days, **where):
        chunks.append(days)
        if len(chunks) == 2:
            raise KeyboardInterrupt
        fold_days(run, settings, days, **where)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ranges, "fold_days", dies_in_the_second)
        fold(spark, empty, 0, 4, ranges.fold_range)
    counts = fold(spark, empty, 0, 4, ranges.fold_range)
    assert state_hashes(empty) == state_hashes(history)
    assert counts["stored"] == 60 and counts["events_folded"] == 36
    assert "[####################] 5 of 5 days" in capsys.readouterr().out


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=30), most=st.integers(1, 20))
def test_chunks_cover_each_day_once_and_are_as_large_as_allowed(counts, most):
    days = Days(FIRST, day(len(counts) - 1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranges, "CHUNK_EVENTS", most)
        chunks = [list(chunk) for chunk in ranges.day_chunks(days, dict(zip(days, counts, strict=True)))]
    assert [d for chunk in chunks for d in chunk] == list(days)
    count_of = dict(zip(days, counts, strict=True))
    totals = [sum(count_of[d] for d in chunk) for chunk in chunks]
    assert all(total <= most or len(chunk) == 1 for total, chunk in zip(totals, chunks, strict=True))
    # No chunk could take the first day of the next one.
    following = zip(totals, chunks[1:], strict=False)
    assert all(total + count_of[chunk[0]] > most for total, chunk in following)


@pytest.mark.slow
def test_days_before_a_thinned_out_history_are_folded_before_it(spark, empty, history):
    write_events(spark, empty, busy(range(2, 5)))
    fold(spark, empty, 2, 4)
    # Thinning leaves the first and the last state of each facet.
    with open_writer(Warehouse(spark, str(empty)), "test") as writer:
        assert maintain_tables.thin(writer.warehouse, writer, day(5)) > 0
    write_events(spark, empty, busy())
    fold(spark, empty, 0, 1, ranges.fold_range)
    assert state_hashes(empty) == state_hashes(history)


def test_an_event_of_the_next_day_is_folded_though_that_day_was_empty(spark, vectors, tmp_path, monkeypatch):
    one, other = (shutil.copytree(vectors, tmp_path / name) for name in ("one", "other"))
    own, early = event(1, 0, 0, 0, 5, 1), event(2, 1, 0, 0, 5, 2)
    write_events(spark, one, [own])
    fold(spark, one, 0, 0)
    # Day 0 is delivered again after days 1 and 2 were published without states.
    published = [SimpleNamespace(days=Days.only(day(2)))]
    monkeypatch.setattr(RunLog, "publications", lambda log: published)
    for folder in (one, other):
        write_events(spark, folder, [own, early])
    assert fold(spark, one, 0, 0)["states"] == 1
    fold(spark, other, 0, 2)
    assert state_hashes(one) == state_hashes(other)
    assert len(rows_of(str(one), "profile_states")) == 2


def test_only_touched_users_are_folded_again(spark, folded):
    def stored():
        return {(r["user_id"], r["as_of_date"]): r for r in rows_of(str(folded), "profile_states")}

    before = stored()
    write_events(spark, folded, [*busy(), event(999, 1, 4, 2, 40, 5, "purchase")])
    counts = fold(spark, folded, 4, 4)
    assert (counts["profiles_changed"], counts["profiles_repaired"], counts["states"]) == (1, 1, 4)
    assert counts["states_moved"] > 0 and counts["drift_millionths"] > 0
    after = stored()
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {("u2", day(number)) for number in range(1, 5)}
    assert differences(str(folded), day(4)) == []


@pytest.mark.parametrize("killed_at", ["profile_states", "user_profiles"])
def test_a_first_fold_killed_after_creating_a_table_is_folded_completely(
    spark, empty, history, monkeypatch, killed_at
):
    write_events(spark, empty, busy())
    replace = Writer.replace

    def dies(writer, table, rows, predicate):
        if table.name == killed_at:
            writer.create(table)
            raise KeyboardInterrupt
        replace(writer, table, rows, predicate)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "replace", dies)
        fold(spark, empty, 0, 4)
    fold(spark, empty, 0, 4)
    assert state_hashes(empty) == state_hashes(history)


@pytest.fixture(scope="module")
def withdrawn(spark, vectors, tmp_path_factory):
    """The history's events without the last day of one user, and the state hashes when folded at once."""
    rest = [e for e in busy() if (e["user_id"], e["event_date"]) != ("u2", day(4))]
    folder = shutil.copytree(vectors, tmp_path_factory.mktemp("withdrawn") / "w")
    write_events(spark, folder, rest)
    fold(spark, folder, 0, 4)
    return rest, state_hashes(folder)


@pytest.mark.parametrize("few", [0, 200_000])
def test_a_profile_whose_last_day_is_withdrawn_is_the_one_before_it(
    spark, folded, withdrawn, history, monkeypatch, few
):
    rest, expected = withdrawn
    monkeypatch.setattr("jobs.fold.days.FEW_FACETS", few)
    write_events(spark, folded, rest)
    fold(spark, folded, 4, 4)
    assert state_hashes(folded) == expected != state_hashes(history)


def test_a_fold_after_a_fold_reads_its_settings_from_the_note(spark, history):
    warehouse = Warehouse(spark, str(history))
    assert FoldNote.of(warehouse, user_profiles.TABLE).newest == day(4)
    known = SETTINGS.facet_hashes(model_key_of(SETTINGS.engine))
    # No profiles are given that it could read instead.
    assert newest_of_fold(warehouse, None, known) == day(4)


def test_the_file_of_an_inactive_user_is_not_rewritten(spark, empty):
    def files():
        return sorted((empty / "user_profiles").glob(f"as_of_date={FIRST}/*.parquet"))

    write_events(spark, empty, [event(1, 0, 0, 7, 1, 1), *busy(range(2, 4))])
    fold(spark, empty, 0, 2)
    before = files()
    fold(spark, empty, 3, 3)
    assert files() == before != []


# ---- the entire chain: a range, a rebuild, a dry run


def config_file(folder, name, text):
    file = folder / f"{name}.yaml"
    file.write_text(f"engine: {{kind: hash}}\n{text}\n", encoding="utf-8")
    return str(file)


EVENING = (
    "fold: {facets: [{name: evening, where: 'hour(event_ts) >= 18', half_life_days: 2, type_weights: {}}]}"
)
# A facet that no event enters.
NOBODY = EVENING.replace("[", "[{name: nobody, where: 'FALSE'}, ")


@pytest.mark.slow
def test_a_rebuild_folds_what_changed_and_ends_like_a_new_history(spark, logs, tmp_path, capsys):
    plain, evening = config_file(tmp_path, "plain", ""), config_file(tmp_path, "evening", EVENING)
    last = day(2)
    one, anew = tmp_path / "one", tmp_path / "anew"
    span = ("--logs", logs, "--start", FIRST, "--end", last)
    call(spark, backfill_profiles, one, plain, *span, "--dry-run")
    printed = capsys.readouterr().out
    assert "read: 3 days, 3 files" in printed
    assert "texts without a vector, about" in printed
    assert "profile_states, up to 3 partitions" in printed
    assert not (one / "behavior_events").exists()
    call(spark, backfill_profiles, one, plain, *span)
    assert f"ingest_events {FIRST}..{last}: " in capsys.readouterr().out
    call(spark, backfill_profiles, anew, evening, *span)
    with pytest.raises(JobError, match="run backfill_profiles --rebuild"):
        call(spark, run_night, one, evening, "--logs", logs, "--date", last)
    with pytest.raises(JobError, match="run backfill_profiles --rebuild"):
        call(spark, backfill_profiles, one, evening, *span, "--dry-run")

    before, plain_hash = version_of(str(one), "profile_states"), state_hash(one)
    count = len(rows_of(str(one), "profile_states"))
    main_files = {f.name for f in one.glob("profile_states/*/*.parquet")}
    call(spark, backfill_profiles, one, evening, "--rebuild", "--dry-run")
    assert "fold: evening, from the" in capsys.readouterr().out
    assert version_of(str(one), "profile_states") == before

    # Killed after the first table was swapped: the rerun completes the second one and publishes.
    replace = Writer.replace

    def dies(writer, table, rows, predicate):
        if table.name == "user_profiles" and predicate.startswith("facet"):
            raise KeyboardInterrupt
        replace(writer, table, rows, predicate)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "replace", dies)
        call(spark, backfill_profiles, one, evening, "--rebuild")
    call(spark, backfill_profiles, one, evening, "--rebuild")
    assert state_hashes(one) == state_hashes(anew)
    folds = [r for r in rows_of(str(one), "pipeline_runs") if r["job"] == "fold_profiles"]
    newest = max((r for r in folds if dict(r["counts"]).get("states")), key=lambda r: r["started"])
    evening_states = [r for r in rows_of(str(one), "profile_states") if r["facet"] == "evening"]
    assert evening_states and dict(newest["counts"])["states"] in (len(evening_states), count)
    assert main_files <= {f.name for f in one.glob("profile_states/*/*.parquet")}
    # The version published before is unchanged.
    old_rows = rows_of(str(one), "profile_states", before)
    assert canonical_hash(old_rows, STATE_COLUMNS) == plain_hash
    assert not (one / "_rebuild").exists()
    published = [r for r in rows_of(str(one), "pipeline_runs") if r["status"] == "published"]
    assert len(published) == 2 and {r["from_date"] for r in published} == {FIRST}

    # A facet that no event enters is folded once and known from then on. Without both facets the plain states
    # are back, and nothing is folded.
    nobody = config_file(tmp_path, "nobody", NOBODY)
    call(spark, backfill_profiles, one, nobody, "--rebuild")
    call(spark, run_night, one, nobody, "--logs", logs, "--date", last)
    call(spark, backfill_profiles, one, plain, "--rebuild")
    assert state_hash(one) == plain_hash
    call(spark, run_night, one, plain, "--logs", logs, "--date", last)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rebuild", "--start", "2025-03-03"], "leave out --logs"),
        (["--start", "2025-03-03"], "give --logs"),
    ],
)
def test_arguments_that_exclude_each_other_are_refused(argv, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        backfill_profiles.main(["--warehouse", str(tmp_path / "w"), *argv])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
