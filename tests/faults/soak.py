"""Kills at moments drawn by a seed, any number of them, each held to every invariant (tests/faults/trial.py).

    python -m tests.faults.soak 1-300

A seed draws the job, how often it is killed before it may end, and each time a fault point of that job, how
long after it, which of its processes, and whether the work is begun again before the others have ended. The
result is a line of JSON in build/faults/soak.jsonl. Seeds that stand there are not tried again, so that a
soak can be stopped at any time. A violation keeps its warehouse in build/faults/seed-N, and its line says
what was violated. Undisturbed warehouses are kept there too, for as long as the code is the same.
"""

import hashlib
import json
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.io import session as sessions
from schemas.settings import SparkSettings
from tests.conftest import ROOT
from tests.faults import scenes
from tests.faults.processes import QUICK_JAVA, VICTIMS, started
from tests.faults.scenes import SCENES, Stage
from tests.faults.trial import Trial

RESULTS = ROOT / "build" / "faults"
# How long after its point a job is killed, at most; half of the kills are at the point itself.
LATEST_S = 1.5
MOST_KILLS = 2
# Nights are what runs most.
WEIGHTS = {name: 3 if name == "night" else 1 for name in SCENES}


@dataclass(frozen=True)
class Kill:
    """The point by its place among those that the job passes (0..1), seconds after it, and the victims."""

    place: float
    after_s: float
    victim: str

    def point(self, points: Sequence[str]) -> str:
        """The name of the point."""
        return points[int(self.place * len(points))]


@dataclass(frozen=True)
class Draw:
    """What a seed stands for."""

    seed: int
    scene: str
    kills: tuple[Kill, ...]
    is_begun_at_once: bool


def draw(seed: int) -> Draw:
    """The same seed is the same draw."""
    rng = random.Random(seed)
    (scene,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
    count = rng.choices(range(1, MOST_KILLS + 1), (4, 1))[0]
    kills = tuple(
        Kill(rng.random(), rng.choice((0.0, rng.random() * LATEST_S)), rng.choice(VICTIMS))
        for _ in range(count)
    )
    return Draw(seed, scene, kills, rng.random() < 0.3)


def seeds_of(text: str) -> range:
    """The seeds of `7` or `1-300`. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found is None:
        raise ValueError(f"SEEDS is a number or a range like 1-300, not {text!r}")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def code_hash() -> str:
    """Names the code: what other code made undisturbed is no measure."""
    rooms = ("schemas", "udfs", "jobs")
    files = sorted(file for room in rooms for file in (ROOT / room).rglob("*.*") if file.suffix != ".pyc")
    content = hashlib.sha256()
    for file in (*files, Path(scenes.__file__)):
        content.update(file.read_bytes())
    return content.hexdigest()[:12]


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a results file; one that was cut off by a kill is left out."""
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def disturb(trial: Trial, drawn: Draw) -> list[str]:
    """Starts the job as often as it is to be killed; says how each start ended."""
    ends = []
    for number, kill in enumerate(drawn.kills):
        folder, point = trial.folder / f"start{number}", kill.point(trial.expected.points)
        with started(trial.scene.job[0], trial.argv(), folder, f"{point}:pause") as job:
            # A second start finds work done, and may pass the point no more.
            if job.wait_until_held():
                if kill.after_s:
                    job.go_on()
                    time.sleep(kill.after_s)
                job.kill(kill.victim)
                job.go_on()
                ends.append(f"{kill.victim} at {point} + {kill.after_s:.2f} s")
            else:
                ends.append(f"ended before {point}")
            if drawn.is_begun_at_once and kill.victim in ("driver", "all"):
                job.wait()
                trial.recover()
            # Where only workers were killed, and idle ones, the job may end well.
            job.wait()
            job.wait_for_all()
    return ends


def try_seed(stage: Stage, drawn: Draw, folder: Path) -> list[str]:
    """Raises AssertionError, or whatever a job raises that it should not, where an invariant is violated."""
    trial = Trial.of(stage, drawn.scene, folder)
    with trial.watched():
        ends = disturb(trial, drawn)
        trial.recover()
    trial.judge()
    # Every third one: the next night has cost as much as the recovery.
    if drawn.seed % 3 == 0:
        trial.judge_the_next()
    return ends


def soak(stage: Stage, seeds: Sequence[int], results: Path) -> None:
    """Tries the seeds, and appends a line for each."""
    for seed in seeds:
        drawn, began = draw(seed), time.monotonic()
        folder = results / f"seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        line: dict[str, Any] = {"seed": seed, "holds": True} | asdict(drawn)
        try:
            line["ends"] = try_seed(stage, drawn, folder)
            shutil.rmtree(folder)
        except Exception as error:
            line |= {"holds": False, "violation": f"{type(error).__name__}: {error}"[:2000]}
            print(f"seed {seed} violates: {line['violation']} (see {folder})", file=sys.stderr, flush=True)
        line["seconds"] = round(time.monotonic() - began, 1)
        with (results / "soak.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def summary(seeds: Sequence[int], lines: Sequence[dict[str, Any]]) -> str:
    """How many of the seeds were tried, and which violate."""
    own = {line["seed"]: line for line in lines if line["seed"] in seeds}
    bad = sorted(seed for seed, line in own.items() if not line["holds"])
    scenes = Counter(line["scene"] for line in own.values())
    told = ", ".join(f"{count} {name}" for name, count in sorted(scenes.items()))
    return f"{len(own)} of {len(seeds)} seeds tried ({told}); {len(bad)} violations {bad or ''}".rstrip()


def stop(_number: int, _frame: FrameType | None) -> None:
    """Ends the soak as Ctrl-C does, so that no job is left."""
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    try:
        seeds = seeds_of(argv[0] if argv else "1-20")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "soak.jsonl"
    done = {line["seed"] for line in lines_of(file)}
    todo = [seed for seed in seeds if seed not in done]
    signal.signal(signal.SIGTERM, stop)
    if todo:
        options = f"{sessions.java_options('2g')} {QUICK_JAVA}"
        sessions.java_options = lambda _: options  # type: ignore[assignment]
        memory = SparkSettings(driver_memory="2g")
        stage = RESULTS / f"stage-{code_hash()}"
        stage.mkdir(exist_ok=True)
        with sessions.open_session("soak", memory) as spark:
            soak(Stage(spark, stage), todo, RESULTS)
    lines = list(lines_of(file))
    print(summary(seeds, lines))
    return 0 if all(line["holds"] for line in lines if line["seed"] in seeds) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
