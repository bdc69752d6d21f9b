"""Real purchases through Spark, vLLM and Delta, read back with the deltalake package alone."""

from datetime import date

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import backfill_profiles, import_dataset, run_night
from tests.e2e.tables import differences, folded_events, rows_of, version_of

FIRST, LAST, CLOSED, NIGHT = (date(2010, 12, day) for day in (9, 10, 11, 12))
TABLES = (
    "behavior_events",
    "quarantined_events",
    "items",
    "text_embeddings",
    "profile_states",
    "user_profiles",
)

# The fast suite has the same on a generated log with the hash engine, and vLLM alone in tests/udfs/engines.
pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module")
def logs(spark, shared_data, tmp_path_factory):
    """The imported logs of the four days."""
    folder = tmp_path_factory.mktemp("retail")
    name = "online_retail.parquet"
    within = [("InvoiceDate", ">=", str(FIRST)), ("InvoiceDate", "<", "2010-12-13")]
    days = pq.read_table(shared_data / "uci-online-retail" / name, filters=within)
    (folder / "source").mkdir()
    pq.write_table(days, folder / "source" / name)
    imported(spark, folder / "source", folder / "logs")
    return folder / "logs"


def imported(spark, source, logs):
    words = ["--mapping", "online_retail", "--source", str(source), "--logs", str(logs)]
    import_dataset.run(spark, import_dataset.arg_parser().parse_args(words))


@pytest.fixture(scope="module")
def retail(spark, logs, tmp_path_factory):
    """The warehouse after the backfill of two days and the night of the 12th; the 11th was closed."""
    warehouse = str(tmp_path_factory.mktemp("retail") / "warehouse")
    call(spark, backfill_profiles, warehouse, logs, "--start", FIRST, "--end", LAST)
    call(spark, run_night, warehouse, logs, "--date", NIGHT)
    return warehouse


def call(spark, job, warehouse, logs, *more):
    words = ["--warehouse", warehouse, "--logs", str(logs), "--mapping", "online_retail", *map(str, more)]
    job.run(spark, job.arg_parser().parse_args(words))


def test_the_entire_data_set_is_imported(spark, shared_data, tmp_path):
    imported(spark, shared_data / "uci-online-retail", tmp_path / "logs")
    days = sorted(path.name for path in (tmp_path / "logs").glob("dt=*"))
    assert (days[0], days[-1], len(days)) == ("dt=2010-12-01", "dt=2011-12-09", 374)
    assert all((tmp_path / "logs" / day / "_SUCCESS").exists() for day in days)


def test_each_distinct_text_has_one_vector_of_unit_length(retail):
    embeddings = rows_of(retail, "text_embeddings")
    texts = {row["text_key"] for row in rows_of(retail, "behavior_events") if row["text_key"] is not None}
    assert sorted(row["text_key"] for row in embeddings) == sorted(texts)
    vectors = np.array([row["vector"] for row in embeddings], np.float32)
    assert vectors.shape == (len(texts), 384)
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert {row["engine"] for row in embeddings} == {"vllm"}


def test_users_have_a_state_on_exactly_the_days_of_their_folded_events(retail):
    vectors = {row["text_key"] for row in rows_of(retail, "text_embeddings")}
    folded = folded_events(rows_of(retail, "behavior_events"), vectors)
    states = rows_of(retail, "profile_states")
    active = {(e["user_id"], e["event_date"]) for e in folded}
    assert {(r["user_id"], r["as_of_date"]) for r in states} == active
    days = {r["as_of_date"] for r in states}
    assert NIGHT in days and CLOSED not in days


def test_profiles_are_those_of_a_plain_fold(retail):
    assert differences(retail, NIGHT) == []


def test_the_closed_day_is_covered_by_the_night_after_it(retail):
    published = [r for r in rows_of(retail, "pipeline_runs") if r["status"] == "published"]
    assert {(r["from_date"], r["date"]) for r in published} == {(FIRST, LAST), (CLOSED, NIGHT)}


def test_rows_without_a_customer_are_quarantined_and_the_counts_add_up(retail):
    ingests = [r for r in rows_of(retail, "pipeline_runs") if r["job"] == "ingest_events"]
    done = [dict(r["counts"]) for r in ingests if r["status"] == "done"]
    quarantined = rows_of(retail, "quarantined_events")
    assert sum(c["read"] for c in done) == sum(c["stored"] + c["quarantined"] + c["duplicate"] for c in done)
    assert sum(c["stored"] for c in done) == len(rows_of(retail, "behavior_events"))
    assert sum(c["quarantined"] for c in done) == len(quarantined) > 0
    assert {row["reason"] for row in quarantined} == {"missing_user"}


def test_a_rerun_changes_no_row_and_starts_no_engine(spark, logs, retail, monkeypatch):
    def no_engine(*args):
        raise AssertionError("a rerun with nothing new started the engine")

    monkeypatch.setattr("jobs.embed.days.embed_tile", no_engine)
    before = {name: version_of(retail, name) for name in TABLES}
    call(spark, run_night, retail, logs, "--date", NIGHT)
    call(spark, run_night, retail, logs, "--date", FIRST)
    call(spark, backfill_profiles, retail, logs, "--start", FIRST, "--end", LAST)
    assert {name: version_of(retail, name) for name in TABLES} == before
