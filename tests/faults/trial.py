"""One trial: a job is disturbed, its processes end, its work is done again, and every invariant is asked.

The invariants are the same for all faults. Readers see what they saw before or what the undisturbed job
gives, at every moment. No process outlives the job, and its lease is free. A failed job says one sentence.
After the command is run again, and whatever its refusals name before it, readers see what the undisturbed
job gives, bit for bit, and the next job works as if nothing had happened.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.scenes import (
    SCENES,
    Scene,
    Stage,
    Undisturbed,
    newest_hash,
    recover,
    require_free_lease,
    shown_hash,
)

# Between two looks of a reader.
LOOK_S = 1.5
TRACE = re.compile(r"^\s+at [\w.$/<>]+\(|^Traceback|^\s+File \"|py4j\.|java\.\w+\.\w+Exception", re.MULTILINE)


class Readers:
    """Looks at what is published again and again while a context lasts, without Spark."""

    def __init__(self, warehouse: Path) -> None:
        self.warehouse = warehouse
        self.seen: set[str] = set()
        self.problems: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while True:
            try:
                self.seen.add(shown_hash(self.warehouse))
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}"[:300])
            if self._ended.wait(LOOK_S):
                return

    @contextmanager
    def looking(self) -> Iterator[None]:
        """They look while the context lasts."""
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()


@dataclass
class Trial:
    """A scene's warehouse in a folder of its own, to be disturbed and then judged."""

    stage: Stage
    scene: Scene
    folder: Path
    warehouse: Path
    expected: Undisturbed
    refusals: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, stage: Stage, name: str, folder: Path) -> "Trial":
        """A trial on a fresh copy of the scene's warehouse."""
        folder.mkdir(parents=True, exist_ok=True)
        expected = stage.undisturbed(name)
        return cls(stage, SCENES[name], folder, stage.copy(name, folder), expected)

    def argv(self, more: dict[str, Any] | None = None, warehouse: Path | None = None) -> list[str]:
        """The arguments of the scene's job."""
        return self.stage.argv(self.scene, self.scene.job, warehouse or self.warehouse, more)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, readers look: they may see one night or the other, and nothing else."""
        readers = Readers(self.warehouse)
        with readers.looking():
            yield
        allowed = {self.expected.before, self.expected.after}
        assert not readers.problems, f"readers were refused: {readers.problems[:3]}"
        assert readers.seen <= allowed, "readers saw what is neither one night nor the other"

    def recover(self, more: dict[str, Any] | None = None) -> None:
        """Does the work again, as the messages say."""
        self.refusals = recover(self.stage, self.scene, self.warehouse, more)
        for refusal in self.refusals:
            require_one_sentence(refusal)

    def judge(self) -> None:
        """Fails where the warehouse is not what an undisturbed job gives."""
        assert shown_hash(self.warehouse) == self.expected.after, "readers see another result"
        assert newest_hash(self.warehouse) == self.expected.newest, "tables hold another result"
        require_free_lease(self.warehouse)

    def judge_the_next(self, more: dict[str, Any] | None = None) -> None:
        """Runs the job that follows, and fails where its result is another one."""
        self.stage.do(self.scene, self.scene.after, self.warehouse, more)
        expected = self.stage.at_end(self.scene.name)
        assert shown_hash(self.warehouse) == expected, "the next night gives another result"
        assert newest_hash(self.warehouse) == expected, "tables hold what readers do not see"


def require_one_sentence(said: str) -> None:
    """Fails where what a job says of its end is no single line, or shows the code's insides."""
    assert not TRACE.search(said), f"a stack trace: {said[:500]}"
    last = said.strip().splitlines()[-1] if said.strip() else ""
    assert last, "nothing was said"
