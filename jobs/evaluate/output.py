"""Writes a run's files: the JSON, the page, the plots, and by option a folder that MLflow reads."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jobs.evaluate.mlflow_folder import run_files, write_files
from jobs.evaluate.page import page
from jobs.evaluate.plots import plots

JSON_FILE: Final = "evaluation.json"
PAGE_FILE: Final = "evaluation.md"


def write_result(result: Mapping[str, Any], out: Path, mlflow: Path | None) -> list[Path]:
    """Writes everything, and returns the page and the folders. out, mlflow: made where they do not exist."""
    text, drawn = json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n", plots(result)
    titles = [(title, name) for name, (title, _) in drawn.items()]
    files = {JSON_FILE: text, PAGE_FILE: page(result, titles)} | {
        name: svg for name, (_, svg) in drawn.items()
    }
    write_files(files, out)
    if mlflow is None:
        return [out / PAGE_FILE]
    write_files(run_files(result, text, time.time_ns() // 1_000_000, str(mlflow.resolve())), mlflow)
    return [out / PAGE_FILE, mlflow]
