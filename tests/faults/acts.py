"""What happens to a job that is held at a fault point, or to a warehouse between two jobs.

An act on a held job lets it go on at its end, or kills it. Acts on a warehouse get no job.
"""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from jobs.io.messages import JobError
from tests.faults.processes import QUICK_JAVA, Job, command_of, kill_each, processes, started, until
from tests.faults.scenes import DAYS, Command, night, require_free_lease, shown_hash
from tests.faults.trial import Trial, require_one_sentence

Act = Callable[[Trial, Job], None]
BUSY = "is being written by"


def let_go(trial: Trial, job: Job) -> None:
    """Nothing happens."""
    job.go_on()


# ---- kills


def kill(victim: str) -> Act:
    """The victims are killed while the job is held; what is left of it goes on."""

    def act(trial: Trial, job: Job) -> None:
        job.kill(victim)
        job.go_on()

    return act


def kill_new_worker(trial: Trial, job: Job) -> None:
    """Of the job that goes on, the first new Python worker is killed: its task is under way."""

    def workers() -> set[int]:
        """Forked by a daemon, which is a process of the same name."""
        parent = {p.pid: p.parent for p in processes() if p.session == job.process.pid}
        named = {pid for pid in parent if "pyspark.daemon" in command_of(pid)}
        return {pid for pid in named if parent[pid] in named}

    idle = workers()
    kill_each(idle)
    job.go_on()
    until(lambda: workers() - idle or job.process.poll() is not None, 120, "a Python worker", every=0.005)
    assert job.process.poll() is None, f"no worker was started: {job.said()}"
    kill_each(workers() - idle)


def kill_before_commit(table: str) -> Act:
    """The job that goes on is killed once new data files of the table lie there, and no new commit."""

    def act(trial: Trial, job: Job) -> None:
        folder = trial.warehouse / table

        def files() -> set[Path]:
            return {file for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}

        def commits() -> int:
            return len([*(folder / "_delta_log").glob("0*.json")])

        old, known = files(), commits()
        job.go_on()
        until(lambda: files() - old, 120, "a new data file", every=0.001)
        kill_each(job.pids("java"), signal.SIGSTOP)
        assert commits() == known, "the commit came before the kill: nothing was tried"
        job.kill("all")

    return act


def begin_again_at_once(trial: Trial, job: Job) -> None:
    """The driver is killed, and the job begun again while its Java may still be at work."""
    job.go_on()
    job.kill("driver")
    job.wait()
    trial.recover()


def begin_again_in_another_shape(trial: Trial, job: Job) -> None:
    """Everything is killed, and the job run again with other cores, partitions, tiles and memory."""
    job.kill("all")
    other = {"spark": {"shuffle_partitions": 3, "driver_memory": "900m"}, "engine": {"tile_texts": 7}}
    cores = {"JAVA_TOOL_OPTIONS": f"{QUICK_JAVA} -XX:ActiveProcessorCount=5"}
    with started(trial.scene.job[0], trial.argv(other), trial.folder / "again", env=cores) as again:
        assert again.wait() == 0, again.said()


# ---- other jobs meanwhile


def and_another(*commands: Command) -> Act:
    """Other jobs are started meanwhile; each is refused by the name of the first."""

    def act(trial: Trial, job: Job) -> None:
        for number, command in enumerate(commands):
            argv = trial.stage.argv(trial.scene, command, trial.warehouse)
            with started(command[0], argv, trial.folder / f"second{number}") as second:
                assert second.wait() == 1, second.said()
                assert BUSY in second.said(), second.said()
                require_one_sentence(second.said())
        job.go_on()

    return act


def finish_a_copy(trial: Trial, job: Job) -> None:
    """The warehouse is copied, and the copy finished for itself."""
    folder = trial.folder / "copy"
    copy = Trial(
        trial.stage,
        trial.scene,
        folder,
        shutil.copytree(trial.warehouse, folder / "warehouse"),
        trial.expected,
    )
    assert shown_hash(copy.warehouse) in (trial.expected.before, trial.expected.after)
    copy.recover()
    copy.judge()
    copy.judge_the_next()
    job.go_on()


# ---- disks


def fill(place: str) -> Act:
    """The disk of a folder of the trial is full until the job has ended."""

    def act(trial: Trial, job: Job) -> None:
        filler = trial.folder / place / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        job.go_on()
        job.wait()
        filler.unlink()

    return act


