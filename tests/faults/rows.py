"""The table of faults: what happens to which job at which point, and how that job ends."""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import acts
from tests.faults.processes import Job
from tests.faults.scenes import (
    BEFORE,
    DAYS,
    FIRST_NIGHT,
    NIGHT,
    OTHER_FACETS,
    RANGE,
    REBUILD,
    REDELIVERY,
    UNDO,
    UPKEEP,
    night,
)
from tests.faults.trial import Trial

# How a disturbed job may end.
DONE, FAILED, KILLED = (0,), (1,), (-signal.SIGKILL,)
NO_JOB: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """A fault.

    point: where the job stops, and kind: how (jobs/io/faults.py); `act` is what happens while it is held.
    Without a point no job is running, and `act` happens to the warehouse. ends: the job's exit statuses;
    says: what a job that failed says. refused: what the first job after it says, where it is refused. clock:
    seconds by which the job's clock is wrong. disk: a folder of the trial that is a small disk. and_next:
    whether the job that follows is run too, which takes as long again. is_quick: one of the few that every
    test run carries.
    """

    name: str
    scene: str
    point: str = ""
    act: Callable[[Trial, Job], None] = acts.let_go
    kind: str = "pause"
    ends: tuple[int, ...] = KILLED
    says: str = ""
    refused: str = ""
    clock: int = 0
    disk: str = ""
    and_next: bool = False
    is_quick: bool = False


def killed(scene: str, point: str, victim: str = "driver", **more: object) -> Row:
    """The victims are killed at the point."""
    status = KILLED if victim in ("driver", "all") else FAILED
    act = acts.kill(victim)
    return Row(f"{scene}: {victim} killed at {point}", scene, point, act, ends=status, **more)  # type: ignore[arg-type]


def answer_lost(point: str) -> Row:
    """A call fails although it was done."""
    return Row(f"{NIGHT}: the answer of {point} is lost", NIGHT, point, kind="error", ends=FAILED)


def no_space(point: str) -> Row:
    """A call fails for want of space."""
    name = f"{NIGHT}: no space at {point}"
    return Row(name, NIGHT, point, kind="no-space", ends=FAILED, says="no space")


def between(scene: str, table: str) -> Row:
    """Everything is killed with new data files there, and their commit not."""
    name = f"{scene}: killed between files and commit of {table}"
    return Row(name, scene, f"commit.{table}.begin", acts.kill_before_commit(table))


def beside(scene: str, point: str, what: str, *others: tuple[str, ...]) -> Row:
    """Other jobs are started while this one runs."""
    return Row(f"{scene}: {what} at {point}", scene, point, acts.and_another(*others), ends=DONE)


def damaged(scene: str, what: str, act: Callable[[Trial, Job], None], refused: str = "") -> Row:
    """Something happens to the warehouse between two jobs."""
    return Row(f"{scene}: {what}", scene, act=act, ends=NO_JOB, refused=refused, and_next=True)


A_RANGE = ("backfill_profiles", "--start", str(DAYS[3]), "--end", str(DAYS[4]))
AN_UNDO = ("publish_run", "--undo", str(DAYS[2]))
AN_UPKEEP = ("maintain_tables", "--date", str(DAYS[2]))

