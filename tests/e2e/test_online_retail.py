"""Real purchases through the real parts: Spark, vLLM, Delta; read back with the deltalake package alone."""

from datetime import date

import numpy as np
import pytest

from jobs import backfill_profiles, import_dataset, run_night
from tests.e2e.tables import differences, folded_events, rows_of, version_of

FIRST, LAST, CLOSED, NIGHT = date(2010, 12, 1), date(2010, 12, 10), date(2010, 12, 11), date(2010, 12, 12)
TABLES = (
    "behavior_events",
    "quarantined_events",
    "items",
    "text_embeddings",
    "profile_states",
    "user_profiles",
)

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def logs(spark, shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("retail") / "logs"
    source = shared_data / "uci-online-retail"
    parser = import_dataset.arg_parser()
    import_dataset.run(
        spark,
        parser.parse_args(["--mapping", "online_retail", "--source", str(source), "--logs", str(folder)]),
    )
    return folder


@pytest.fixture(scope="module")
def retail(spark, logs, tmp_path_factory):
    """The warehouse after the backfill of ten days and the night of the 12th; the 11th was closed."""
    warehouse = str(tmp_path_factory.mktemp("retail") / "warehouse")
    call(spark, backfill_profiles, warehouse, logs, "--start", FIRST, "--end", LAST)
    call(spark, run_night, warehouse, logs, "--date", NIGHT)
    return warehouse


def call(spark, job, warehouse, logs, *more):
    words = ["--warehouse", warehouse, "--logs", str(logs), "--mapping", "online_retail", *map(str, more)]
    job.run(spark, job.arg_parser().parse_args(words))


def test_each_distinct_text_has_one_vector_of_unit_length(retail):
    embeddings = rows_of(retail, "text_embeddings")
    texts = {row["text_key"] for row in rows_of(retail, "behavior_events") if row["text_key"] is not None}
    assert sorted(row["text_key"] for row in embeddings) == sorted(texts)
    vectors = np.array([row["vector"] for row in embeddings], np.float32)
    assert vectors.shape == (len(texts), 384)
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert {row["engine"] for row in embeddings} == {"vllm"}


def test_states_are_of_exactly_the_users_with_a_folded_event_that_day(retail):
    vectors = {row["text_key"] for row in rows_of(retail, "text_embeddings")}
    folded = folded_events(rows_of(retail, "behavior_events"), vectors)
    states = rows_of(retail, "profile_states")
    assert {(r["user_id"], r["as_of_date"]) for r in states} == {
        (e["user_id"], e["event_date"]) for e in folded
    }
    assert NIGHT in {r["as_of_date"] for r in states} and CLOSED not in {r["as_of_date"] for r in states}


def test_a_plain_fold_gives_the_same_profiles_to_the_bit(retail):
    assert differences(retail, NIGHT) == []


def test_the_closed_day_is_covered_by_the_night_after_it(retail):
    spans = {
        (r["from_date"], r["date"]) for r in rows_of(retail, "pipeline_runs") if r["status"] == "published"
    }
    assert spans == {(FIRST, LAST), (CLOSED, NIGHT)}


def test_rows_without_a_customer_are_quarantined_and_the_counts_add_up(retail):
    done = [
        dict(r["counts"])
        for r in rows_of(retail, "pipeline_runs")
        if r["job"] == "ingest_events" and r["status"] == "done"
    ]
    quarantined = rows_of(retail, "quarantined_events")
    assert sum(c["read"] for c in done) == sum(c["stored"] + c["quarantined"] + c["duplicate"] for c in done)
    assert sum(c["stored"] for c in done) == len(rows_of(retail, "behavior_events"))
    assert sum(c["quarantined"] for c in done) == len(quarantined) > 0
    assert {row["reason"] for row in quarantined} == {"missing_user"}


def test_a_rerun_changes_no_row_and_starts_no_engine(spark, logs, retail, monkeypatch):
    def no_engine(*args):
        raise AssertionError("a rerun with nothing new asked for the engine")

    monkeypatch.setattr("jobs.embed.days.embed_tile", no_engine)
    before = {name: version_of(retail, name) for name in TABLES}
    call(spark, run_night, retail, logs, "--date", NIGHT)
    call(spark, run_night, retail, logs, "--date", date(2010, 12, 3))
    call(spark, backfill_profiles, retail, logs, "--start", FIRST, "--end", LAST)
    assert {name: version_of(retail, name) for name in TABLES} == before
