"""Centred scores: how near an item's vector is to a profile, both seen from the middle of the catalogue.

Vectors of one model share a large common direction, so that raw cosines of any two texts are high and close
together. Subtracting the mean of the catalogue's items takes it out (all-but-the-top, Mu and Viswanath,
2018, with no component removed). The weights of a profile's events sum to 1, so the same mean is subtracted
from the profile.
"""

import numpy as np
from numpy.typing import NDArray

# Vectors shorter than this have no direction.
TINY_NORM = 1e-12


def mean_vector(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of the catalogue: float64[d] of float32[n, d], one row for each distinct item; zeros for none.

    Rows are added in their order, so that the same items in the same order give the same bits.

    >>> mean_vector(np.array([[1, 0], [0, 1]], np.float32)).tolist()
    [0.5, 0.5]
    """
    if not len(vectors):
        return np.zeros(vectors.shape[1])
    mean: NDArray[np.float64] = np.add.reduce(vectors, axis=0, dtype=np.float64) / len(vectors)
    return mean


def centred_units(vectors: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The directions seen from the mean: float64[n, d], rows of length 1, or of zeros without a direction.

    vectors: float32[n, d]; mean: float64[d]. With a mean of zeros the dot product of two is their raw cosine.

    >>> centred_units(np.array([[3, 4], [0, 0]], np.float32), np.zeros(2)).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    moved = vectors.astype(np.float64) - mean
    norms = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    units = np.zeros_like(moved)
    np.divide(moved, norms[:, None], out=units, where=norms[:, None] > TINY_NORM)
    return units
