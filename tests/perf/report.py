"""The report of a benchmark: ratios measured in one run, each with its bounds, as one line of JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ratio:
    """A figure that means the same on every machine, with its lower and upper bound (inclusive)."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )


def report(bench: str, ratios: Sequence[Ratio], figures: Mapping[str, object]) -> int:
    """Prints the line. Returns the exit status: 1 where a ratio is outside its bounds."""
    shown = [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(r).items()} | {"holds": r.holds}
        for r in ratios
    ]
    print(
        json.dumps({"bench": bench, "cores": os.cpu_count(), "ratios": shown, "figures": dict(figures)}),
        flush=True,
    )
    return 0 if all(r.holds for r in ratios) else 1
