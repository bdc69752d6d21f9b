"""Every week: the upkeep of the Delta tables, at an hour when no night writes.

Small files are put together, and files that no reader needs any more are removed. **D is the date on which the run's data
interval ends**. A missed week is made up by the next one, so nothing is caught up. A failed run can be cleared as often as you
like.
"""

from airflow.sdk import DAG, CronDataIntervalTimetable
from spark_jobs import MACROS, POLICY, SparkJob

DAY = "{{ day(dag_run.data_interval_end) }}"

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
