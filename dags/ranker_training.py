"""Every week: trains a ranker on the last eight weeks, after the evaluation, at an hour when no night runs.

Lists are made by it only if it is not worse than the ranker in force and than decayed popularity; else the
old one stays, and the task's log and the table `ranking_models` say why. **The last day is the day before the
run's data interval ends**: the last that a night can have published by then. A failed run can be cleared any
number of times; the next one does not make up for a missed one.

A warehouse whose nights make no lists does not need it: pause it. It needs eight published weeks.
"""

from airflow.sdk import DAG, CronDataIntervalTimetable
from spark_jobs import MACROS, POLICY, SparkJob

END = "{{ day(dag_run.data_interval_end, back=1) }}"
# Eight weekly steps: six to tune on, and the last two to judge on.
START = "{{ day(dag_run.data_interval_end, back=56) }}"

with DAG(
    dag_id="ranker_training",
    schedule=CronDataIntervalTimetable("0 18 * * SUN", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=POLICY,
    user_defined_macros=MACROS,
    tags=["nightfold", "weekly"],
    doc_md=__doc__,
):
    SparkJob(task_id="train_ranker", arguments=("--start", START, "--end", END))
