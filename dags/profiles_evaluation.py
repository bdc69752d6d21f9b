"""Every week: judges profiles and baselines on the last four weeks, at an hour when no night runs.

It reads what is published and writes a page, a JSON file and plots into `EVALUATIONS/E`. **E is the day
before the run's data interval ends**: the last day that a night can have published by then, and the last one
judged. A failed run can be cleared any number of times; the next one does not make up for a missed one.
"""

from airflow.sdk import DAG, CronDataIntervalTimetable
from spark_jobs import MACROS, POLICY, SparkJob

END = "{{ day(dag_run.data_interval_end, back=1) }}"
# Four weeks, which are four weekly steps of a week each.
START = "{{ day(dag_run.data_interval_end, back=28) }}"

with DAG(
    dag_id="profiles_evaluation",
    schedule=CronDataIntervalTimetable("0 15 * * SUN", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=POLICY,
    user_defined_macros=MACROS,
    tags=["nightfold", "weekly"],
    doc_md=__doc__,
):
    SparkJob(
        task_id="evaluate_profiles",
        arguments=(
            *("--start", START, "--end", END, "--every", "7"),
            *("--out", f"{{{{ setting('evaluations') }}}}/{END}"),
        ),
    )
