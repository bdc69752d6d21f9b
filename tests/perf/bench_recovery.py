"""How long the rerun of a killed night takes, against a night that nothing disturbed.

Each is a process of its own, as a scheduler starts it: the same day of events into a warehouse of its own. A
night is killed after its events, after its states, and before its last record; the longest rerun counts.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.faults.processes import started
from tests.perf.bench_ingest import DAY, write_day
from tests.perf.report import Ratio, report

EVENTS = 1_000_000
POINTS = (
    "commit.behavior_events.end",
    "commit.profile_states.end",
    "record.run_night.done.begin",
)
MOST = 1.2
SETTINGS = "{engine: {kind: hash}, spark: {driver_memory: 3g}}"


def seconds(argv: list[str], folder: Path, fault: str = "") -> float:
    """The time of a night. Raises RuntimeError where it fails, or ends well in spite of a fault."""
    began = time.monotonic()
    with started("run_night", argv, folder, fault, env={"JAVA_TOOL_OPTIONS": ""}) as job:
        if (job.wait() == 0) == bool(fault):
            raise RuntimeError(f"the night did not end as it should: {job.said()[-1000:]}")
    return time.monotonic() - began


def main(events: int = EVENTS) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "bench.yaml"
        config.write_text(SETTINGS, encoding="utf-8")
        logs = write_day(root / "logs", events)

        def night(name: str, fault: str = "") -> float:
            argv = ["--logs", logs, "--date", str(DAY), "--bootstrap", "--config", str(config)]
            return seconds([*argv, "--warehouse", str(root / name)], root / "output", fault)

        night("warm-up")
        undisturbed = min(night("first"), night("second"))
        reruns = {}
        for point in POINTS:
            night(point, f"{point}:kill")
            reruns[point] = night(point)
    ratios = [
        Ratio(
            "rerun of a killed night over an undisturbed one", max(reruns.values()) / undisturbed, most=MOST
        )
    ]
    figures = {"events": events, "undisturbed_seconds": round(undisturbed, 1)}
    figures |= {f"rerun after {point}, s": round(spent, 1) for point, spent in reruns.items()}
    return report("recovery", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
