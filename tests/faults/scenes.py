"""What a fault disturbs: a job on a warehouse with published nights, and what it gives undisturbed.

The logs are small, so that a job costs seconds, but have late events, retractions, doubles and records that
can't be used. Warehouses are made in the test's own session; each test works on a copy.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs import make_demo_logs
from jobs.io import faults
from jobs.io.lease import take_folder
from jobs.io.messages import JobError
from jobs.io.reading import published_versions
from tests.e2e.tables import STATE_COLUMNS, rows_of
from tests.oracle import canonical_hash

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
DRAWN = ["--days", str(len(DAYS)), "--users", "8", "--seed", "9", "--start", str(FIRST)]
STATES = ("profile_states", "user_profiles")
ROWS = ("behavior_events", "items", "quarantined_events", "text_embeddings")
# What names a run and so differs between two warehouses with the same history.
OF_RUNS = {"created_run"}
# Refusals followed before a job must have come through.
MOST_REFUSALS = 5

Command = tuple[str, ...]


# ---- what warehouses say


def content_hash(warehouse: Path, versions: dict[str, int]) -> str:
    """One hash of the tables' rows at these versions, without what names a run."""
    digest = hashlib.sha256()
    for table in (*STATES, *ROWS):
        if table not in versions:
            continue
        rows = rows_of(str(warehouse), table, versions[table])
        if table in STATES:
            digest.update(canonical_hash(rows, STATE_COLUMNS).encode())
        else:
            own = sorted(repr({k: v for k, v in row.items() if k not in OF_RUNS}) for row in rows)
            digest.update("\n".join([table, *own]).encode())
    return digest.hexdigest()


def shown_hash(warehouse: Path) -> str:
    """What readers see, as one hash; that of nothing where nothing is published."""
    return content_hash(warehouse, published_versions(str(warehouse)))


def newest_hash(warehouse: Path) -> str:
    """What the tables hold, published or not, as one hash."""
    paths = {table: f"{warehouse}/{table}" for table in (*STATES, *ROWS)}
    there = {name: path for name, path in paths.items() if DeltaTable.is_deltatable(path)}
    return content_hash(warehouse, {name: DeltaTable(path).version() for name, path in there.items()})


def require_free_lease(warehouse: Path) -> None:
    """Raises JobError where the lease of a warehouse is held."""
    take_folder(str(warehouse), "a test").release()


# ---- scenes


@dataclass(frozen=True)
class Scene:
    """A job, and the warehouse that it finds.

    before: commands that make the warehouse; of each the job, then its arguments. job: the one that is
    disturbed. after: a job that must then work as if nothing had happened. corrected: whether the logs are
    those with a corrected day. settings: settings of the job beside the common ones.
    """

    name: str
    before: tuple[Command, ...]
    job: Command
    after: Command
    corrected: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def night(number: int, *more: str) -> Command:
    return ("run_night", "--date", str(DAYS[number]), *more)


def backfill(first: int, last: int) -> Command:
    return ("backfill_profiles", "--start", str(DAYS[first]), "--end", str(DAYS[last]))


NIGHT, FIRST_NIGHT, REDELIVERY, RANGE = "night", "first night", "redelivery", "range"
BEFORE, REBUILD, UNDO, UPKEEP = "range before", "rebuild", "undo", "upkeep"
OTHER_FACETS = {"fold": {"facets": [{"name": "looks", "where": "event_type = 'view'"}]}}
CROWDED = {"maintenance": {"small_files": 2}}
THREE = (backfill(0, 2),)
SCENES = {
    scene.name: scene
    for scene in (
        Scene(NIGHT, THREE, night(3), night(4)),
        Scene(FIRST_NIGHT, (), night(0, "--bootstrap"), night(1)),
        Scene(REDELIVERY, THREE, night(1), night(3), corrected=True),
        Scene(RANGE, THREE, backfill(3, 4), night(5)),
        Scene(BEFORE, (backfill(2, 3),), backfill(0, 1), night(4)),
        Scene(REBUILD, THREE, ("backfill_profiles", "--rebuild"), night(3), settings=OTHER_FACETS),
        Scene(
            UNDO,
            (backfill(0, 1), night(2)),
            ("publish_run", "--undo", str(DAYS[2])),
            night(2),
        ),
        Scene(
            UPKEEP,
            (backfill(0, 1), night(2)),
            ("maintain_tables", "--date", str(DAYS[2])),
            night(3),
            settings=CROWDED,
        ),
    )
}


