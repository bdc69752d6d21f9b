"""By hand: backfills a range of log days, such as the history before the first night, or missed days.

Give the first and the last log day. Every day of the range must exist and be complete; an empty day is an
empty folder with `_SUCCESS`. One job processes the range in chunks, oldest first, and publishes once at the
end: until then readers see nothing of it. A range may precede days that are already stored.

**Killed or failed?** Clear the task. The job names its run after the range and the settings, so it resumes
after the last finished chunk. (This is also why it is given no run id.)
"""

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException
from spark_jobs import LOGS, MACROS, MAPPING, POLICY, PUBLISHED, SparkJob

with DAG(
    dag_id="profiles_backfill",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=POLICY,
    params={
        "start": Param(type="string", format="date", description="first log day"),
        "end": Param(type="string", format="date", description="last log day"),
    },
    user_defined_macros=MACROS,
    tags=["nightfold", "by hand"],
    doc_md=__doc__,
):

    @task
    def check_range(start: str, end: str) -> None:
        """Fails at once: a JSON schema cannot compare two values, and the job's own refusal is retried."""
        if start > end:
            raise AirflowFailException(f"start {start} is after end {end}")

    check_range("{{ params.start }}", "{{ params.end }}") >> SparkJob(
        task_id="backfill_profiles",
        arguments=("--start", "{{ params.start }}", "--end", "{{ params.end }}", *LOGS, *MAPPING),
        outlets=PUBLISHED,
    )
