"""Which vector a text has: a compiled hash table from text_key to row."""

from typing import Any, Final

import numba
import numpy as np

# ---- which vector a text has
#
# pyarrow's index_in makes its table anew at every call: with 125,000 texts of a task it took more than half of the fold's time.

HASHED_LETTERS: Final = 16


@numba.njit(cache=True)
def _slot(table: Any, offsets: Any, data: Any, wanted: Any, start: int, stop: int) -> int:
    """Where a key stands in the open-addressed table, or the free place for it; the key is wanted[start:stop]."""
    key = wanted[start:stop]
    mixed = np.uint64(14695981039346656037)  # FNV-1a, of letters that tell digests apart
    for j in range(min(key.shape[0], HASHED_LETTERS)):
        mixed = (mixed ^ np.uint64(key[j])) * np.uint64(1099511628211)
    slot = np.int64(mixed & np.uint64(table.shape[0] - 1))
    while table[slot] >= 0:
        other = data[offsets[table[slot]] : offsets[table[slot] + 1]]
        if other.shape[0] == key.shape[0]:
            # All of them, without a way out of the loop: so the compiler compares many at a time.
            differ = np.uint8(0)
            for j in range(key.shape[0]):
                differ |= other[j] ^ key[j]
            if differ == 0:
                break
        slot = (slot + 1) & (table.shape[0] - 1)
    return int(slot)


@numba.njit(cache=True)
def index_keys(offsets: Any, data: Any) -> Any:
    """A table of n strings, the i-th is data[offsets[i]:offsets[i + 1]] (int32[n + 1], uint8[...]); of equal ones the first counts."""
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
    """The places int64[m] of m strings among the table's, -1 where one is not there."""
    found = np.empty(wanted_offsets.shape[0] - 1, np.int64)
    for i in range(found.shape[0]):
        found[i] = table[_slot(table, offsets, data, wanted, wanted_offsets[i], wanted_offsets[i + 1])]
    return found
