"""Every night: the log day that has just ended becomes events, vectors and profiles, and is published.

The run waits for `LOGS/dt=D/_SUCCESS`, then runs the jobs one after another, each as one spark-submit. **D is the date on which
the run's data interval starts**, and nothing else decides it: not the clock, not the run's name, not its configuration.

**Start a night by hand:** trigger it with a logical date, and it takes the last day that had ended by then. Noon of
`2025-04-02` gives D = `2025-04-01`. (Midnight of a day is the logical date of a scheduled night; take another hour.)

**A missed night is not caught up** (`catchup=False`), and needs no watching: a day folds onto a history without holes, and the
next night stops with the name of the missing day. Run that day by hand, or a range with `profiles_backfill`, and clear the
stopped task.

**A failed task** can be cleared as often as you like: the same day run again gives the same rows, and readers see nothing of a
night before `publish_run`. The last line of its log says what is wrong.
"""

from datetime import timedelta

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG, CronDataIntervalTimetable, chain
from spark_jobs import LOGS, MACROS, MAPPING, POLICY, PUBLISHED, SparkJob

DAY = "{{ day(dag_run.data_interval_start) }}"
# The jobs of a night, in order: what the fold reads goes before it, what describes profiles between it and the checks.
STEPS = ("ingest_events", "embed_texts", "fold_profiles", "check_tables", "publish_run")
MORE_ARGUMENTS = {"ingest_events": (*LOGS, *MAPPING)}

with DAG(
    dag_id="profiles_nightly",
    # Whole UTC days: the interval is D itself. When the night begins within the next day, the mark of the log decides.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    catchup=False,  # the jobs refuse a gap by name
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