PHASES = (
    killed(NIGHT, "record.ingest_events.started.begin"),
    killed(NIGHT, "ingest_events.read.end"),
    killed(NIGHT, "ingest_events.write.begin"),
    killed(NIGHT, "commit.behavior_events.end"),
    killed(NIGHT, "ingest_events.write.end", "java"),
    killed(NIGHT, "embed_texts.embed.begin", "java"),
    killed(NIGHT, "commit.text_embeddings.end", "all"),
    killed(NIGHT, "fold_profiles.compare.end"),
    killed(NIGHT, "fold_profiles.write.begin", "java"),
    killed(NIGHT, "commit.profile_states.end", and_next=True),
    killed(NIGHT, "commit.user_profiles.end", "all"),
    killed(NIGHT, "check_tables.write.begin", "java"),
    killed(NIGHT, "record.run_night.done.begin"),
    killed(NIGHT, "record.run_night.done.end"),
    killed(NIGHT, "exit", and_next=True),
    killed(FIRST_NIGHT, "create.behavior_events.end", and_next=True),
    killed(FIRST_NIGHT, "create.user_profiles.end", "java", is_quick=True),
    killed(REDELIVERY, "commit.behavior_events.end", and_next=True),
    killed(REDELIVERY, "commit.profile_states.end", "all"),
    killed(RANGE, "commit.behavior_events.end", "all", and_next=True),
    killed(RANGE, "commit.profile_states.end"),
    killed(BEFORE, "ingest_events.write.end", and_next=True),
    killed(BEFORE, "commit.user_profiles.end", "java"),
    killed(REBUILD, "commit.profile_states.end", and_next=True),
    killed(REBUILD, "fold_profiles.swap.begin", "all"),
    killed(UNDO, "record.publish_run.undone.begin"),
    killed(UNDO, "record.publish_run.undone.end", "all", and_next=True),
    killed(UPKEEP, "commit.text_embeddings.begin"),
    killed(UPKEEP, "commit.text_embeddings.end", "all", and_next=True),
)
MID_PHASE = (
    Row(
        f"{NIGHT}: a worker killed in ingest",
        NIGHT,
        "ingest_events.read.begin",
        acts.kill_new_worker,
        ends=FAILED,
    ),
    Row(
        f"{NIGHT}: a worker killed in fold",
        NIGHT,
        "fold_profiles.fold.begin",
        acts.kill_new_worker,
        ends=FAILED,
    ),
    between(NIGHT, "behavior_events"),
    between(NIGHT, "text_embeddings"),
    between(NIGHT, "profile_states"),
    between(REDELIVERY, "user_profiles"),
    Row(
        f"{NIGHT}: begun again while the old Java is at work",
        NIGHT,
        "commit.profile_states.begin",
        acts.begin_again_at_once,
    ),
)
LOST_ANSWERS = (
    answer_lost("commit.behavior_events.end"),
    answer_lost("commit.text_embeddings.end"),
    answer_lost("commit.profile_states.end"),
    answer_lost("record.run_night.done.end"),
)
SPACE = (
    no_space("commit.items.begin"),
    no_space("commit.profile_states.end"),
    Row(
        f"{NIGHT}: the warehouse's disk is full",
        NIGHT,
        "fold_profiles.write.begin",
        acts.fill("warehouse"),
        ends=FAILED,
        says="no space",
        disk="warehouse",
    ),
    Row(
        f"{NIGHT}: the scratch disk is full",
        NIGHT,
        "fold_profiles.compare.begin",
        acts.fill("scratch"),
        ends=FAILED,
        says="no space",
        disk="scratch",
    ),
)
SIDE_BY_SIDE = (
    beside(NIGHT, "ingest_events.write.begin", "the same day twice", night(3)),
    beside(NIGHT, "fold_profiles.write.begin", "a range and upkeep", A_RANGE, AN_UPKEEP),
    beside(NIGHT, "record.run_night.done.begin", "a rollback", AN_UNDO),
    beside(RANGE, "fold_profiles.fold.begin", "a night", night(3)),
)
ORDER = (
    damaged(NIGHT, "the day after comes first", acts.run_the_day_after),
    damaged(NIGHT, "the day is missing", acts.run_without_the_day),
)
CLOCKS = (
    Row(f"{NIGHT}: under a clock two days ahead", NIGHT, "exit", ends=DONE, and_next=True, clock=2 * 86400),
    Row(f"{NIGHT}: under a clock 25 hours behind", NIGHT, "exit", ends=DONE, and_next=True, clock=-25 * 3600),
    killed(NIGHT, "commit.user_profiles.begin", clock=400 * 86400),
)
DAMAGE = (
    damaged(NIGHT, "_last_checkpoint is gone", acts.lose_pointer),
    damaged(NIGHT, "_last_checkpoint is cut off", acts.garble_pointer),
    damaged(NIGHT, "the newest checkpoint is gone", acts.lose_checkpoint),
    damaged(
        NIGHT, "the newest checkpoint is cut off", acts.until_restored(acts.cut_checkpoint, "is damaged")
    ),
    damaged(
        NIGHT,
        "a commit in the middle is gone",
        acts.until_restored(acts.lose_commit("profile_states", 1), "gap"),
    ),
    damaged(NIGHT, "data files are gone", acts.until_restored(acts.lose_data_file, "is missing")),
    damaged(
        NIGHT,
        "the newest commit of events is gone",
        acts.lose_commit("behavior_events", 0),
        "behavior_events",
    ),
    damaged(
        NIGHT, "the newest commit of states is gone", acts.lose_commit("profile_states", 0), "profile_states"
    ),
)
SETTINGS = (
    damaged(NIGHT, "other fold settings", acts.refused_with(OTHER_FACETS, "put the settings back")),
    damaged(
        NIGHT, "another number of buckets", acts.refused_with({"store": {"user_buckets": 8}}, "user_buckets")
    ),
    Row(
        f"{NIGHT}: run again with other cores, partitions and tiles",
        NIGHT,
        "fold_profiles.fold.end",
        acts.begin_again_in_another_shape,
    ),
)
COPIES = (
    Row(f"{NIGHT}: copied after the events", NIGHT, "ingest_events.write.end", acts.finish_a_copy, ends=DONE),
    Row(
        f"{NIGHT}: copied after the states", NIGHT, "commit.profile_states.end", acts.finish_a_copy, ends=DONE
    ),
    Row(
        f"{RANGE}: copied before the end",
        RANGE,
        "record.check_tables.started.begin",
        acts.finish_a_copy,
        ends=DONE,
    ),
)
ROWS = (
    *PHASES,
    *MID_PHASE,
    *LOST_ANSWERS,
    *SPACE,
    *SIDE_BY_SIDE,
    *ORDER,
    *CLOCKS,
    *DAMAGE,
    *SETTINGS,
    *COPIES,
)