@dataclass(frozen=True)
class Undisturbed:
    """A scene's warehouse, and what its job gives when nothing happens.

    warehouse: before the job, to be copied. before, after: what readers see before the job and after it.
    newest: what the tables hold after the job; not the same after a rollback. points: the fault points that
    the job passes, in order.
    """

    warehouse: Path
    before: str
    after: str
    newest: str
    points: list[str]


class Stage:
    """The logs, the settings and the undisturbed warehouses of all scenes, in one folder.

    A later stage in the same folder finds the warehouses there.
    """

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.undisturbed: Callable[[str], Undisturbed] = cache(self._undisturbed)
        self.at_end: Callable[[str], str] = cache(self._at_end)

    @cache  # noqa: B019 - as long as the test run
    def logs(self, corrected: bool) -> Path:
        """The log; corrected: with more and other events on its second day."""
        logs = self.folder / ("corrected" if corrected else "logs")
        shutil.rmtree(logs, ignore_errors=True)
        if corrected:
            shutil.copytree(self.logs(False), logs)
            correct(logs / f"dt={DAYS[1]}")
            return logs
        assert make_demo_logs.main(["--logs", str(logs), *DRAWN]) == 0
        for number in range(len(DAYS)):
            soil(logs, number)
        return logs

    def settings(self, more: dict[str, Any]) -> str:
        """The path of a settings file: the hash engine, and these settings."""
        common = {"engine": {"kind": "hash", "tile_texts": 40}, "spark": {"driver_memory": "1g"}}
        merged = {name: common.get(name, {}) | more.get(name, {}) for name in {*common, *more}}
        text = json.dumps(merged, sort_keys=True)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    def argv(
        self, scene: Scene, command: Command, warehouse: Path, more: dict[str, Any] | None = None
    ) -> list[str]:
        """The arguments of a scene's command on a warehouse.

        more: settings on top of the scene's.
        """
        job, *own = command
        reads = job == "run_night" or (job == "backfill_profiles" and "--rebuild" not in own)
        logs = ["--logs", str(self.logs(scene.corrected))] if reads else []
        config = self.settings(scene.settings | (more or {}))
        return [*own, *logs, "--warehouse", str(warehouse), "--config", config]

    def do(self, scene: Scene, command: Command, warehouse: Path, more: dict[str, Any] | None = None) -> None:
        """Runs the command in the test's session. Raises JobError as the job does."""
        run_here(self.spark, command[0], self.argv(scene, command, warehouse, more))

    def _undisturbed(self, name: str) -> Undisturbed:
        folder = self.folder / name.replace(" ", "-")
        kept = folder / "undisturbed.json"
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            kept.write_text(json.dumps(self._played(SCENES[name], folder)), encoding="utf-8")
        return Undisturbed(folder / "before", **json.loads(kept.read_text(encoding="utf-8")))

    def _played(self, scene: Scene, folder: Path) -> dict[str, Any]:
        """Makes a scene's warehouse, and does its job on a copy; returns what that gives."""
        warehouse, plain = folder / "before", Scene(scene.name, (), (), ())
        warehouse.mkdir(parents=True)
        for command in scene.before:
            self.do(plain, command, warehouse)
        done = shutil.copytree(warehouse, folder / "done")
        points: list[str] = []
        reach, faults.reach = faults.reach, points.append
        try:
            self.do(scene, scene.job, done)
        finally:
            faults.reach = reach
        found = {"before": shown_hash(warehouse), "after": shown_hash(done), "newest": newest_hash(done)}
        return found | {"points": [*points, "exit"]}

    def _at_end(self, name: str) -> str:
        """What readers see after the job that follows the undisturbed one of a scene."""
        folder, scene = self.undisturbed(name).warehouse.parent, SCENES[name]
        kept = folder / "at_end"
        if not kept.exists():
            shutil.rmtree(folder / "next", ignore_errors=True)
            warehouse = shutil.copytree(folder / "done", folder / "next")
            self.do(scene, scene.after, warehouse)
            kept.write_text(shown_hash(warehouse), encoding="utf-8")
        return kept.read_text(encoding="utf-8")

    def copy(self, name: str, folder: Path) -> Path:
        """A copy of a scene's warehouse, at a path of its own: Delta remembers what it read at another."""
        # The folder may be there already, as a disk of its own.
        return shutil.copytree(self.undisturbed(name).warehouse, folder / "warehouse", dirs_exist_ok=True)


