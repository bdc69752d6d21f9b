"""EASE: a linear model of items by items in closed form (Steck, 2019, "Embarrassingly shallow autoencoders").

With X the matrix of users and items and P = (X'X + lambda I)^-1, the weights are B = I - P diag(P)^-1, with a
diagonal of zeros, and the scores of a user are those of the row x B = x - (x P) / diag(P).

Where there are fewer users than items, the inverse is taken over users (Woodbury): P = (I - Z'Z) / lambda
with Z = L^-1 X and L L' = X X' + lambda I. The scores are the same, and neither P nor B is ever formed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from jobs.rank.events import History
from jobs.rank.popularity import Arrays, Floats, Parameters

# Items at most. A matrix of as many items, or fewer users, is inverted: 3.2 GB, and minutes.
LARGEST_SIDE = 20_000


def fit_ease(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """Either `weights` (B, float64[m, m]), or `shares` (Z', float64[m, users]), `diagonal` and `penalty`.

    items: int64[m], which items the columns stand for: those with a choice, where there are more the
    LARGEST_SIDE most chosen.
    """
    matrix, penalty = history.matrix, float(parameters["penalty"])
    counts = np.bincount(matrix.indices, minlength=history.items)
    chosen = np.flatnonzero(counts)
    is_active = np.diff(matrix.indptr) > 0
    if len(chosen) > LARGEST_SIDE:
        chosen = np.sort(np.argsort(-counts, kind="stable")[:LARGEST_SIDE])
    x = matrix[is_active][:, chosen]
    found: dict[str, NDArray[np.generic]] = {"items": chosen}
    if x.shape[0] < x.shape[1]:
        return found | _over_users(x, penalty)
    gram = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False) if len(gram) else gram
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0.0
    return found | {"weights": weights}


def _over_users(x: sparse.csr_matrix, penalty: float) -> dict[str, NDArray[np.generic]]:
    gram = (x @ x.T).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    lower = linalg.cholesky(gram, lower=True, check_finite=False)
    shares = linalg.solve_triangular(lower, x.toarray(), lower=True, check_finite=False)
    diagonal = (1.0 - np.einsum("ui,ui->i", shares, shares)) / penalty
    return {"shares": np.ascontiguousarray(shares.T), "diagonal": diagonal, "penalty": np.array([penalty])}


def ease_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """X B for each user; 0 for items that the model does not know."""
    scores = np.zeros((history.users, history.items))
    items = arrays["items"].astype(np.int64)
    x = history.matrix[:, items]
    if "weights" in arrays:
        found = x @ np.asarray(arrays["weights"], np.float64)
    else:
        # A user at a time: a product of matrices would round by how many there are.
        shares, scale = (np.asarray(arrays[name], np.float64) for name in ("shares", "diagonal"))
        moved = np.zeros(x.shape)
        for place, row in enumerate(x @ shares):
            moved[place] = shares @ row
        dense = x.toarray()
        found = dense - (dense - moved) / np.asarray(arrays["penalty"], np.float64) / scale
    scores[:, items] = found
    return scores
