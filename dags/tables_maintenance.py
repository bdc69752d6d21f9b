"""Every week: maintenance of the Delta tables, at an hour when no night writes.

It thins out old states, compacts small files, and vacuums files that readers no longer need. **D is the day
before the run's data interval ends**: the last day that a night can have published by then. The next run
makes up for a missed week, so nothing is caught up. A failed run can be cleared any number of times.
"""

from airflow.sdk import DAG, CronDataIntervalTimetable
from spark_jobs import MACROS, POLICY, SparkJob

DAY = "{{ day(dag_run.data_interval_end, back=1) }}"

with DAG(
    dag_id="tables_maintenance",
    schedule=CronDataIntervalTimetable("0 12 * * SUN", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=POLICY,
    user_defined_macros=MACROS,
    tags=["nightfold", "weekly"],
    doc_md=__doc__,
):
    SparkJob(task_id="maintain_tables", arguments=("--date", DAY, "--run-id", f"tables_maintenance-{DAY}"))
