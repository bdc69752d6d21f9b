"""The record of a night tells how much lists changed, by what, and for whom they did not."""

from types import SimpleNamespace

from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse
from jobs.recommend import churn
from jobs.recommend.churn import Made, count_changes, ranker_before
from jobs.recommend.overlap import Earlier
from schemas import recommendations
from schemas.settings import RecommendSettings
from tests.builders import frame, store
from tests.jobs.recommend.test_overlap import DAY, listed
from tests.udfs.test_rank import ranker


def run_of():
    run = SimpleNamespace(counts={}, warehouse=None, spec=SimpleNamespace(job="recommend_items"))
    run.add_counts = run.counts.update
    return run


def test_what_changed_is_counted_by_its_cause(spark, warehouse):
    store(spark, warehouse, recommendations.TABLE, [*listed("u", 2, "abc"), *listed("k", 2, "abc")])
    earlier = Earlier(Warehouse(spark, warehouse), "main", DAY, 30)
    rows = frame(spark, recommendations.TABLE, [*listed("u", 0, "abx", "v2"), *listed("new", 0, "abc", "v2")])
    now, before, asked = ranker(), ranker(top=3), []

    def lists_of(users, by):
        found = sorted(r["user_id"] for r in users.select("user_id").collect())
        asked.append((by is before, found))
        every = [row for user in found for row in listed(user, 0, "abc" if by is before else "cde")]
        return frame(spark, recommendations.TABLE, every).select("user_id", "item_id")

    kept = spark.createDataFrame([("k",)], "user_id string")
    run = run_of()
    count_changes(run, Made(rows, 2, kept, now, lists_of), earlier, before)
    assert asked == [(True, ["new", "u"]), (False, ["k"])]
    assert run.counts == {
        f"{name}_{what}": count
        for name, counts in {"night": (1, 2, 4), "refit": (2, 5, 7), "unmoved": (1, 1, 5)}.items()
        for what, count in zip(("users", "items_in_both", "items_in_either"), counts, strict=True)
    }
    run = run_of()
    count_changes(run, Made(rows, 2, None, now, lists_of), earlier, None)
    assert len(asked) == 2 and run.counts["night_users"] == 1


class Lists:
    """Stands for Earlier: the newest lists before are by this ranker."""

    day = DAY

    def __init__(self, by: str | None) -> None:
        self.version = lambda: by


def test_the_ranker_before_is_that_of_the_lists_in_force(monkeypatch, capsys):
    now, other, settings = ranker(), ranker(1), RecommendSettings()
    monkeypatch.setattr(churn, "ranker_of", lambda shop, stored, *_: {"old": other}[stored])

    def before(by, found):
        def opened(_, version):
            if isinstance(found, JobError):
                raise found
            return found

        monkeypatch.setattr(churn, "of_version", opened)
        return ranker_before(run_of(), None, SimpleNamespace(version="v2"), settings, Lists(by), now)

    assert before(None, "old") is None and before("v2", "old") is None and before("v1", None) is None
    found = before("v1", "old")
    assert found is not None and found.units is other.units
    assert before("v1", JobError("the file is gone")) is None
    assert "not compared with those by v1: the file is gone" in capsys.readouterr().out
