"""Finds the vector of a text: a compiled hash table from text_key to row.

pyarrow's index_in builds its table anew at every call, which took more than half of the fold's time with
125,000 texts in a task.
"""

from typing import Any, Final

import numba
import numpy as np

# Bytes of a key that are hashed; keys are hexadecimal digests, which differ early.
HASHED_BYTES: Final = 16


@numba.njit(cache=True)
def _slot(table: Any, offsets: Any, data: Any, wanted: Any, start: int, stop: int) -> int:
    """The slot of the key wanted[start:stop] in the open-addressed table, or the free slot for it."""
    key = wanted[start:stop]
    mixed = np.uint64(14695981039346656037)  # FNV-1a, 64 bits (Fowler, Noll, Vo)
    for j in range(min(key.shape[0], HASHED_BYTES)):
        mixed = (mixed ^ np.uint64(key[j])) * np.uint64(1099511628211)
    slot = np.int64(mixed & np.uint64(table.shape[0] - 1))
    while table[slot] >= 0:
        other = data[offsets[table[slot]] : offsets[table[slot] + 1]]
        if other.shape[0] == key.shape[0]:
            # No early exit, so that the compiler vectorises the loop.
            differ = np.uint8(0)
            for j in range(key.shape[0]):
                differ |= other[j] ^ key[j]
            if differ == 0:
                break
        slot = (slot + 1) & (table.shape[0] - 1)
    return int(slot)


@numba.njit(cache=True)
def index_keys(offsets: Any, data: Any) -> Any:
    """The hash table int32[...] of n strings; of equal strings the first is found.

    String i is data[offsets[i]:offsets[i + 1]], of uint8[...] and int32[n + 1].
    """
    size = 2
    while size < 2 * offsets.shape[0]:
        size *= 2
    table = np.full(size, -1, np.int32)
    for i in range(offsets.shape[0] - 1):
        slot = _slot(table, offsets, data, data, offsets[i], offsets[i + 1])
        if table[slot] < 0:
            table[slot] = i
    return table


@numba.njit(cache=True)
def find_keys(table: Any, offsets: Any, data: Any, wanted_offsets: Any, wanted: Any) -> Any:
    """The row int64[m] of each of m strings in the table, -1 for a string that it lacks."""
    found = np.empty(wanted_offsets.shape[0] - 1, np.int64)
    for i in range(found.shape[0]):
        found[i] = table[_slot(table, offsets, data, wanted, wanted_offsets[i], wanted_offsets[i + 1])]
    return found
