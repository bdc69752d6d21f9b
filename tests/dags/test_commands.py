"""The command of every task: DAG runs with a fake spark-submit that records its arguments.

The commands must equal tests/golden/commands/; `pytest tests/dags --record` rewrites those files, and
tests/jobs/test_golden_commands.py checks them against the jobs' own parsers.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.definitions.param import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from tests.dags.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "commands"
NOON = datetime(2025, 4, 2, 12, tzinfo=UTC)
RANGE = {"start": "2025-03-03", "end": "2025-04-01"}
# The embed task alone requests GPUs, and overrides one property of every task.
STEP_CONF = {
    "embed_texts": {
        "spark.driver.memory": "4g",
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.discoveryScript": "/opt/nightfold/docker/get_gpus.sh",
    }
}
HOSTILE = "a b; touch pwned $(touch pwned) `touch pwned` '\" {{ 1/0 }} * --name x"
SPARK_SUBMIT = f"""#!{sys.executable}
import json, os, sys
with open({{calls!r}}, "a") as file:
    print(json.dumps([sys.argv, os.environ["PYTHONPATH"], os.environ["PYSPARK_PYTHON"]]), file=file)
"""


@pytest.fixture(scope="module")
def bag(database) -> BundleDagBag:
    return BundleDagBag(ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose spark-submit only records how it was called, and the log of one day."""
    binary = tmp_path / ".venv" / "bin" / "spark-submit"
    binary.parent.mkdir(parents=True)
    binary.write_text(SPARK_SUBMIT.format(calls=str(tmp_path / "calls")), encoding="utf-8")
    binary.chmod(0o755)
    variables = {
        "root": tmp_path,
        "logs": "logs",
        "warehouse": "warehouse",
        "mapping": "canonical",
        "config": "nightfold.yaml",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"AIRFLOW_VAR_NIGHTFOLD_{name.upper()}", str(value))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTFOLD_SPARK_CONF", json.dumps({"spark.driver.memory": "2g"}))
    monkeypatch.delenv("AIRFLOW_VAR_NIGHTFOLD_STEP_CONF", raising=False)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    close_log(tmp_path / "logs")
    return tmp_path


def close_log(logs: Path, day: str = "2025-04-01") -> None:
    folder = logs / f"dt={day}"
    folder.mkdir(parents=True)
    (folder / "_SUCCESS").touch()


def run(dag: DAG, root: Path, conf: dict[str, str] | None = None, moment: datetime = NOON) -> list[list[str]]:
    """The commands of one successful run, as argument lists."""
    (root / "calls").unlink(missing_ok=True)
    assert dag.test(logical_date=moment, run_conf=conf).state == "success"
    calls = [json.loads(line) for line in (root / "calls").read_text(encoding="utf-8").splitlines()]
    assert {(path, python) for _, path, python in calls} == {(str(root), f"{root}/.venv/bin/python")}
    return [argv for argv, _, _ in calls]


def job_of(argv: list[str]) -> str:
    return next(Path(word).stem for word in argv if word.endswith(".py"))


def as_text(argv: list[str], root: Path) -> str:
    return "".join(f"{word}\n" for word in argv).replace(str(root), "{root}")


@pytest.fixture
def golden(request):
    """The recorded text of a golden file; with --record, records the given text first."""

    def read(name: str, text: str) -> str:
        if request.config.getoption("--record"):
            (GOLDEN / name).write_text(text, encoding="utf-8")
        return (GOLDEN / name).read_text(encoding="utf-8")

    return read


@pytest.mark.parametrize(
    "dag_id",
    ["profiles_nightly", "profiles_backfill", "profiles_evaluation", "ranker_training", "tables_maintenance"],
)
def test_commands_equal_the_recorded_ones(dag_id, bag, root, golden):
    for argv in run(bag.dags[dag_id], root, RANGE if dag_id == "profiles_backfill" else None):
        text = as_text(argv, root)
        assert text == golden(f"{dag_id}.{job_of(argv)}.txt", text)


