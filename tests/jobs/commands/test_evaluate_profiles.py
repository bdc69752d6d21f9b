"""The command: from published tables to the result's files, the same ones every time."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from jobs import evaluate_profiles
from jobs.io.messages import JobError
from jobs.io.model import model_key_of
from schemas import behavior_events, items, pipeline_runs, profile_states, text_embeddings, user_profiles
from schemas.pipeline_runs import PUBLISHED
from schemas.settings import parse_settings
from tests.builders import row, store

FIRST, DAYS, USERS, ITEMS = date(2025, 3, 3), 56, 24, 12
START, END = FIRST + timedelta(days=42), FIRST + timedelta(days=DAYS - 1)
HASH = "engine: {kind: hash}\n"


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def purchases() -> list[dict]:
    """Each user buys an item of the own half of the catalogue every other day."""
    draws = np.random.default_rng(5)
    rows = []
    for number in range(DAYS):
        for user in range(number % 2, USERS, 2):
            item = int(draws.integers(0, ITEMS // 2)) + (user % 4 // 2) * ITEMS // 2
            moment = datetime(2025, 3, 3, 12, tzinfo=UTC) + timedelta(days=number)
            given = {"event_id": f"{user}-{number}", "user_id": f"u{user}", "item_id": f"i{item:02}"}
            given |= {"event_ts": moment, "event_date": day(number), "log_date": day(number)}
            rows.append(row(behavior_events.TABLE, event_type="purchase", **given))
    return rows


def states(model_key: str) -> list[dict]:
    """`main` of each user: the direction of the own half."""
    return [
        row(
            profile_states.TABLE,
            user_id=f"u{user}",
            facet="main",
            as_of_date=day(user % 2),
            model_key=model_key,
            drift=0.5 if user % 3 else 0.001,
            vector=[0.1, 1.0] if user % 4 // 2 else [1.0, 0.1],
        )
        for user in range(USERS)
    ]


def open_shop(spark, folder: str) -> str:
    """A warehouse whose days FIRST..END are published."""
    model_key = model_key_of(parse_settings(HASH, "test").engine)
    catalogue, vectors = [], []
    for item in range(ITEMS):
        named = {"item_id": f"i{item:02}", "text": f"t{item}", "text_key": f"k{item}"}
        named["attributes"] = {"category": "even" if item % 2 == 0 else "odd"}
        catalogue.append(row(items.TABLE, valid_from=day(0), **named))
        vector = [0.1 * (item % 3), 1.0] if item >= ITEMS // 2 else [1.0, 0.1 * (item % 3)]
        vectors.append(
            row(text_embeddings.TABLE, text_key=f"k{item}", model_key=model_key, dim=2, vector=vector)
        )
    rows = {
        behavior_events.TABLE: purchases(),
        items.TABLE: catalogue,
        text_embeddings.TABLE: vectors,
        profile_states.TABLE: states(model_key),
        user_profiles.TABLE: states(model_key),
    }
    for table, own in rows.items():
        store(spark, folder, table, own)
    published = {"job": "publish_run", "status": PUBLISHED, "from_date": FIRST, "date": END}
    published["output_versions"] = {table.name: 1 for table in rows}
    store(spark, folder, pipeline_runs.TABLE, [row(pipeline_runs.TABLE, **published)])
    return folder


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory) -> str:
    return open_shop(spark, str(tmp_path_factory.mktemp("shop") / "warehouse"))


@pytest.fixture
def config(tmp_path) -> str:
    (tmp_path / "hash.yaml").write_text(HASH, encoding="utf-8")
    return str(tmp_path / "hash.yaml")


def called(spark, *words: object) -> None:
    evaluate_profiles.run(spark, evaluate_profiles.arg_parser().parse_args([*map(str, words)]))


def test_a_run_is_judged_and_gives_the_same_again(spark, shop, config, tmp_path, few_points, capsys):
    asked = ["--warehouse", shop, "--config", config, "--start", START, "--end", END, "--every", 7]
    called(spark, *asked, "--out", tmp_path / "one", "--mlflow", tmp_path / "runs")
    called(spark, *asked, "--out", tmp_path / "two")
    first, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    assert first == again and len(first) == 5
    result = json.loads(first["evaluation.json"])
    assert (result["users"], len(result["steps"]), result["catalogue"]) == (USERS, 2, ITEMS)
    assert result["versions"]["items"] == 1 and result["impressions"] is None
    found = {row["model"]: row["ndcg"] for row in result["models"]}
    # Profiles know the user's half; popularity does not.
    assert found["content"] > found["popularity"] + 0.05
    assert "step 2 of 2" in capsys.readouterr().out and (tmp_path / "runs" / "1").is_dir()


def test_days_that_are_not_published_are_refused(spark, shop, config, tmp_path):
    late = END + timedelta(days=1)
    with pytest.raises(JobError, match=f"{late} is not published"):
        called(
            spark,
            *("--warehouse", shop, "--config", config, "--start", START, "--end", late, "--out", tmp_path),
        )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--horizon", "0"), "--horizon is 0"),
        (("--every", "1000"), "--every is 1000"),
        (("--k", "0"), "--k is 0"),
        (("--seed", "-1"), "must not be negative"),
        (("--end", "2025-01-01"), "is after --end"),
    ],
)
def test_arguments_that_make_no_sense(words, told):
    given = ["--warehouse", "w", "--start", "2025-04-14", "--end", "2025-04-27", "--out", "o", *words]
    assert told in str(evaluate_profiles.arguments_problem(evaluate_profiles.arg_parser().parse_args(given)))
