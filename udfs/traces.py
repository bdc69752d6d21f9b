"""Looks for ids in files: among all bytes, and in the texts that Parquet's columns decode to.

Compression hides an id from a search of the bytes alone, and a search of what readers see misses what only
lies in a file. Ids that mean nothing by themselves (digits, very short ones) are looked for in the columns of
users alone: elsewhere they would be found everywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

INPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("folder", pa.string()),  # the part of the warehouse that the file belongs to
        pa.field("is_of_others", pa.bool_()),  # whether texts in it may be other users' own
        pa.field("path", pa.string()),
    ]
)
OUTPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("folder", pa.string()),
        pa.field("path", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("hits", pa.int64()),
        pa.field("mentions", pa.int64()),
    ]
)
# Columns that say who somebody is.
USER_COLUMNS: Final = ("user_id", "companions")
# Bytes of an id that is looked for in every text, and of one that no compressed file has by chance.
SHORTEST, SHORTEST_RAW = 5, 8
PARQUET: Final = b"PAR1"
BLOCK: Final = 8 << 20
ROWS: Final = 65_536


@dataclass(frozen=True)
class Needles:
    """Texts of at least four bytes to be found together, in one pass."""

    texts: frozenset[bytes] = field(repr=False)

    @cached_property
    def lengths(self) -> list[int]:
        """The lengths that occur, in bytes."""
        return sorted({len(text) for text in self.texts})

    @cached_property
    def heads(self) -> np.ndarray:
        """The first four bytes of each, uint32[n], sorted."""
        return np.unique(np.array([int.from_bytes(text[:4]) for text in self.texts], np.uint32))

    @cached_property
    def pairs(self) -> np.ndarray:
        """Whether one begins with the two bytes, bool[65536]."""
        is_head = np.zeros(1 << 16, np.bool_)
        is_head[self.heads >> 16] = True
        return is_head

    def count(self, block: bytes, is_first: bool = True, is_last: bool = True) -> int:
        r"""How often they stand in the block, not as a part of a longer word of ASCII letters and digits.

        What touches an end of the block counts only where nothing lies beyond.

        >>> Needles(frozenset([b"anna7"])).count(b"\x00anna7-03 anna71 hanna7")
        1
        """
        if not self.texts or len(block) < SHORTEST:
            return 0
        data = np.frombuffer(block, np.uint8)
        pair = data[:-1].astype(np.uint16) << 8 | data[1:]
        places = np.flatnonzero(self.pairs[pair[:-2]])
        quads = pair[places].astype(np.uint32) << 16 | pair[places + 2]
        places = places[np.isin(quads, self.heads)]
        return sum(
            block[at : at + length] in self.texts
            and (at > 0 or is_first)
            and (at + length < len(block) or is_last)
            and not block[max(0, at - 1) : at].isalnum()
            and not block[at + length : at + length + 1].isalnum()
            for at in places.tolist()
            for length in self.lengths
        )


@dataclass(frozen=True)
class Ids:
    """The ids of erased users, as the logs have them and as they are stored."""

    all: frozenset[str] = field(repr=False)

    @cached_property
    def everywhere(self) -> Needles:
        """Those that are looked for in every text."""
        return self._needles(SHORTEST)

    @cached_property
    def raw(self) -> Needles:
        """Those that are looked for in compressed bytes."""
        return self._needles(SHORTEST_RAW)

    def _needles(self, shortest: int) -> Needles:
        texts = (text.encode() for text in self.all if not text.isdecimal())
        return Needles(frozenset(text for text in texts if len(text) >= shortest))


def scan_stream(batches: Iterable[pa.RecordBatch], ids: Ids) -> Iterator[pa.RecordBatch]:
    """What is found in each file (OUTPUT_SCHEMA). batches: INPUT_SCHEMA."""
    for batch in batches:
        rows = [file | scan_path(file["path"], file["is_of_others"], ids) for file in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, OUTPUT_SCHEMA)


def scan_path(path: str, is_of_others: bool, ids: Ids) -> dict[str, int]:
    """The size of a file with its hits and mentions; nothing of one that is gone meanwhile."""
    try:
        with _opened(path) as stream:
            return scan(stream, is_of_others, ids)
    except FileNotFoundError:
        return {"bytes": 0, "hits": 0, "mentions": 0}


def _opened(path: str) -> Any:
    """A file of a local folder or an object store, whose s3:// is Spark's s3a://."""
    if "://" not in path:
        return fs.LocalFileSystem().open_input_file(path)
    system, name = fs.FileSystem.from_uri(path.replace("s3a://", "s3://", 1))
    return system.open_input_file(name)


