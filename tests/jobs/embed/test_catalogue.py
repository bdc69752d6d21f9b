"""The mean vector of the catalogue by day, as nights and ranges write it."""

from datetime import date, timedelta

import numpy as np
import pytest
from delta.tables import DeltaTable

from jobs.embed.catalogue import write_stats
from jobs.embed.days import JOB
from jobs.io.days import Days
from schemas import items, text_embeddings
from tests.builders import row, store
from tests.e2e.tables import rows_of, version_of

DAYS = [date(2025, 3, 3) + timedelta(days=n) for n in range(4)]
FIRST, SECOND, THIRD, FOURTH = DAYS
# What each item is called from a day on; None: nothing that could have a vector.
NAMES = {
    "A": {FIRST: "a", THIRD: "b"},
    "B": {FIRST: "b"},
    "C": {SECOND: "c", FOURTH: None},
    "D": {THIRD: "without a vector"},
}
VECTORS = {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0], "c": [0.6, 0.0, -0.8]}


@pytest.fixture
def filled(spark, warehouse):
    versions = [
        row(items.TABLE, item_id=item, valid_from=day, text=name, text_key=name)
        for item, names in NAMES.items()
        for day, name in names.items()
    ]
    store(spark, warehouse, items.TABLE, versions)
    vectors = [
        row(text_embeddings.TABLE, text_key=key, model_key=model, dim=3, vector=vector)
        for key, vector in VECTORS.items()
        for model in ("m", "other")
        if model == "m" or key == "a"
    ]
    store(spark, warehouse, text_embeddings.TABLE, vectors)
    return warehouse


def written(run_on, warehouse, *spans):
    """The model's rows after the spans are written in this order."""
    for span in spans:
        with run_on(warehouse, JOB, span) as run:
            write_stats(run, "m", span)
    rows = rows_of(warehouse, "catalogue_stats")
    return {row["as_of_date"]: (row["item_count"], row["mean_vector"]) for row in rows}


def expected(day):
    """By a plain rule: the last name of each item by then, where it has a vector."""
    names = [
        name
        for names in NAMES.values()
        for name in [dict(sorted(names.items())).get(max([d for d in names if d <= day], default=None))]
    ]
    held = [VECTORS[name] for name in names if name in VECTORS]
    return len(held), np.mean(held, axis=0).astype(np.float32)


@pytest.mark.slow
def test_nights_and_ranges_write_the_mean_of_the_items_in_force(filled, run_on, tmp_path):
    found = written(run_on, filled, *[Days.only(day) for day in DAYS])
    assert found.keys() == {*DAYS}
    for day, (count, mean) in found.items():
        assert count == expected(day)[0]
        np.testing.assert_allclose(mean, expected(day)[1], atol=1e-6)
    before = version_of(filled, "catalogue_stats")
    # The same bits, and so no commit.
    assert written(run_on, filled, Days(FIRST, FOURTH), Days(SECOND, THIRD)) == found
    assert version_of(filled, "catalogue_stats") == before


def test_a_day_whose_items_were_withdrawn_has_no_row(spark, filled, run_on):
    written(run_on, filled, Days(FIRST, FOURTH))
    DeltaTable.forPath(spark, f"{filled}/items").delete(f"valid_from = DATE'{SECOND}'")
    assert written(run_on, filled, Days.only(SECOND)).keys() == {FIRST, THIRD, FOURTH}
