"""The models that lists may be made by: each counts a user once for an item, and none needs a user's own fit.

What a user chose a hundred times weighs on others as much as what was chosen once. The collaborative
models are fitted differently and served alike, by a sparse matrix of weights from the item chosen to the item
scored: new users and new choices count at once, and every weight names the choice it came from.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.rank.ease import fit_ease
from jobs.rank.events import History
from jobs.rank.models import EASE, ITEM_KNN, LAST_ITEM, LIVES, Model, grid
from jobs.rank.neighbours import item_cosines, last_rows, nearest
from jobs.rank.popularity import Arrays, Floats, Parameters, fit_support, popularity_scores

# Weights kept of each item scored, the largest: of 20,000 items they take 32 MB and not 3.2 GB.
KEPT: Final = 200
# Items whose weights are worked on at once: with 20,000 items 40 MB.
AT_ONCE: Final = 256


def fit_own(_: History, __: Parameters) -> dict[str, NDArray[np.generic]]:
    """Nothing: a user's own choices are enough."""
    return {}


def own_scores(_: Arrays, history: History, parameters: Parameters) -> Floats:
    """How often the user chose the item, halved every `half_life` days."""
    found: Floats = history.weighted(np.exp2(-history.age / parameters["half_life"])).toarray()
    return found


def fit_ease_rows(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """EASE (jobs/rank/ease.py), of each item scored the KEPT weights that are largest in size."""
    fitted = fit_ease(history, parameters)
    items, parts = fitted["items"].astype(np.int64), []
    for start in range(0, len(items), AT_ONCE):
        columns = np.arange(start, min(start + AT_ONCE, len(items)))
        weights = _ease_columns(fitted, columns)
        largest = np.argsort(-np.abs(weights), axis=0, kind="stable")[:KEPT]
        kept = np.take_along_axis(weights, largest, axis=0)
        parts.append((items[largest].ravel(), np.tile(items[columns], len(largest)), kept.ravel()))
    rows, scored, data = (np.concatenate([part[n] for part in parts] or [np.zeros(0)]) for n in range(3))
    shape = (history.items, history.items)
    return _arrays(sparse.csr_matrix((data, (rows.astype(int), scored.astype(int))), shape=shape))


def _ease_columns(fitted: Arrays, columns: NDArray[np.int64]) -> Floats:
    """float64[m, columns]: the weights on some items, zeros on the diagonal."""
    if "weights" in fitted:
        return np.array(fitted["weights"][:, columns], np.float64)
    shares, diagonal = (np.asarray(fitted[name], np.float64) for name in ("shares", "diagonal"))
    found: Floats = shares @ shares[columns].T / np.asarray(fitted["penalty"], np.float64) / diagonal[columns]
    found[columns, np.arange(len(columns))] = 0.0
    return found


def fit_knn_rows(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """From each item to those that have it among their `neighbours` nearest."""
    near = nearest(item_cosines(history, parameters["shrink"]), int(parameters["neighbours"]))
    return _arrays(near.T.tocsr())


def fit_last_rows(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """From each item to its `neighbours` nearest."""
    return _arrays(nearest(item_cosines(history, parameters["shrink"]), int(parameters["neighbours"])))


def _arrays(weights: sparse.csr_matrix) -> dict[str, NDArray[np.generic]]:
    """near_data (float32), near_items and near_starts of a CSR matrix without its zeros."""
    weights.eliminate_zeros()
    weights.sort_indices()
    return {
        "near_data": weights.data.astype(np.float32),
        "near_items": weights.indices.astype(np.int32),
        "near_starts": weights.indptr.astype(np.int64),
    }


def _weights(arrays: Arrays, items: int) -> sparse.csr_matrix:
    data = np.asarray(arrays["near_data"], np.float64)
    return sparse.csr_matrix((data, arrays["near_items"], arrays["near_starts"]), shape=(items, items))


def row_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The sum of the weights of all items that the user chose."""
    found: Floats = (history.matrix @ _weights(arrays, history.items)).toarray()
    return found


def last_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The weights of the item that the user chose last."""
    found: Floats = (last_rows(history) @ _weights(arrays, history.items)).toarray()
    return found


SUPPORT: Final = Model("popularity", fit_support, popularity_scores, grid(half_life=LIVES))
OWN: Final = Model("own", fit_own, own_scores, grid(half_life=LIVES))
LAST: Final = Model(LAST_ITEM.name, fit_last_rows, last_scores, LAST_ITEM.grid, True)
COLLABORATIVE: Final = (
    Model(EASE.name, fit_ease_rows, row_scores, EASE.grid, True),
    Model(ITEM_KNN.name, fit_knn_rows, row_scores, ITEM_KNN.grid, True),
    LAST,
)
BY_KIND: Final = {model.name: model for model in COLLABORATIVE}
