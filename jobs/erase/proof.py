"""The proof of an erasure: a scan of every byte of every file of the warehouse, written down without ids."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.erase.rows import Wanted
from jobs.io.messages import JobError, say
from jobs.io.runs import Run
from jobs.io.storage import every_file, write_text
from jobs.io.warehouse import Warehouse
from schemas.all_tables import ALL_TABLES
from udfs.traces import INPUT_SCHEMA, OUTPUT_SCHEMA, Ids, scan_stream

# Folder of the proofs in the warehouse.
FOLDER = "_erasure"
# Tables in which other users' own texts may name somebody, and what stands for the rest of the warehouse.
OF_OTHERS = {table.name for table in ALL_TABLES if {"user_id", "item_id"} & set(table.names)}
# Files with a hit that are named: whoever mends the first ones sees the others at the next run.
MOST_NAMED = 100


@dataclass(frozen=True)
class Scanned:
    """What a scan found in one folder: hits should be none, mentions are in texts of other users."""

    files: int
    bytes: int
    hits: int
    mentions: int


@dataclass(frozen=True)
class Proof:
    """The scan of a warehouse by folder, with the first files that have hits.

    ids: how many users; searched: how many of their ids, in both forms, were looked for in every text.
    """

    folders: dict[str, Scanned]
    files_with_hits: list[str]
    ids: int
    searched: int

    @property
    def hits(self) -> int:
        """All hits."""
        return sum(found.hits for found in self.folders.values())

    @property
    def counts(self) -> dict[str, int]:
        """Sums for the run record."""
        found = self.folders.values()
        return {
            "files_scanned": sum(one.files for one in found),
            "bytes_scanned": sum(one.bytes for one in found),
            "hits": self.hits,
            "mentions": sum(one.mentions for one in found),
        }

    def to_json(self, **more: str) -> str:
        """As the file of the proof has it."""
        folders = {name: asdict(found) for name, found in sorted(self.folders.items())}
        about = {"ids": self.ids, "ids_searched_everywhere": self.searched, **self.counts}
        return json.dumps(
            more | about | {"folders": folders, "files_with_hits": self.files_with_hits}, indent=2
        )


def scan_warehouse(warehouse: Warehouse, ids: Ids, count: int) -> Proof:
    """Looks for the ids in every file of the warehouse, hidden ones and logs too. count: of the users."""
    found = scanned_files(warehouse, ids).localCheckpoint()
    sums = [F.count("*").alias("files"), *[F.sum(n).alias(n) for n in ("bytes", "hits", "mentions")]]
    rows = found.groupBy("folder").agg(*sums).collect()
    folders = {row["folder"]: Scanned(*row[1:]) for row in rows}
    named = found.where("hits > 0").orderBy("path").limit(MOST_NAMED).select("path").collect()
    return Proof(folders, [row["path"] for row in named], count, len(ids.everywhere.texts))


def scanned_files(warehouse: Warehouse, ids: Ids) -> DataFrame:
    """What was found in each file (udfs/traces.py OUTPUT_SCHEMA)."""
    spark = warehouse.spark
    shared = spark.sparkContext.broadcast(ids)

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return scan_stream(batches, shared.value)

    files = [(*place(warehouse.uri, path), path) for path in every_file(spark, warehouse.uri)]
    frame = spark.createDataFrame(files, from_arrow_schema(INPUT_SCHEMA))
    parts = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    return frame.repartition(parts, "path").mapInArrow(scan, from_arrow_schema(OUTPUT_SCHEMA))


def place(uri: str, path: str) -> tuple[str, bool]:
    """The folder of the warehouse in which a file lies, and whether other users' texts may be in the file.

    >>> place("/w", "/w/items/part-0.parquet"), place("/w", "/w/items/_delta_log/0.json")
    (('items', True), ('items', False))
    >>> place("s3a://b/w", "s3a://b/w/note")
    ('note', False)
    """
    folder, *below = path[len(uri) :].lstrip("/").split("/")
    return folder, folder in OF_OTHERS and "_delta_log" not in below


def prove(run: Run, wanted: Wanted, day: date) -> None:
    """Scans the warehouse and writes the proof. Raises JobError, naming a file, where an id is left."""
    proof = scan_warehouse(run.warehouse, wanted.searched, len(wanted.ids))
    path = f"{run.warehouse.uri}/{FOLDER}/{run.spec.run_id}.json"
    write_text(run.spark, path, proof.to_json(run_id=run.spec.run_id, date=str(day)))
    run.counts |= proof.counts
    if proof.hits:
        raise JobError(
            f"{proof.files_with_hits[0]} still holds an erased id, as one of {len(proof.files_with_hits)} "
            f"files that {path} names; remove what is not the warehouse's, and run the same command again"
        )
    say(f"{run.spec.job}: no file holds an erased id; {path} is the proof")