def test_only_the_configured_step_requests_gpus(bag, root, golden, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTFOLD_STEP_CONF", json.dumps(STEP_CONF))
    for argv in run(bag.dags["profiles_nightly"], root):
        text, job = as_text(argv, root), job_of(argv)
        if job == "embed_texts":
            assert text == golden("profiles_nightly.embed_texts.gpu.txt", text)
        else:
            assert text == (GOLDEN / f"profiles_nightly.{job}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", ["", '{"fold_profiles": {}, "backfill_profiles": {"a": "b"}}'])
def test_step_conf_for_no_step_of_the_night_changes_nothing(value, bag, root, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTFOLD_STEP_CONF", value)
    for argv in run(bag.dags["profiles_nightly"], root):
        recorded = GOLDEN / f"profiles_nightly.{job_of(argv)}.txt"
        assert as_text(argv, root) == recorded.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('{"embed_text": {}}', "nightfold_step_conf names 'embed_text', which is not a job"),
        ('{"wait_for_log": {}}', "nightfold_step_conf names 'wait_for_log', which is not a job"),
        ('{"embed_texts": "spark.executor.cores=1"}', "must give 'embed_texts' a JSON object"),
        ('["embed_texts"]', "nightfold_step_conf must be a JSON object"),
        ("embed_texts", "nightfold_step_conf is not valid JSON"),
    ],
)
def test_bad_step_conf_fails_the_night_at_once(value, sentence, bag, root, monkeypatch, caplog, capsys):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTFOLD_STEP_CONF", value)
    assert bag.dags["profiles_nightly"].test(logical_date=NOON).state == "failed"
    assert not (root / "calls").exists()
    assert sentence in caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize("variable", ["SPARK_CONF", "STEP_CONF"])
@pytest.mark.parametrize(
    "name",
    ["spark.executorEnv.NIGHTFOLD_ENGINE_KEY", "spark.hadoop.fs.s3a.secret.key", "spark.authenticate.secret"],
)
def test_a_secret_in_a_variable_fails_the_night_before_it_is_an_argument(
    variable, name, bag, root, monkeypatch, caplog, capsys
):
    conf = {name: "hidden-7"} if variable == "SPARK_CONF" else {"ingest_events": {name: "hidden-7"}}
    monkeypatch.setenv(f"AIRFLOW_VAR_NIGHTFOLD_{variable}", json.dumps(conf))
    assert bag.dags["profiles_nightly"].test(logical_date=NOON).state == "failed"
    said = caplog.text + "".join(capsys.readouterr())
    assert not (root / "calls").exists() and f"can't hold a secret, as {name} is" in said
    assert "hidden-7" not in said


def test_properties_that_only_say_where_a_secret_is_are_passed_on(bag, root, monkeypatch):
    conf = {
        "spark.authenticate.secret.file": "/etc/spark/secret",
        "spark.kubernetes.driver.secrets.keys": "/etc/keys",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.example.Provider",
    }
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTFOLD_SPARK_CONF", json.dumps(conf))
    for argv in run(bag.dags["profiles_nightly"], root):
        assert {f"{name}={value}" for name, value in conf.items()} <= set(argv)


def test_every_job_of_a_dag_has_a_recorded_command(bag):
    tasks = {
        f"{dag.dag_id}.{task.task_id}.txt"
        for dag in bag.dags.values()
        for task in dag.tasks
        if hasattr(task, "application")
    }
    assert {path.name for path in GOLDEN.iterdir()} == tasks | {"profiles_nightly.embed_texts.gpu.txt"}


@pytest.mark.parametrize("moment", [NOON.replace(hour=0), NOON, NOON.replace(hour=23, minute=59)])
def test_a_night_started_by_hand_takes_the_day_before_its_logical_date(bag, root, moment):
    commands = run(bag.dags["profiles_nightly"], root, moment=moment)
    assert [job_of(argv) for argv in commands] == [
        "ingest_events",
        "embed_texts",
        "fold_profiles",
        "recommend_items",
        "check_tables",
        "publish_run",
    ]
    assert {(argv[argv.index("--date") + 1], argv[argv.index("--run-id") + 1]) for argv in commands} == {
        ("2025-04-01", "profiles_nightly-2025-04-01")
    }


