"""What a night spends on leases, records and checks, by its own records.

The night is a process of its own, of one day of events. Its record says when it began and ended, and so do
those of its steps. What is no time of a step that makes rows is overhead: the checks, the publication, the
writing of records, and bringing files to the disk.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.io.reading import run_rows
from tests.faults.processes import started
from tests.perf.bench_ingest import DAY, write_day
from tests.perf.bench_recovery import EVENTS, SETTINGS
from tests.perf.report import Ratio, report

NIGHT = "run_night"
MAKING_ROWS = ("ingest_events", "embed_texts", "fold_profiles")
MOST = 0.15


def seconds_of(row: Mapping[str, Any]) -> float:
    """From the start to the end of a run."""
    return float((row["ended"] - row["started"]).total_seconds())


def overhead(rows: Sequence[Mapping[str, Any]]) -> tuple[float, dict[str, float]]:
    """The share of a night that makes no rows, and the seconds of each step; `rows` are its last records."""
    ended = {row["job"]: row for row in rows if row["ended"] is not None}
    spent = {job: seconds_of(row) for job, row in ended.items()}
    # Files and commits are brought to the disk for the records' sake.
    synced = sum(dict(ended[job]["seconds"]).get("sync", 0.0) for job in MAKING_ROWS)
    making = sum(spent[job] for job in MAKING_ROWS) - synced
    return 1 - making / spent[NIGHT], spent


def main(events: int = EVENTS) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = root / "bench.yaml"
        config.write_text(SETTINGS, encoding="utf-8")
        argv = ["--logs", write_day(root / "logs", events), "--date", str(DAY), "--bootstrap"]
        argv += ["--config", str(config), "--warehouse", str(root / "warehouse")]
        with started(NIGHT, argv, root / "output", env={"JAVA_TOOL_OPTIONS": ""}) as job:
            if job.wait():
                raise RuntimeError(f"the night failed: {job.said()[-1000:]}")
        share, spent = overhead(run_rows(str(root / "warehouse")))
    ratios = [Ratio("leases, records and checks over the night", share, most=MOST)]
    figures: dict[str, object] = {"events": events}
    figures |= {f"{job}, s": round(seconds, 1) for job, seconds in spent.items()}
    return report("overhead", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
