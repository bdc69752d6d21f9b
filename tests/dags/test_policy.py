"""Rules for every DAG: it loads, documents itself, runs once at a time, and limits its tasks in time."""

import ast
from datetime import timedelta

import pytest
from airflow.dag_processing.dagbag import BundleDagBag

from tests.dags.conftest import ROOT

BAG = BundleDagBag(ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")
DAGS = {
    "profiles_nightly",
    "profiles_backfill",
    "profiles_evaluation",
    "ranker_training",
    "tables_maintenance",
}
TASKS = [task for dag in BAG.dags.values() for task in dag.tasks]


def test_each_file_loads_and_defines_one_dag_of_the_same_name():
    assert BAG.import_errors == {} and BAG.captured_warnings == {}
    assert set(BAG.dags) == DAGS == {path.stem for path in (ROOT / "dags").glob("*.py")} - {"spark_jobs"}
    assert {stat.file.lstrip("/") for stat in BAG.dagbag_stats} == {f"{name}.py" for name in DAGS}


@pytest.mark.parametrize("dag", BAG.dags.values(), ids=lambda dag: dag.dag_id)
def test_a_dag_runs_once_at_a_time_and_never_catches_up(dag):
    assert dag.max_active_runs == 1 and dag.catchup is False
    assert "nightfold" in dag.tags and len(dag.tags) > 1
    assert dag.doc_md == ast.get_docstring(
        ast.parse((ROOT / "dags" / f"{dag.dag_id}.py").read_text(encoding="utf-8")), clean=False
    )


def test_a_task_starts_only_once_all_before_it_have_succeeded():
    assert {task.trigger_rule for task in TASKS} == {"all_success"}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.dag_id}.{task.task_id}")
def test_a_task_has_an_owner_retries_with_backoff_and_a_time_limit(task):
    assert task.owner == "nightfold"
    assert (
        task.retries >= 2
        and task.retry_exponential_backoff > 1
        and task.max_retry_delay <= timedelta(hours=1)
    )
    assert timedelta() < task.execution_timeout <= timedelta(hours=12)


def test_the_steps_of_a_night_are_in_order():
    nightly = BAG.dags["profiles_nightly"]
    steps = [
        "wait_for_log",
        "ingest_events",
        "embed_texts",
        "fold_profiles",
        "recommend_items",
        "check_tables",
        "publish_run",
    ]
    assert [task.task_id for task in nightly.topological_sort()] == steps
    assert [task.downstream_list for task in map(nightly.get_task, steps)] == [
        [nightly.get_task(step)] for step in steps[1:]
    ] + [[]]


def test_the_night_waits_without_a_worker_and_with_a_timeout():
    wait = BAG.dags["profiles_nightly"].get_task("wait_for_log")
    assert wait.deferrable and 0 < wait.timeout <= wait.execution_timeout.total_seconds()


def test_the_tasks_that_publish_update_the_assets():
    updated = {task.task_id: sorted(asset.name for asset in task.outlets) for task in TASKS if task.outlets}
    tables = ["behavior_events", "items", "profile_states", "text_embeddings", "user_profiles"]
    assert updated == {
        job: [f"nightfold_{table}" for table in tables] for job in ("publish_run", "backfill_profiles")
    }
