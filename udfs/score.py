"""Centred scores: how near an item's vector is to a profile, both seen from the middle of the catalogue.

Vectors of one model share a large common direction, so that raw cosines of any two texts are high and close
together. Subtracting the mean of the catalogue's items takes it out (all-but-the-top, Mu and Viswanath,
2018, with no component removed). The weights of a profile's events sum to 1, so the same mean is subtracted
from the profile.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Vectors shorter than this have no direction.
TINY_NORM = 1e-12
# Scores nearer together than this are equal: 1 over a smaller number may be no number.
TINY_WIDTH: Final = float(np.finfo(np.float64).tiny)
# Vectors are added as multiples of 2**-36, exactly: no order of rows, partitions or days changes a bit. With
# numbers of at most 1 there is room for 2**27 items.
SCALE: Final = float(2**36)


def whole(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest multiples of 1/SCALE: int64[n, d], to be added up in any order."""
    return np.rint(vectors.astype(np.float64) * SCALE).astype(np.int64)


def mean_of(sums: NDArray[np.int64], items: int) -> NDArray[np.float32]:
    """The mean, float32[d], of at least one item. sums: int64[d], what `whole` gives, added up."""
    mean: NDArray[np.float32] = (sums / SCALE / items).astype(np.float32)
    return mean


def mean_vector(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the catalogue: float32[d] of float32[n, d], one row for each item; zeros for none.

    The bits are those that catalogue_stats has of the same items, whatever their order.

    >>> mean_vector(np.array([[1, 0], [0, 1]], np.float32)).tolist()
    [0.5, 0.5]
    """
    if not len(vectors):
        return np.zeros(vectors.shape[1], np.float32)
    return mean_of(whole(vectors).sum(axis=0), len(vectors))


def centred(
    vectors: NDArray[np.float32], mean: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions and distances seen from the mean: float64[n, d] and float64[n].

    Directions have length 1, or 0 where there is none. vectors: float32[n, d]; mean: float32[d].
    """
    moved = vectors.astype(np.float64) - mean
    norms = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    units = np.zeros_like(moved)
    np.divide(moved, norms[:, None], out=units, where=norms[:, None] > TINY_NORM)
    return units, norms


def centred_units(vectors: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """The directions alone. With a mean of zeros the dot product of two is their raw cosine.

    >>> centred_units(np.array([[3, 4], [0, 0]], np.float32), np.zeros(2, np.float32)).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return centred(vectors, mean)[0]


def moves(now: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64[n]: 1 - cosine of the rows of float32[n, d]; inf where one has no direction.

    Each row for itself: the same bits whatever the other rows.

    >>> moves(np.array([[2, 0], [0, 1], [0, 0]], np.float32), np.array([[1, 0], [1, 0], [1, 0]], np.float32))
    array([ 0.,  1., inf])
    """
    one, two = now.astype(np.float64), then.astype(np.float64)
    lengths = np.sqrt(np.add.reduce(one * one, axis=1) * np.add.reduce(two * two, axis=1))
    cosines = np.add.reduce(one * two, axis=1)
    found = np.full(len(now), np.inf)
    there = lengths > TINY_NORM
    found[there] = 1 - cosines[there] / lengths[there]
    return found