# ---- damage


def log_of(trial: Trial, table: str) -> Path:
    """The folder of a table's log."""
    return trial.warehouse / table / "_delta_log"


def checkpointed(trial: Trial, table: str) -> Path:
    """The newest checkpoint of a table, which is made."""
    DeltaTable(f"{trial.warehouse}/{table}").create_checkpoint()
    return max(log_of(trial, table).glob("*.checkpoint.parquet"))


def unsummed(file: Path) -> Path:
    """The file, without the checksums that Hadoop keeps of it, and Delta of its version."""
    sums = [file.with_name(f"{file.name.partition('.')[0]}.crc")]
    for one in (file, *sums):
        one.with_name(f".{one.name}.crc").unlink(missing_ok=True)
    sums[0].unlink(missing_ok=True)
    return file


def lose_pointer(trial: Trial, job: Job) -> None:
    """`_last_checkpoint` goes."""
    pointer = checkpointed(trial, "behavior_events").with_name("_last_checkpoint")
    unsummed(pointer).unlink()


def garble_pointer(trial: Trial, job: Job) -> None:
    """`_last_checkpoint` is cut off."""
    pointer = checkpointed(trial, "profile_states").with_name("_last_checkpoint")
    unsummed(pointer).write_text('{"version":', encoding="utf-8")


def lose_checkpoint(trial: Trial, job: Job) -> None:
    """The newest checkpoint goes, and the pointer to it stays."""
    unsummed(checkpointed(trial, "profile_states")).unlink()


def cut_checkpoint(trial: Trial, job: Job) -> None:
    """The newest checkpoint is cut off, and the commits before it are gone, so that it is needed."""
    checkpoint = unsummed(checkpointed(trial, "profile_states"))
    for commit in sorted(log_of(trial, "profile_states").glob("0*.json"))[:-1]:
        unsummed(commit).unlink()
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)


def lose_commit(table: str, back: int) -> Act:
    """A commit of the table goes, counted from the newest."""

    def act(trial: Trial, job: Job) -> None:
        commits = sorted(log_of(trial, table).glob("0*.json"))
        unsummed(commits[-1 - back]).unlink()

    return act


def lose_data_file(trial: Trial, job: Job) -> None:
    """The data files of the newest day's events go."""
    for file in (trial.warehouse / "behavior_events" / f"log_date={DAYS[2]}").glob("*.parquet"):
        unsummed(file).unlink()


def until_restored(damage: Act, says: str) -> Act:
    """The job is refused by one sentence after the damage, until a copy of the warehouse is put back."""

    def act(trial: Trial, job: Job) -> None:
        sound = shutil.copytree(trial.warehouse, trial.folder / "sound")
        damage(trial, job)
        require_refused(trial, trial.argv(), says)
        shutil.rmtree(trial.warehouse)
        shutil.copytree(sound, trial.warehouse)

    return act


def require_refused(trial: Trial, argv: list[str], says: str) -> None:
    """Fails unless the scene's job, with these arguments, ends with one sentence that says so."""
    with started(trial.scene.job[0], argv, trial.folder / "refused") as refused:
        assert refused.wait() == 1, refused.said()
        require_one_sentence(refused.said())
        assert says in refused.said(), refused.said()
        refused.wait_for_all()
    require_free_lease(trial.warehouse)


# ---- order and settings


def run_the_day_after(trial: Trial, job: Job) -> None:
    """The day after is tried first, and refused by the name of the missing one."""
    with pytest.raises(JobError, match=f"{DAYS[3]} is not published; run that day first"):
        trial.stage.do(trial.scene, night(4), trial.warehouse)


def run_without_the_day(trial: Trial, job: Job) -> None:
    """The day's folder is not there yet."""
    argv = trial.argv()
    at = argv.index("--logs") + 1
    logs = shutil.copytree(argv[at], trial.folder / "logs")
    shutil.rmtree(logs / f"dt={DAYS[3]}")
    require_refused(
        trial, [*argv[:at], str(logs), *argv[at + 1 :]], f"there is no folder {logs}/dt={DAYS[3]}"
    )


def refused_with(settings: dict[str, Any], says: str) -> Act:
    """The job is refused under other settings."""

    def act(trial: Trial, job: Job) -> None:
        require_refused(trial, trial.argv(settings), says)

    return act
