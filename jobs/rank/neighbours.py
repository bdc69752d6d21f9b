"""Baselines by neighbours of items: those of the last one, and those of all that the user chose.

Two items are near where the same users chose both: the cosine of their columns in the matrix of users and
items (Sarwar et al., 2001; shrinkage as in Bell and Koren, 2007).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.rank.events import History
from jobs.rank.popularity import (
    Arrays,
    Floats,
    Parameters,
    fit_decayed,
    with_ties_by_popularity,
)

# Half-life of the popularity that decides ties, days.
TIES_HALF_LIFE = 30.0
# Pairs of items that all users together may have, at most 6 GB: a user has the square of the items, and a
# crawler of 50,000 would have 2.5 billion.
MOST_PAIRS = 500_000_000


def items_each(sizes: NDArray[np.int64]) -> int:
    """How many items of each user may count, so that all users have at most MOST_PAIRS pairs.

    One at least. sizes: items of each user.
    """
    least, most = 1, int(sizes.max(initial=1))
    while least < most:
        middle = (least + most + 1) // 2
        fits = int((np.minimum(sizes, middle).astype(np.int64) ** 2).sum()) <= MOST_PAIRS
        least, most = (middle, most) if fits else (least, middle - 1)
    return least


def crowded(history: History) -> NDArray[np.int64]:
    """Places of the users of whom not all items count as neighbours of each other."""
    sizes = np.diff(history.matrix.indptr)
    return np.flatnonzero(sizes > items_each(sizes))


def latest_items(history: History) -> sparse.csr_matrix:
    """As history.matrix, but of each user at most the items_each chosen last."""
    events, matrix = history.events, history.matrix
    kept, most = np.ones(matrix.nnz, bool), items_each(np.diff(matrix.indptr))
    for user in crowded(history):
        from_end = events.item[events.starts[user] : events.starts[user + 1]][::-1]
        _, first = np.unique(from_end, return_index=True)
        latest = from_end[np.sort(first)[:most]]
        own = slice(matrix.indptr[user], matrix.indptr[user + 1])
        kept[own] = np.isin(matrix.indices[own], latest)
    starts = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)


def item_cosines(history: History, shrink: float) -> sparse.csr_matrix:
    """float64[items, items] without its diagonal: co-occurrences over (norms + shrink)."""
    matrix = latest_items(history)
    together = (matrix.T @ matrix).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    together.sort_indices()
    norms = np.sqrt(np.bincount(matrix.indices, minlength=history.items))
    rows = np.repeat(np.arange(history.items), np.diff(together.indptr))
    together.data /= norms[rows] * norms[together.indices] + shrink
    return together


def nearest(cosines: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """The k largest of each row; of equal ones those of the smaller index."""
    kept = np.zeros(cosines.nnz, bool)
    for first, last in zip(cosines.indptr[:-1], cosines.indptr[1:], strict=True):
        order = np.argsort(-cosines.data[first:last], kind="stable")[:k]
        kept[first + order] = True
    counts = np.concatenate([[0], np.cumsum(kept)])[cosines.indptr]
    return sparse.csr_matrix((cosines.data[kept], cosines.indices[kept], counts), shape=cosines.shape)


def fit_neighbours(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """The `neighbours` nearest items of each as data, indices and indptr of a CSR matrix, and popularity."""
    near = nearest(item_cosines(history, parameters["shrink"]), int(parameters["neighbours"]))
    arrays = {"data": near.data, "indices": near.indices, "indptr": near.indptr}
    return arrays | fit_decayed(history, {"half_life": TIES_HALF_LIFE})


def _near(arrays: Arrays, items: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(items, items))


def last_rows(history: History) -> sparse.csr_matrix:
    """float64[users, items]: 1 for the item that each user chose last."""
    ends, starts = history.events.starts[1:], history.events.starts[:-1]
    there = np.flatnonzero(ends > starts)
    places = there, history.events.item[ends[there] - 1]
    return sparse.csr_matrix((np.ones(len(there)), places), shape=(history.users, history.items))


def last_item_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The neighbours of the item that the user chose last; popular items where it has none."""
    near = (last_rows(history) @ _near(arrays, history.items)).toarray()
    return with_ties_by_popularity(near, arrays)


def item_knn_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The sum over all items that the user chose of how near the item is to each."""
    # From a neighbour back to the item: only the k nearest of the scored item count.
    near = _near(arrays, history.items).T.tocsr()
    return with_ties_by_popularity((history.matrix @ near).toarray(), arrays)
