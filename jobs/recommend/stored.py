"""Rankers in the warehouse: a row of ranking_models and a file each; the file is written first."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import and_
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.disk import sync
from jobs.io.history import ONE_DAY, Record, standing
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from jobs.io.scratch import scratch_folders
from jobs.io.storage import copy_files, is_local, path_exists
from jobs.io.warehouse import Warehouse
from jobs.recommend.artefact import Artefact, load, save, sha256_of
from jobs.recommend.gate import InForce, Verdict
from jobs.recommend.training import Trained
from schemas import ranking_models, recommendations
from schemas.pipeline_runs import DONE
from schemas.ranking_models import FOLDER
from schemas.settings import Settings
from udfs.rank import PARTS

# The columns of a ranker that must be those of the settings, with their values.
Terms = Mapping[str, str]


def terms_of(settings: Settings) -> Terms:
    """What a ranker must have been trained for to make lists under these settings."""
    return {"model_key": model_key_of(settings.engine), "repeat": settings.recommend.repeat}


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


def store(run: Run, trained: Trained, verdict: Verdict, ids: pa.Array, days: Days, terms: Terms) -> str:
    """Stores a ranker and its verdict; returns its version. Without a commit where the same one is stored.

    ids: of the items of its arrays. terms: as terms_of gives them.
    """
    warehouse = run.warehouse
    says: dict[str, Any] = dict(terms) | {
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
        store_file(run, named, says["artefact_sha256"])
    stored = warehouse.read(ranking_models.TABLE)
    if stored.where(F.col("version") == version).isEmpty():
        row = says | {"version": version, "artefact": f"{FOLDER}/{version}.npz"}
        row |= {"sequence": 1 + stored.count(), "in_force_from": next_day(run.log.records())}
        rows = run.spark.createDataFrame([row], ranking_models.TABLE.spark_schema())
        run.writer.insert_absent(ranking_models.TABLE, rows, F.lit(True))
    return version


def store_file(run: Run, file: Path, sha256: str) -> None:
    """Copies a ranker's file into the warehouse, where it is not there already.

    A file that a row names is never written again, unless it is damaged: a crash meanwhile would damage it.
    """
    uri = f"{run.warehouse.uri}/{FOLDER}/{file.name}"
    with fetched(run.warehouse, uri) as found:
        if found.is_file() and sha256_of(found) == sha256:
            return
    run.writer.confirm()
    copy_files(run.spark, [f"file://{file}"], f"{run.warehouse.uri}/{FOLDER}")
    if is_local(uri):
        # The row must not outlive the file in a power loss.
        for path in (Path(uri), Path(uri).parent):
            sync(path)


@contextmanager
def fetched(warehouse: Warehouse, uri: str) -> Iterator[Path]:
    """A file of the warehouse on this machine; the path leads nowhere where there is none."""
    with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
        if is_local(uri):
            yield Path(uri)
            return
        if path_exists(warehouse.spark, uri):
            copy_files(warehouse.spark, [uri], f"file://{folder}")
        yield Path(folder, Path(uri).name)


def next_day(ordered: Sequence[Record]) -> date:
    """The first day whose night has not made its lists yet: after the newest published or with lists."""
    made = [r for r in ordered if r.job == recommendations.TABLE.written_by and r.status == DONE]
    return max(r.days.last for r in (*standing(ordered), *made)) + ONE_DAY


def accepted(warehouse: Warehouse, terms: Terms, day: date) -> list[Row]:
    """The accepted rankers of these terms, trained to the day or before it, newest first.

    Of those trained to the same day the one stored last comes first.
    """
    of_terms = reduce(and_, [F.col(name) == value for name, value in terms.items()])
    rows = warehouse.read(ranking_models.TABLE).where("accepted").where(of_terms)
    in_time = rows.where(F.col("trained_to") <= F.lit(day))
    return in_time.orderBy(F.desc("trained_to"), F.desc("sequence")).collect()


def known_then(rankers: Sequence[Row], day: date) -> Row | None:
    """The ranker in force on a day, of `accepted` ones: the first that was there when the day's night ran.

    Where none was, as before the first night with lists, the one that was there first. So later trainings
    change nothing in what a rerun of the day makes.
    """
    found = next((row for row in rankers if row["in_force_from"] <= day), None)
    return found or min(rankers, key=lambda row: row["sequence"], default=None)


def in_force(warehouse: Warehouse, trained: Trained, days: Days, terms: Terms) -> InForce | None:
    """The ranker that a newly trained one would replace; None without one.

    The same one, stored before, is not its own predecessor: trained again, it gets the same verdict again.
    """

    def is_same(row: Row) -> bool:
        other = row["kind"], row["parameters"], row["trained_from"], row["trained_to"]
        return other == (trained.kind, trained.parameters, days.first, days.last)

    found = next((row for row in accepted(warehouse, terms, days.last) if not is_same(row)), None)
    return None if found is None else InForce(found["version"], found["kind"], found["parameters"])


def newest(warehouse: Warehouse, terms: Terms, day: date) -> Stored | None:
    """The ranker in force on a day (known_then); None without one.

    Raises JobError where its file is gone or is another one.
    """
    found = row_in_force(warehouse, terms, day)
    return None if found is None else opened(warehouse, found)


def row_in_force(warehouse: Warehouse, terms: Terms, day: date) -> Row | None:
    """The row of the ranker in force on a day; None without one."""
    return known_then(accepted(warehouse, terms, day), day)


def of_version(warehouse: Warehouse, version: str) -> Stored | None:
    """The ranker of a version; None where it was erased. Raises JobError as `newest` does."""
    found = warehouse.read(ranking_models.TABLE).where(F.col("version") == version).first()
    return None if found is None else opened(warehouse, found)


def opened(warehouse: Warehouse, found: Row) -> Stored:
    """A ranker by its row. Raises JobError where its file is gone or is another one."""
    with fetched(warehouse, f"{warehouse.uri}/{found['artefact']}") as file:
        artefact = load(file, found["artefact_sha256"])
    return Stored(found["version"], found["kind"], dict(found["parameters"]), artefact)
