"""Runs the benchmarks in turn, each in its own process; fails where a ratio is outside its bounds.

python -m tests.perf [NAME ...]      runs the files bench_NAME.py, by default all
"""

import subprocess
import sys
from pathlib import Path

NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main(wanted: list[str]) -> int:
    if unknown := sorted(set(wanted) - set(NAMES)):
        print(f"there is no benchmark {unknown[0]}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    # Only JSON goes to standard output; the messages of the measured jobs go to standard error.
    failed = [
        name
        for name in wanted or NAMES
        if subprocess.run([sys.executable, "-m", f"tests.perf.bench_{name}"]).returncode
    ]
    if failed:
        print(f"outside their bounds, or not completed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
