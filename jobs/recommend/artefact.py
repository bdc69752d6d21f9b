"""A ranker's file: NumPy arrays in one .npz without pickle, the same bytes for the same ranker."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from jobs.io.messages import JobError
from jobs.rank.popularity import Arrays
from udfs.rank import Near

NEAR = ("near_data", "near_items", "near_starts")


@dataclass(frozen=True)
class Artefact:
    """Of m items: ids, string[m], ascending; popularity, float64[m]; near, what a choice says of others."""

    ids: pa.Array
    popularity: NDArray[np.float64]
    near: Near

    def placed(self, ids: pa.Array) -> tuple[NDArray[np.float64], Near]:
        """Popularity and near for other items, string[n]; nothing for those that are not in the file."""
        place = pc.fill_null(pc.index_in(self.ids, value_set=ids), -1).to_numpy().astype(np.int64)
        there = place >= 0
        popularity = np.zeros(len(ids))
        popularity[place[there]] = self.popularity[there]
        rows, columns = np.repeat(place, np.diff(self.near.starts)), place[self.near.items]
        kept = (rows >= 0) & (columns >= 0)
        weights = sparse.csr_matrix(
            (self.near.data[kept], (rows[kept], columns[kept])), shape=(len(ids), len(ids))
        )
        weights.sort_indices()
        starts = weights.indptr.astype(np.int64)
        return popularity, Near(weights.data, weights.indices.astype(np.int32), starts)


def save(ids: pa.Array, arrays: Arrays, path: Path) -> str:
    """Writes the file; returns its SHA-256. arrays: `popularity` and NEAR."""
    texts = [text.encode() for text in ids.to_pylist()]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    named: dict[str, NDArray[Any]] = {name: np.asarray(arrays[name]) for name in ("popularity", *NEAR)}
    named |= {"ids": np.frombuffer(b"".join(texts), np.uint8), "id_ends": ends}
    np.savez(path, allow_pickle=False, **named)
    return sha256_of(path)


def load(path: Path, sha256: str) -> Artefact:
    """Reads the file. Raises JobError where it is not the one that was written."""
    problem = JobError(
        f"{path.name}, the file of a ranking model, is not the one that was trained; run train_ranker again"
    )
    if not path.is_file() or sha256_of(path) != sha256:
        raise problem
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content, ends = arrays["ids"].tobytes(), arrays["id_ends"].tolist()
            texts = [content[first:last].decode() for first, last in zip([0, *ends], ends, strict=False)]
            near = Near(*[arrays[name] for name in NEAR])
            return Artefact(pa.array(texts, pa.string()), arrays["popularity"], near)
    except (AttributeError, BadZipFile, KeyError, ValueError) as error:
        raise problem from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
