"""Rankers in the warehouse: a row of ranking_models and a file each; the file is written first."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.disk import sync
from jobs.io.runs import Run
from jobs.io.scratch import scratch_folders
from jobs.io.storage import copy_files, is_local, path_exists
from jobs.io.warehouse import Warehouse
from jobs.recommend.artefact import Artefact, load, save
from jobs.recommend.training import Trained
from schemas import ranking_models
from schemas.ranking_models import FOLDER
from udfs.rank import PARTS


@dataclass(frozen=True)
class Stored:
    """A ranker as it was stored."""

    version: str
    kind: str
    parameters: dict[str, float]
    artefact: Artefact

    @property
    def weights(self) -> tuple[float, float, float, float, float]:
        """The weights of the parts, in their order."""
        content, collaborative, popularity, own, freshness = (
            self.parameters[f"weight_{part}"] for part in PARTS
        )
        return content, collaborative, popularity, own, freshness


def store(run: Run, trained: Trained, ids: pa.Array, days: Days, about: dict[str, str]) -> str:
    """Stores a ranker; returns its version. Without a commit where the same one is stored.

    ids: of the items of its arrays. about: the columns model_key and repeat.
    """
    warehouse = run.warehouse
    says: dict[str, Any] = about | {
        "kind": trained.kind,
        "parameters": trained.parameters,
        "metrics": trained.metrics,
    }
    says |= {"trained_from": days.first, "trained_to": days.last}
    with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
        made = Path(folder) / "arrays.npz"
        says["artefact_sha256"] = save(ids, trained.arrays, made)
        told = json.dumps(says, sort_keys=True, default=str)
        version = f"{days.last}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        named = made.rename(Path(folder) / f"{version}.npz")
        run.writer.confirm()
        copy_files(run.spark, [f"file://{named}"], f"{warehouse.uri}/{FOLDER}")
    if is_local(warehouse.uri):
        # The row must not outlive the file in a power loss.
        for path in (Path(warehouse.uri, FOLDER, f"{version}.npz"), Path(warehouse.uri, FOLDER)):
            sync(path)
    stored = warehouse.read(ranking_models.TABLE).where(F.col("version") == version)
    if stored.isEmpty():
        row = says | {"version": version, "artefact": f"{FOLDER}/{version}.npz"}
        rows = run.spark.createDataFrame([row], ranking_models.TABLE.spark_schema())
        run.writer.insert_absent(ranking_models.TABLE, rows, F.lit(True))
    return version


def newest(warehouse: Warehouse, model_key: str, day: date) -> Stored | None:
    """The newest ranker that was trained to the day or before it, on vectors of the model; None without one.

    Of several of a day the last by version. Raises JobError where its file is gone or is another one.
    """
    rows = warehouse.read(ranking_models.TABLE).where(
        (F.col("model_key") == model_key) & (F.col("trained_to") <= F.lit(day))
    )
    found = rows.orderBy(F.desc("trained_to"), F.desc("version")).first()
    if found is None:
        return None
    uri = f"{warehouse.uri}/{found['artefact']}"
    with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
        copied = Path(folder) / Path(uri).name
        if is_local(uri) and Path(uri).is_file():
            shutil.copyfile(uri, copied)
        elif not is_local(uri) and path_exists(warehouse.spark, uri):
            copy_files(warehouse.spark, [uri], f"file://{folder}")
        artefact = load(copied, found["artefact_sha256"])
    return Stored(found["version"], found["kind"], dict(found["parameters"]), artefact)
