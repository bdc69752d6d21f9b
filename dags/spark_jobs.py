"""Shared by the DAGs: how a job of this repository becomes one spark-submit, configured by Airflow Variables.

Every setting is read when a task starts, never when the file is parsed, and becomes one element of an
argument list: no value passes through a shell.
"""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, Variable
from airflow.sdk.exceptions import AirflowFailException

HERE = str(Path(__file__).resolve().parent.parent)
# The default of each Variable nightfold_NAME.
DEFAULTS: dict[str, Any] = {
    "root": HERE,  # the repository, with its .venv
    "logs": "logs",
    "warehouse": "warehouse",
    "evaluations": "evaluations",  # folder of the weekly judgements
    "mapping": "canonical",  # name of a shipped mapping, or a file
    "config": "",  # settings file; empty: the defaults
    "py_files": "",  # on a cluster: the zip with the jobs
    "spark_conf": {},  # JSON object of Spark properties
    "step_conf": {},  # JSON object: a task's id -> Spark properties that override spark_conf for this task
}
PATHS = {"logs", "warehouse", "evaluations", "config", "py_files"}  # relative paths start at the root

# Assets for other DAGs to schedule on, updated when a night or a range is published.
PUBLISHED = [
    Asset(f"nightfold_{table}")
    for table in ("behavior_events", "items", "text_embeddings", "profile_states", "user_profiles")
]

# Names of Spark properties with a secret, and of those that say only where one is.
SECRET = re.compile(r"(?i)secret|password|passwd|token|access[._-]?key|api[._-]?key|_key\b")
PLACE_OF_SECRET = re.compile(r"(?i)file$|\.secrets\.|secretKeyRef")

POLICY = {
    "owner": "nightfold",
    "retries": 3,
    "retry_delay": timedelta(minutes=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(hours=1),
    "execution_timeout": timedelta(hours=6),
}


def setting(name: str) -> Any:
    """The value of Variable nightfold_NAME, or its default; an empty text is an empty JSON object."""
    default = DEFAULTS[name]
    value = Variable.get(f"nightfold_{name}", default=default)
    if isinstance(default, dict):
        return json_object(name, value) if value else default
    if name in PATHS and value and "://" not in value:
        return str(Path(setting("root"), value))
    return value


def json_object(name: str, text: str) -> dict[str, Any]:
    """The JSON object in a Variable."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise AirflowFailException(f"Variable nightfold_{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise AirflowFailException(f"Variable nightfold_{name} must be a JSON object")
    return value


def spark_conf(task_id: str) -> dict[str, Any]:
    """The Spark properties of one task: `spark_conf`, overridden by the task's own entry of `step_conf`."""
    steps = setting("step_conf")
    for step, conf in steps.items():
        # A misspelt name would leave a task without its properties, unnoticed.
        if not Path(setting("root"), "jobs", f"{step}.py").is_file():
            raise AirflowFailException(
                f"Variable nightfold_step_conf names '{step}', which is not a job; "
                "name tasks by their ids, e.g. embed_texts"
            )
        if not isinstance(conf, dict):
            raise AirflowFailException(
                f"Variable nightfold_step_conf must give '{step}' a JSON object of Spark properties"
            )
    conf = setting("spark_conf") | steps.get(task_id, {})
    # They become arguments, which stand in the process list and in the task's log.
    for name in conf:
        if SECRET.search(name) and not PLACE_OF_SECRET.search(name):
            raise AirflowFailException(
                f"Variables nightfold_spark_conf and nightfold_step_conf can't hold a secret, as {name} is: "
                "name a file with it in the settings (engine.key_file, privacy.key_file), or put the "
                "property into Spark's own spark-defaults.conf, of mode 600"
            )
    return conf


def day(moment: datetime | None, back: int = 0) -> str:
    """The date of one end of the run's data interval, `back` days earlier."""
    if not moment:
        raise AirflowFailException(
            "a run without a logical date does not belong to a day; start it with a logical date"
        )
    return (moment - timedelta(days=back)).strftime("%Y-%m-%d")


MACROS = {"setting": setting, "day": day}

LOGS = ("--logs", "{{ setting('logs') }}")
MAPPING = ("--mapping", "{{ setting('mapping') }}")


class SparkJob(SparkSubmitOperator):
    """Runs jobs/TASK_ID.py; `arguments` are templates, in the order of the command line."""

    template_fields = (*SparkSubmitOperator.template_fields, "_spark_binary")

    def __init__(self, *, arguments: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(
            name=f"nightfold {kwargs['task_id']}",
            application=f"{{{{ setting('root') }}}}/jobs/{kwargs['task_id']}.py",
            application_args=[*arguments, "--warehouse", "{{ setting('warehouse') }}"],
            py_files="{{ setting('py_files') }}",
            # spark-submit puts only jobs/ on the path, and workers would use any python3 they find. Under the
            # locale C, which cron and containers have, Java would not find files with other letters.
            env_vars={
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": "{{ setting('root') }}",
                "PYSPARK_PYTHON": "{{ setting('root') }}/.venv/bin/python",
            },
            spark_binary="{{ setting('root') }}/.venv/bin/spark-submit",
            **kwargs,
        )

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Renders the templates, and takes the settings that are no templates."""
        super().render_template_fields(context, jinja_env)
        self.conf = spark_conf(self.task_id)
        if config := setting("config"):
            self.application_args = [*self.application_args, "--config", config]