def scan(stream: IO[bytes], is_of_others: bool, ids: Ids) -> dict[str, int]:
    """The size of a file, its hits, and its mentions: an id in a text that another user may have written.

    A Parquet file that can't be decoded is a hit, since nobody knows what it holds.
    """
    is_parquet = stream.read(len(PARQUET)) == PARQUET
    stream.seek(0)
    size, raw = count_raw(stream, ids.raw if is_parquet else ids.everywhere)
    if not is_parquet:
        return {"bytes": size, "hits": raw, "mentions": 0}
    stream.seek(0)
    try:
        of_users, in_texts = count_decoded(pq.ParquetFile(stream), ids)
    except (pa.ArrowException, OSError):
        return {"bytes": size, "hits": raw + 1, "mentions": 0}
    if is_of_others and in_texts:
        # Such a text may stand in the bytes as it is.
        return {"bytes": size, "hits": of_users, "mentions": in_texts}
    return {"bytes": size, "hits": of_users + in_texts + raw, "mentions": 0}


def count_raw(stream: IO[bytes], needles: Needles) -> tuple[int, int]:
    """Bytes of a file, and how often the needles stand in them; at the edge of a block they count twice."""
    overlap = max(needles.lengths, default=0) + 2
    size, found, window, is_first = 0, 0, b"", True
    following = stream.read(BLOCK)
    while following:
        chunk, following = following, stream.read(BLOCK)
        size += len(chunk)
        window += chunk
        found += needles.count(window, is_first, is_last=not following)
        window, is_first = window[-overlap:], False
    return size, found


def count_decoded(file: pq.ParquetFile, ids: Ids) -> tuple[int, int]:
    """How often users' columns of a Parquet file hold an id, and how often other texts do."""
    wanted = pa.array(sorted(ids.all), pa.string())
    names = [f.name for f in file.schema_arrow if _has_texts(f.type)]
    of_users = in_texts = 0
    if not names:
        return 0, 0
    for batch in file.iter_batches(ROWS, columns=names):
        for name in batch.schema.names:
            for texts in _texts(batch.column(name)):
                if name in USER_COLUMNS:
                    of_users += pc.sum(pc.is_in(texts, wanted)).as_py() or 0
                else:
                    in_texts += ids.everywhere.count(_joined(texts))
    return of_users, in_texts


def _has_texts(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_texts(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(values: pa.Array) -> Iterator[pa.Array]:
    """The texts in an array of any type."""
    kind = values.type
    if pa.types.is_map(kind):
        yield from _texts(values.keys)
        yield from _texts(values.items)
    elif pa.types.is_list(kind):
        yield from _texts(values.flatten())
    elif pa.types.is_struct(kind):
        for part in values.flatten():
            yield from _texts(part)
    elif _has_texts(kind):
        yield values.cast(pa.string())


def _joined(texts: pa.Array) -> bytes:
    """The texts one after the other, kept apart by a byte that no id has."""
    given = texts.drop_null()
    ends = pa.array([0, len(given)], pa.int32())
    return str(pc.binary_join(pa.ListArray.from_arrays(ends, given), "\0")[0]).encode()
