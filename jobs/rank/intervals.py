"""Whether one model beats another: paired bootstrap over users, and Holm's correction over all comparisons.

The unit is the user: the days of one user are averaged first, since they are not independent. Both models of
a comparison are resampled together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.stats import norm, t

from jobs.rank.metrics import Floats

# Samples at least, and for each comparison of a run. The smallest p of R samples is 2 / (R + 1), which Holm
# multiplies by the number of comparisons: with too few samples many comparisons could show nothing at all.
RESAMPLES: Final = 2000
RESAMPLES_EACH: Final = 200
LEVEL: Final = 0.95
# Numbers of drawn places held at once: 64 MB.
DRAWN_AT_ONCE: Final = 8_000_000


@dataclass(frozen=True)
class Comparison:
    """A model against a reference: the mean difference over users, and how sure it is.

    low, high: the expanded percentile interval at LEVEL, of this comparison alone. p: two-sided, of this
    comparison alone; p_holm: corrected for all comparisons of the run.
    """

    model: str
    reference: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no difference shown`, by the corrected p at 1 - LEVEL."""
        if self.p_holm > 1.0 - LEVEL:
            return "no difference shown"
        return "better" if self.difference > 0 else "worse"


def resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    """float64[resamples, m]: means of the columns over users drawn with replacement, as one for all columns.

    values: float64[users, m], at least one user. Memory is bounded by DRAWN_AT_ONCE numbers, or one resample.
    """
    users = len(values)
    draws, found = np.random.default_rng(seed), np.empty((resamples, values.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // users)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = draws.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        found[start : start + rows] = counts @ values / users
    return found


def expanded(means: Floats, values: Floats) -> Floats:
    """Resampled means of few users, spread about their own mean as those of many would be.

    Means of n users drawn from n vary by a factor of sqrt((n - 1) / n) too little, and their quantiles are
    those of a normal distribution, not of Student's: the expanded percentile interval of Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 69 (2015), section 4.4.
    means: float64[resamples, m], of values: float64[users, m], at least two users.
    """
    users = len(values)
    tail = (1 + LEVEL) / 2
    factor = np.sqrt(users / (users - 1)) * t.ppf(tail, users - 1) / norm.ppf(tail)
    centre = np.add.reduce(values, axis=0) / users
    spread: Floats = centre + factor * (means - centre)
    return spread


def resamples_for(comparisons: int) -> int:
    """How many samples a run draws.

    >>> resamples_for(3), resamples_for(60)
    (2000, 12000)
    """
    return max(RESAMPLES, RESAMPLES_EACH * comparisons)


def two_sided(means: Floats) -> float:
    """The p of a bootstrap distribution of differences against 0; never 0, since resamples are few."""
    tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return min(1.0, 2.0 * (tail + 1) / (len(means) + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down corrected p values, in the order given (Holm, 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = largest
    return corrected


def compare(figures: Mapping[str, Floats], pairs: Sequence[tuple[str, str]], seed: int) -> list[Comparison]:
    """Each pair of (model, reference), in the order given.

    figures: float64[users] by model, the users in the same order.
    """
    return corrected(compare_each(figures, pairs, resamples_for(len(pairs)), seed)) if pairs else []


def compare_each(
    figures: Mapping[str, Floats], pairs: Sequence[tuple[str, str]], resamples: int, seed: int
) -> list[Comparison]:
    """At least one pair, each as if it were the only one: for `corrected`, with the others of the run.

    figures: as in compare, of at least one user.
    """
    differences = np.stack([figures[model] - figures[reference] for model, reference in pairs], axis=1)
    means, is_alone = resampled_means(differences, resamples, seed), len(differences) == 1
    if not is_alone:
        means = expanded(means, differences)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    # One user shows nothing of others.
    ps = [1.0 if is_alone else two_sided(column) for column in means.T]
    centre = np.add.reduce(differences, axis=0) / len(differences)
    return [
        Comparison(*pair, float(centre[i]), float(low[i]), float(high[i]), ps[i], ps[i])
        for i, pair in enumerate(pairs)
    ]


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """All comparisons of a run, each with the p that Holm's correction gives it."""
    ps = holm([one.p for one in comparisons])
    return [replace(one, p_holm=p) for one, p in zip(comparisons, ps, strict=True)]
