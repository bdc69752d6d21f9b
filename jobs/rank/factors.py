"""Baselines by factors: implicit ALS, and the neural collaborative filter of the source article.

Both give users and items vectors of the same length. Each is fitted with a fixed seed on one thread, so that
it gives the same bits every time on the same machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.rank.events import History
from jobs.rank.popularity import Arrays, Floats, Parameters

SEED = 42
# The article's model: vectors of 64 numbers, Adam with a rate of 0.001.
DIM, RATE, BATCH, NEGATIVES = 64, 1e-3, 512, 4
ITERATIONS = 15


def fit_als(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """items: float64[items, factors]; gram: float64[factors, factors], with the penalty on its diagonal.

    Alternating least squares on confidences (Hu, Koren and Volinsky, 2008), by the package `implicit`.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    penalty, confidence = float(parameters["penalty"]), float(parameters["confidence"])
    with threadpool_limits(1):  # the package warns of a BLAS with more, which would wait for each other
        model = AlternatingLeastSquares(
            factors=int(parameters["factors"]),
            regularization=penalty,
            alpha=confidence,
            dtype=np.float64,
            iterations=ITERATIONS,
            num_threads=1,
            random_state=SEED,
        )
        model.fit(history.matrix, show_progress=False)
    items = np.asarray(model.item_factors, np.float64)
    gram = items.T @ items + penalty * np.eye(items.shape[1])
    return {"items": items, "gram": gram}


def als_scores(arrays: Arrays, history: History, parameters: Parameters) -> Floats:
    """Solves the user's factors anew from their choices, so that new users and choices count at once."""
    items, gram = (np.asarray(arrays[name], np.float64) for name in ("items", "gram"))
    confidence, matrix = float(parameters["confidence"]), history.matrix
    scores = np.zeros((history.users, history.items))
    for place, (first, last) in enumerate(zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)):
        own = items[matrix.indices[first:last]]
        if len(own):
            # Confidence alpha for a choice and 1 for none, as the package has it.
            left = gram + (confidence - 1.0) * (own.T @ own)
            scores[place] = items @ np.linalg.solve(left, confidence * own.sum(axis=0))
    return scores


def fit_neural(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """users: int64[u]; user_vectors: float64[u, 64]; item_vectors: float64[items, 64], all of length 1.

    The cosine of a user's and an item's vector is fitted to 1 for a choice and to 0 for items drawn at
    random, by the mean squared error and Adam, over `epochs` passes.
    """
    import torch

    matrix = history.matrix
    active = np.flatnonzero(np.diff(matrix.indptr))
    pairs = matrix[active].tocoo()
    draws = np.random.default_rng(SEED)
    generator = torch.Generator().manual_seed(SEED)
    users, items = (
        torch.nn.Parameter(torch.randn(size, DIM, generator=generator) / DIM**0.5)
        for size in (len(active), history.items)
    )
    optimizer = torch.optim.Adam([users, items], lr=RATE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(int(parameters["epochs"])):
            _pass_over(torch, (users, items), optimizer, (pairs.row, pairs.col), draws)
    finally:
        torch.set_num_threads(threads)
    found = [
        torch.nn.functional.normalize(table.detach().double(), dim=1).numpy() for table in (users, items)
    ]
    return {"users": history.events.users[active], "user_vectors": found[0], "item_vectors": found[1]}


def _pass_over(
    torch: Any,
    tables: tuple[Any, Any],
    optimizer: Any,
    pairs: tuple[NDArray[np.int32], NDArray[np.int32]],
    draws: np.random.Generator,
) -> None:
    """One pass over the choices in random order, each with NEGATIVES random items."""
    order = draws.permutation(len(pairs[0]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        wrong = draws.integers(0, len(tables[1]), len(batch) * NEGATIVES)
        rows = torch.from_numpy(np.tile(pairs[0][batch], 1 + NEGATIVES).astype(np.int64))
        columns = torch.from_numpy(np.concatenate([pairs[1][batch], wrong]).astype(np.int64))
        wanted = torch.zeros(len(rows))
        wanted[: len(batch)] = 1.0
        cosines = torch.nn.functional.cosine_similarity(tables[0][rows], tables[1][columns])
        loss = torch.nn.functional.mse_loss(cosines, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def neural_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The cosines; a user who was not there at the fit gets the mean of all users."""
    users, vectors = arrays["users"].astype(np.int64), np.asarray(arrays["user_vectors"], np.float64)
    items = np.asarray(arrays["item_vectors"], np.float64)
    scores = np.zeros((history.users, history.items))
    if len(users):
        mean = np.add.reduce(vectors, axis=0) / len(users)
        place = np.minimum(np.searchsorted(users, history.events.users), len(users) - 1)
        for row, at in enumerate(place):
            own = vectors[at] if users[at] == history.events.users[row] else mean
            scores[row] = items @ own
    return scores