def as_the_scheduler_knows_it(dag: DAG) -> SerializedDAG:
    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))


def test_a_scheduled_or_backfilled_night_takes_one_full_day(bag):
    nights = as_the_scheduler_knows_it(bag.dags["profiles_nightly"]).iter_dagrun_infos_between(
        NOON - timedelta(days=3), NOON
    )
    spans = [night.data_interval for night in nights]
    starts = [
        datetime(2025, 3, 31, tzinfo=UTC),
        datetime(2025, 4, 1, tzinfo=UTC),
        datetime(2025, 4, 2, tzinfo=UTC),
    ]
    assert [(span.start, span.end) for span in spans] == [
        (start, start + timedelta(days=1)) for start in starts
    ]


def test_settings_that_are_not_given_are_omitted(bag, root, monkeypatch):
    for name in ("CONFIG", "MAPPING", "LOGS", "WAREHOUSE", "SPARK_CONF"):
        monkeypatch.delenv(f"AIRFLOW_VAR_NIGHTFOLD_{name}")
    ingest = run(bag.dags["profiles_nightly"], root)[0]
    assert ingest[1:] == [
        *("--master", "local[*]", "--name", "nightfold ingest_events"),
        *(f"{root}/jobs/ingest_events.py", "--date", "2025-04-01"),
        *("--run-id", "profiles_nightly-2025-04-01", "--logs", f"{root}/logs", "--mapping", "canonical"),
        *("--warehouse", f"{root}/warehouse"),
    ]  # fmt: skip


def test_a_hostile_setting_stays_one_argument(bag, root, monkeypatch):
    close_log(root / HOSTILE)
    monkeypatch.chdir(root)
    for name in ("LOGS", "WAREHOUSE", "MAPPING", "CONFIG"):
        monkeypatch.setenv(f"AIRFLOW_VAR_NIGHTFOLD_{name}", HOSTILE)
    for argv in run(bag.dags["profiles_nightly"], root):
        given = {
            argv[i]: argv[i + 1]
            for i in range(len(argv))
            if argv[i] in ("--logs", "--warehouse", "--mapping", "--config")
        }
        assert given.pop("--mapping", HOSTILE) == HOSTILE
        assert set(given.values()) == {f"{root}/{HOSTILE}"}
    assert not list(root.rglob("pwned"))


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"start": "2025-03-03"},
        RANGE | {"start": "2025-02-30"},
        RANGE | {"start": "20250303"},
        RANGE | {"start": "2025-W10-1"},
        RANGE | {"start": "2025-03-03\n"},
        RANGE | {"start": "2025-03-03; touch pwned"},
        RANGE | {"start": "$(touch pwned)"},
        RANGE | {"start": "{{ 1/0 }}"},
        RANGE | {"start": "--dry-run"},
        RANGE | {"end": None},
        RANGE | {"end": 20250401},
        RANGE | {"end": ["2025-04-01"]},
    ],
    ids=str,
)
def test_an_invalid_range_is_refused_by_the_schema(bag, conf):
    params = as_the_scheduler_knows_it(bag.dags["profiles_backfill"]).params
    with pytest.raises(ParamValidationError):
        params.deep_merge(conf).validate()


def test_a_valid_range_passes_the_schema(bag):
    as_the_scheduler_knows_it(bag.dags["profiles_backfill"]).params.deep_merge(RANGE).validate()


def test_a_range_that_ends_before_it_starts_is_refused_at_once(bag, root):
    refused = bag.dags["profiles_backfill"].test(
        logical_date=NOON, run_conf={"start": RANGE["end"], "end": RANGE["start"]}
    )
    assert refused.state == "failed" and not (root / "calls").exists()


def test_a_run_without_a_logical_date_is_refused(bag, root):
    refused = bag.dags["profiles_nightly"].test(logical_date=None)
    assert refused.state == "failed" and not (root / "calls").exists()
