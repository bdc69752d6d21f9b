"""A run as a folder that MLflow reads: its file store, written by hand.

The package mlflow-skinny would hold other packages of the environment back; the layout is a few small files.
"""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import yaml

from jobs.rank.metrics import NAMES

EXPERIMENT, EXPERIMENT_ID = "nightfold evaluation", "1"
# MLflow's numbers for a finished run and for a source that is a script.
FINISHED: Final = 3
LOCAL_SOURCE: Final = 4
ACTIVE: Final = "active"


def run_files(result: Mapping[str, Any], text: str, now_ms: int, root: str) -> dict[str, str]:
    """The store's files by path, with a run named after its content.

    result: of summary.py; text: its JSON, an artifact; now_ms: when, milliseconds since 1970; root: the
    store's folder, absolute.
    """
    run_id = blake2b(text.encode(), digest_size=16).hexdigest()
    experiment, run = EXPERIMENT_ID, f"{EXPERIMENT_ID}/{run_id}"
    places = {"artifact_location": f"{root}/{experiment}", "experiment_id": experiment, "name": EXPERIMENT}
    times = {"creation_time": now_ms, "last_update_time": now_ms}
    run_name = f"{result['days']['first']}..{result['days']['last']}"
    about = {
        "artifact_uri": f"{root}/{run}/artifacts",
        "end_time": now_ms,
        "entry_point_name": "",
        "experiment_id": experiment,
        "lifecycle_stage": ACTIVE,
        "run_id": run_id,
        "run_name": run_name,
        "run_uuid": run_id,
        "source_name": "evaluate_profiles",
        "source_type": LOCAL_SOURCE,
        "source_version": "",
        "start_time": now_ms,
        "status": FINISHED,
        "tags": [],
        "user_id": "nightfold",
    }
    files = {
        f"{experiment}/meta.yaml": yaml.safe_dump(places | times | {"lifecycle_stage": ACTIVE}),
        f"{run}/meta.yaml": yaml.safe_dump(about),
        f"{run}/tags/mlflow.runName": run_name,
        f"{run}/artifacts/evaluation.json": text,
    }
    files |= {f"{run}/params/{name}": value for name, value in parameters(result).items()}
    files |= {f"{run}/metrics/{name}": f"{now_ms} {value!r} 0\n" for name, value in metrics(result).items()}
    return files


def parameters(result: Mapping[str, Any]) -> dict[str, str]:
    """What was set and chosen, by name."""
    found = {name: str(value) for name, value in result["rules"].items()}
    found |= {"seed": str(result["bootstrap"]["seed"]), "best_baseline": result["best_baseline"]}
    for row in result["models"]:
        found |= {f"{row['model']}.{name}": f"{value:g}" for name, value in row["parameters"].items()}
    return found


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Every figure of the table, by model and name."""
    names = (*NAMES, "coverage", "gini")
    return {
        f"{row['model']}.{name}": row[name]
        for row in result["models"]
        for name in names
        if row[name] is not None
    }


def write_files(files: Mapping[str, str], root: Path) -> None:
    """Writes texts by path below a folder, which is made where there is none."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
