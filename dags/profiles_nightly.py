"""Every night: turns the log day that has just ended into events, vectors and profiles, and publishes them.

The run waits for `LOGS/dt=D/_SUCCESS`, then runs the jobs one after another, each as one spark-submit. **D is
the date on which the run's data interval starts.** Neither the clock nor the run's name nor its configuration
changes it.

**Start a night by hand:** trigger it with a logical date, and it takes the last day that had ended by then.
Noon of `2025-04-02` gives D = `2025-04-01`. (Midnight is the logical date of a scheduled night; choose any
other hour.)

**A missed night is not caught up** (`catchup=False`), and cannot go unnoticed: a day folds onto a history
without gaps, so the next night stops and names the missing day. Run that day by hand, or a range with
`profiles_backfill`, and clear the stopped task.

**A failed task** can be cleared any number of times: rerunning a day gives the same rows, and readers see
nothing of a night before `publish_run`. The last line of the task's log says what is wrong.
"""

from datetime import timedelta

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG, CronDataIntervalTimetable, chain
from spark_jobs import LOGS, MACROS, MAPPING, POLICY, PUBLISHED, SparkJob

DAY = "{{ day(dag_run.data_interval_start) }}"
# The jobs of a night, in order: the fold's inputs precede it, and jobs that read profiles precede the checks.
STEPS = (
    "ingest_events",
    "embed_texts",
    "fold_profiles",
    "recommend_items",
    "check_tables",
    "publish_run",
)
# recommend_items makes lists only where the settings ask for them.
MORE_ARGUMENTS = {"ingest_events": (*LOGS, *MAPPING), "recommend_items": ("--nightly",)}

with DAG(
    dag_id="profiles_nightly",
    # Whole UTC days, so that the interval is D itself; the sensor delays the night until the log is complete.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    catchup=False,  # the jobs refuse to skip a missing day
    max_active_runs=1,
    default_args=POLICY,
    user_defined_macros=MACROS,
    tags=["nightfold", "nightly"],
    doc_md=__doc__,
):
    wait_for_log = FileSensor(
        task_id="wait_for_log",
        filepath=f"{LOGS[1]}/dt={DAY}/_SUCCESS",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(hours=12).total_seconds(),
        execution_timeout=timedelta(hours=12),
    )
    chain(
        wait_for_log,
        *[
            SparkJob(
                task_id=step,
                arguments=(
                    "--date",
                    DAY,
                    "--run-id",
                    f"profiles_nightly-{DAY}",
                    *MORE_ARGUMENTS.get(step, ()),
                ),
                outlets=PUBLISHED if step == "publish_run" else [],
            )
            for step in STEPS
        ],
    )
