"""What the DAGs share: how a job of this repository becomes one spark-submit, and the settings it takes from Airflow Variables.

Every setting is read when a task starts, never when the file is parsed, and becomes one element of an argument list: no value
passes through a shell.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, Variable
from airflow.sdk.exceptions import AirflowFailException

HERE = str(Path(__file__).resolve().parent.parent)
# Variable nightfold_NAME -> what holds where it is not set.
DEFAULTS: dict[str, Any] = {
    "root": HERE,  # the repository, with its .venv
    "logs": "logs",
    "warehouse": "warehouse",
    "mapping": "canonical",  # name of a shipped mapping, or a file
    "config": "",  # settings file; empty: the defaults
    "py_files": "",  # on a cluster: the zip with the jobs
    "spark_conf": {},  # JSON object of Spark properties
}
PATHS = {"logs", "warehouse", "config", "py_files"}  # relative ones begin at the root

# What others may schedule on: updated once a night or a range is published.
PUBLISHED = [
    Asset(f"nightfold_{table}")
    for table in ("behavior_events", "items", "text_embeddings", "profile_states", "user_profiles")
]

POLICY = {
    "owner": "nightfold",
    "retries": 3,
    "retry_delay": timedelta(minutes=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(hours=1),
    "execution_timeout": timedelta(hours=6),
}


def setting(name: str) -> Any:
    """The Variable nightfold_NAME, or its default."""
    default = DEFAULTS[name]
    value = Variable.get(f"nightfold_{name}", default=default, deserialize_json=isinstance(default, dict))
    if name in PATHS and value and "://" not in value:
        return str(Path(setting("root"), value))
    return value


def day(moment: datetime | None, back: int = 0) -> str:
    """The date of one end of the run's data interval, or so many days before."""
    if not moment:
        raise AirflowFailException("a run without a logical date belongs to no day; start it with one")
    return (moment - timedelta(days=back)).strftime("%Y-%m-%d")


MACROS = {"setting": setting, "day": day}

LOGS = ("--logs", "{{ setting('logs') }}")
MAPPING = ("--mapping", "{{ setting('mapping') }}")


class SparkJob(SparkSubmitOperator):
    """One run of jobs/NAME.py, where NAME is the task's id; `arguments` are templates, in the order of the command line."""

    template_fields = (*SparkSubmitOperator.template_fields, "_spark_binary")

    def __init__(self, *, arguments: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(
            name=f"nightfold {kwargs['task_id']}",
            application=f"{{{{ setting('root') }}}}/jobs/{kwargs['task_id']}.py",
            application_args=[*arguments, "--warehouse", "{{ setting('warehouse') }}"],
            py_files="{{ setting('py_files') }}",
            # spark-submit puts jobs/ alone on the path, and workers would take whatever python3 they find.
            env_vars={
                "PYTHONPATH": "{{ setting('root') }}",
                "PYSPARK_PYTHON": "{{ setting('root') }}/.venv/bin/python",
            },
            spark_binary="{{ setting('root') }}/.venv/bin/spark-submit",
            **kwargs,
        )

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        super().render_template_fields(context, jinja_env)
        self.conf = setting("spark_conf")
        if config := setting("config"):
            self.application_args = [*self.application_args, "--config", config]
