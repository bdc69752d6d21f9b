"""Items that new accounts alone choose are found, those that many others choose are not."""

from datetime import date, timedelta

from jobs.io.days import Days
from jobs.recommend.pushed import pushed_items

DAY = date(2025, 4, 20)


def chosen(user: str, item: str, days: int) -> tuple[str, str, date]:
    return user, item, DAY - timedelta(days=days)


def test_items_of_new_accounts(spark):
    rows = [chosen(f"fake{n}", "pushed", n % 7) for n in range(40)]
    for n in range(40):
        rows += [chosen(f"real{n}", "liked", 1), chosen(f"real{n}", "other", 9)]
    rows += [chosen(f"real{n}", "pushed", 2) for n in range(9)]
    # Two items on one day, or one item on two days: new too.
    rows += [chosen(f"once{n}", "twin", 0) for n in range(30)] + [
        chosen(f"once{n}", "late", 0) for n in range(30)
    ]
    rows += [chosen(f"few{n}", "small", 0) for n in range(29)] + [
        chosen(f"past{n}", "gone", 7) for n in range(50)
    ]
    choices = spark.createDataFrame(rows, "user_id string, item_id string, event_date date")
    found = {
        r["item_id"]: (r["choosers"], r["newcomers"]) for r in pushed_items(choices, Days.only(DAY)).collect()
    }
    assert found == {"pushed": (49, 40), "twin": (30, 30), "late": (30, 30)}
