"""Rankers in the warehouse: a row of ranking_models and a file each; the file is written first."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.disk import sync
from jobs.io.runs import Run
from jobs.io.scratch import scratch_folders
from jobs.io.storage import copy_files, is_local, path_exists
from jobs.io.warehouse import Warehouse
from jobs.recommend.artefact import Artefact, load, save
from jobs.recommend.gate import InForce, Verdict
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


def store(
    run: Run, trained: Trained, verdict: Verdict, ids: pa.Array, days: Days, about: dict[str, str]
) -> str:
    """Stores a ranker and its verdict; returns its version. Without a commit where the same one is stored.

    ids: of the items of its arrays. about: the columns model_key and repeat.
    """
    warehouse = run.warehouse
    says: dict[str, Any] = about | {
        "kind": trained.kind,
        "parameters": trained.parameters,
        "metrics": trained.metrics | verdict.metrics,
        "accepted": verdict.accepted,
        "verdict": verdict.reason,
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
    stored = warehouse.read(ranking_models.TABLE)
    if stored.where(F.col("version") == version).isEmpty():
        row = says | {"version": version, "artefact": f"{FOLDER}/{version}.npz"}
        row |= {"sequence": 1 + stored.count()}
        rows = run.spark.createDataFrame([row], ranking_models.TABLE.spark_schema())
        run.writer.insert_absent(ranking_models.TABLE, rows, F.lit(True))
    return version


def accepted(warehouse: Warehouse, model_key: str, day: date) -> DataFrame:
    """The accepted rankers, trained to the day or before it on vectors of the model, newest first.

    Of those trained to the same day the one stored last comes first.
    """
    rows = warehouse.read(ranking_models.TABLE).where(
        F.col("accepted") & (F.col("model_key") == model_key) & (F.col("trained_to") <= F.lit(day))
    )
    return rows.orderBy(F.desc("trained_to"), F.desc("sequence"))


def in_force(warehouse: Warehouse, trained: Trained, days: Days, about: dict[str, str]) -> InForce | None:
    """The ranker that a newly trained one would replace; None without one.

    The same one, stored before, is not its own predecessor: trained again, it gets the same verdict again.
    """

    def is_same(row: Row) -> bool:
        other = row["kind"], row["parameters"], row["trained_from"], row["trained_to"], row["repeat"]
        return other == (trained.kind, trained.parameters, days.first, days.last, about["repeat"])

    rows = accepted(warehouse, about["model_key"], days.last).collect()
    found = next((row for row in rows if not is_same(row)), None)
    return None if found is None else InForce(found["version"], found["kind"], found["parameters"])


def newest(warehouse: Warehouse, model_key: str, day: date) -> Stored | None:
    """The ranker in force on a day: the first of `accepted`; None without one.

    Raises JobError where its file is gone or is another one.
    """
    found = row_in_force(warehouse, model_key, day)
    return None if found is None else opened(warehouse, found)


def row_in_force(warehouse: Warehouse, model_key: str, day: date) -> Row | None:
    """The row of the ranker in force on a day; None without one."""
    return accepted(warehouse, model_key, day).first()


def of_version(warehouse: Warehouse, version: str) -> Stored | None:
    """The ranker of a version; None where it was erased. Raises JobError as `newest` does."""
    found = warehouse.read(ranking_models.TABLE).where(F.col("version") == version).first()
    return None if found is None else opened(warehouse, found)


def opened(warehouse: Warehouse, found: Row) -> Stored:
    """A ranker by its row. Raises JobError where its file is gone or is another one."""
    uri = f"{warehouse.uri}/{found['artefact']}"
    with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
        file = Path(uri) if is_local(uri) else Path(folder, Path(uri).name)
        if not is_local(uri) and path_exists(warehouse.spark, uri):
            copy_files(warehouse.spark, [uri], f"file://{folder}")
        artefact = load(file, found["artefact_sha256"])
    return Stored(found["version"], found["kind"], dict(found["parameters"]), artefact)