def run_here(spark: SparkSession, job: str, argv: Sequence[str]) -> None:
    """Runs a job's body in this session."""
    module = import_module(f"jobs.{job}")
    module.run(spark, module.arg_parser().parse_args(argv))


def soil(logs: Path, number: int) -> None:
    """Adds to a day what a small drawn log has too little of."""
    day, before = DAYS[number], DAYS[max(number - 1, 0)]
    plain = {
        "user_id": "ann",
        "event_type": "view",
        "event_ts": f"{day}T09:00:00Z",
        "text": f"tea {number % 4}",
    }
    events: list[dict[str, Any]] = [
        {"event_id": f"ann-{number}"} | plain,
        {"event_id": f"ann-{number}"} | plain,  # a double
        {"event_id": f"late-{number}"} | plain | {"event_ts": f"{before}T10:00:00Z", "text": "late tea"},
        {"event_id": f"too-late-{number}"} | plain | {"event_ts": "2025-01-01T10:00:00Z"},
        {"event_id": f"nobody-{number}"} | plain | {"user_id": None},
        {"event_id": f"no-time-{number}"} | plain | {"event_ts": "yesterday"},
        {"event_id": f"back-{number}"}
        | plain
        | {"event_type": "retract", "retracts_event_id": f"ann-{number - 1}"},
    ]
    with (logs / f"dt={day}" / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
        file.write('{"event_id": "torn\n')


def correct(day: Path) -> None:
    """Delivers the day again: a tenth of its records are gone, and others have another value."""
    for file in sorted(day.rglob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for number, line in enumerate(lines) if number % 10]
        changed = [re.sub(r'"value": *[\d.]+', '"value": 7.5', line) for line in kept]
        file.write_text("\n".join(changed) + "\n", encoding="utf-8")


# ---- doing what a refusal says


def advised(said: str, original: Command) -> Command:
    """The command that a refusal names. Fails where it names none."""
    if found := re.search(r"run backfill_profiles --start (\S+) --end (\d{4}-\d\d-\d\d)", said):
        return ("backfill_profiles", "--start", found[1], "--end", found[2])
    if "backfill_profiles --rebuild" in said:
        return ("backfill_profiles", "--rebuild")
    if found := re.search(r"run run_night --date (\d{4}-\d\d-\d\d)", said):
        return ("run_night", "--date", found[1])
    if found := re.search(r"run (maintain_tables|publish_run|check_tables) again", said):
        return original
    named = re.search(r"(\d{4}-\d\d-\d\d).*run that day", said)
    assert named, f"the refusal names no command: {said}"
    return ("run_night", "--date", named[1])


def recover(stage: Stage, scene: Scene, warehouse: Path, more: dict[str, Any] | None = None) -> list[str]:
    """Runs the scene's job again, and first whatever its refusals name; returns these."""
    refusals: list[str] = []
    todo = [scene.job]
    while todo:
        try:
            stage.do(scene, todo[-1], warehouse, more)
            todo.pop()
        except JobError as error:
            refusals.append(str(error))
            if is_done_already(todo[-1], str(error)):
                todo.pop()
                continue
            assert len(refusals) <= MOST_REFUSALS, refusals
            todo.append(advised(str(error), todo[-1]))
    return refusals


def is_done_already(command: Command, said: str) -> bool:
    """Whether a rollback is refused because the publication is rolled back: it has no other way to say so."""
    return command[:2] == ("publish_run", "--undo") and "can't be undone" in said
