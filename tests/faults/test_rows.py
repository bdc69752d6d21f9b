"""Each row of the table of faults, held to every invariant (tests/faults/trial.py)."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.processes import Job, started
from tests.faults.rows import ROWS, Row
from tests.faults.scenes import UPKEEP
from tests.faults.trial import Trial, require_one_sentence

# Sizes of disks that a fault fills. A job does not begin without room for Java's own files in scratch.
DISKS = {"warehouse": "8m", "scratch": "128m"}


def marked(row: Row) -> object:
    return pytest.param(row, id=row.name, marks=[] if row.is_quick else pytest.mark.faults)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """The folder is a small disk."""
    folder.mkdir(parents=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a disk that is small enough to be filled")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(request, tmp_path) -> Iterator[None]:
    """The small disk of a row that has one."""
    row: Row = request.getfixturevalue("row")
    if not row.disk:
        yield
        return
    with small_disk(tmp_path / row.disk, DISKS[row.disk]):
        yield


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory) -> Path:
    """The library that makes a clock wrong (clock.c)."""
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(made),
        str(Path(__file__).with_name("clock.c")),
        "-ldl",
    ]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no compiler for the library that makes a clock wrong")
    return made


def environment(row: Row, request: pytest.FixtureRequest, folder: Path) -> Mapping[str, str]:
    """The environment of the disturbed job."""
    env = {}
    if row.clock:
        env |= {"LD_PRELOAD": str(request.getfixturevalue("wrong_clock")), "NIGHTFOLD_CLOCK": str(row.clock)}
    if row.disk == "scratch":
        env |= dict.fromkeys(("TMPDIR", "SPARK_LOCAL_DIRS"), str(folder / "scratch"))
    return env


def disturb(row: Row, trial: Trial, env: Mapping[str, str]) -> None:
    """Runs the scene's job with its fault, and fails where it does not end as the row has it."""
    fault = f"{row.point}:{row.kind}"
    with (
        trial.watched(),
        started(trial.scene.job[0], trial.argv(), trial.folder / "disturbed", fault, env) as job,
    ):
        if row.kind == "pause":
            assert job.wait_until_held(), f"{row.point} was never reached: {job.said()}"
            row.act(trial, job)
        assert job.wait() in row.ends, job.said()
        job.wait_for_all()
        require_end(row, job)


def require_end(row: Row, job: Job) -> None:
    """A job that failed has said why in one sentence."""
    if row.ends == (1,):
        require_one_sentence(job.said())
        assert row.says in job.said(), job.said()


@pytest.mark.parametrize("row", [*map(marked, ROWS)])
def test_a_fault_is_healed_by_what_the_messages_say(row, stage, tmp_path, disk, request):
    trial = Trial.of(stage, row.scene, tmp_path)
    if row.point:
        disturb(row, trial, environment(row, request, tmp_path))
        with trial.watched():
            trial.recover()
    else:
        # Readers are not asked: what they see may be what was damaged.
        row.act(trial, None)
        trial.recover()
    assert row.refused in " ".join(trial.refusals[:1]), trial.refusals
    assert not row.refused or trial.refusals, "nothing was refused"
    trial.judge()
    if row.and_next:
        trial.judge_the_next()


def test_the_table_has_at_least_forty_rows_of_different_names():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 40


@pytest.mark.faults
@pytest.mark.parametrize("scene", sorted({row.scene for row in ROWS}))
def test_every_point_of_the_table_is_passed_by_its_job(scene, stage):
    named = {row.point for row in ROWS if row.scene == scene and row.point}
    expected = stage.undisturbed(scene)
    assert named <= set(expected.points)
    # Otherwise no reader could tell whether the job was done. Upkeep changes nothing that they see.
    assert (expected.before == expected.after) == (scene == UPKEEP)
