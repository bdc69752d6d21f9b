"""The raw logs as arrays, read as the mappings read them but without Spark.

What is left out: limits of the ingest that touch none of these logs, and names by later votes; an item keeps
the name that most users gave it on its first day.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from jobs import make_demo_logs
from jobs.rank.events import NEVER, Events
from udfs.text import normalise

GENERATED_DAYS, GENERATED_USERS = 75, 240


@dataclass(frozen=True)
class Log:
    """Events in the fold's order, by user and time, and the items.

    user: int64[n], keys; item, text: int32[n], rows of the items and of `texts`; micros: int64[n]; day,
    arrived: int32[n], days since 1970. kind: event types[n]; rating: float64[n] in 0..1, NaN where there is
    none. known, item_text: int32[items]. contexts: bool[n] by the name of a facet.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int32]
    text: NDArray[np.int32]
    micros: NDArray[np.int64]
    day: NDArray[np.int32]
    arrived: NDArray[np.int32]
    kind: NDArray[np.str_]
    rating: NDArray[np.float64]
    known: NDArray[np.int32]
    item_text: NDArray[np.int32]
    texts: list[str]
    contexts: Mapping[str, NDArray[np.bool_]]
    others: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def events(self, kept: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Events:
        """The evaluator's events. kept: those that count; chosen: choices; both bool[n]."""
        users, starts = np.unique(self.user[kept], return_index=True)
        return Events(
            users,
            np.append(starts, np.count_nonzero(kept)).astype(np.int64),
            self.item[kept],
            self.day[kept],
            self.arrived[kept],
            np.full(np.count_nonzero(kept), NEVER, np.int32),
            chosen[kept],
        )


def log_of(rows: Sequence[Mapping[str, Any]], catalogue: Mapping[str, str], since: int | None) -> Log:
    """Rows of user (a number), item, title, text, micros, arrived, kind, rating and contexts, in any order.

    catalogue: items' texts, known from the day `since`, or without it from their first event.
    """
    ordered = sorted(rows, key=lambda row: (row["user"], row["micros"]))
    names = sorted({*catalogue, *[row["item"] for row in rows]})
    place = {name: number for number, name in enumerate(names)}
    first: dict[str, int] = {} if since is None else dict.fromkeys(catalogue, since)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in sorted(rows, key=lambda row: row["arrived"]):
        if row["arrived"] <= first.setdefault(row["item"], row["arrived"]) and row["item"] not in catalogue:
            votes[row["item"]][row["title"]] += 1
    named = {name: min(found, key=lambda one: (-found[one], one)) for name, found in votes.items()}
    named |= catalogue
    texts = sorted({*named.values(), *[row["text"] for row in rows]})
    text_place = {text: number for number, text in enumerate(texts)}
    micros = np.array([row["micros"] for row in ordered], np.int64)
    return Log(
        user=np.array([row["user"] for row in ordered], np.int64),
        item=np.array([place[row["item"]] for row in ordered], np.int32),
        text=np.array([text_place[row["text"]] for row in ordered], np.int32),
        micros=micros,
        day=(micros // 86_400_000_000).astype(np.int32),
        arrived=np.array([row["arrived"] for row in ordered], np.int32),
        kind=np.array([row["kind"] for row in ordered]),
        rating=np.array([row["rating"] for row in ordered], np.float64),
        known=np.array([first[name] for name in names], np.int32),
        item_text=np.array([text_place[named[name]] for name in names], np.int32),
        texts=texts,
        contexts={
            name: np.array([row["contexts"][name] for row in ordered], bool)
            for name in (ordered[0]["contexts"] if ordered else {})
        },
    )


@cache
def normal(text: str) -> str:
    """The normal form; titles repeat."""
    return normalise(text)


@cache
def day_and_micros(moment: datetime) -> tuple[int, int]:
    """The UTC day and microseconds since 1970."""
    micros = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return micros // 86_400_000_000, micros


def online_retail(folder: Path) -> Log:
    """Invoices with a customer and a title. The shop's clock stands for UTC: it is closed at midnight."""
    table = pa.parquet.read_table(next(folder.glob("*.parquet")))
    columns = ["InvoiceNo", "StockCode", "Description", "InvoiceDate", "CustomerID"]
    has_customer = pc.and_(pc.is_valid(table["CustomerID"]), pc.is_valid(table["Description"]))
    rows = []
    for number, item, title, time, customer in zip(
        *[table.filter(has_customer)[name].to_pylist() for name in columns], strict=True
    ):
        day, micros = day_and_micros(datetime.fromisoformat(time).replace(tzinfo=UTC))
        text = normal(title)
        rows.append(
            {
                "user": int(customer),
                "item": item.strip(),
                "title": text,
                "text": text,
                "micros": micros,
                "arrived": day,
                "kind": "return" if number.startswith("C") else "purchase",
                "rating": np.nan,
                "contexts": {},
            }
        )
    return log_of([row for row in rows if row["text"]], {}, None)


def movielens(folder: Path) -> Log:
    """Ratings; the catalogue is known from the first day on, as the import delivers it."""
    catalogue = {}
    for film in pa.csv.read_csv(folder / "movies.csv").to_pylist():
        genres = film["genres"]
        has_genres = not genres.startswith("(no genres")
        text = f"{film['title']}: {genres.replace('|', ', ')}" if has_genres else film["title"]
        catalogue[str(film["movieId"])] = normalise(text)
    ratings = pa.csv.read_csv(folder / "ratings.csv").to_pylist()
    rows = [
        {
            "user": row["userId"],
            "item": str(row["movieId"]),
            "title": catalogue[str(row["movieId"])],
            "text": catalogue[str(row["movieId"])],
            "micros": row["timestamp"] * 1_000_000,
            "arrived": row["timestamp"] // 86_400,
            "kind": "rating",
            "rating": (row["rating"] - 0.5) / 4.5,
            "contexts": {},
        }
        for row in ratings
    ]
    return log_of(rows, catalogue, min(row["arrived"] for row in rows))


def generated(domain: str, seed: int) -> Log:
    """A generated log whose truth depends on the hour, the day of the week and the company.

    The catalogue is known from the first day on. Events that are retracted are left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        size = ["--days", str(GENERATED_DAYS), "--users", str(GENERATED_USERS), "--seed", str(seed)]
        with redirect_stdout(StringIO()):
            make_demo_logs.main(["--logs", str(logs), "--domain", domain, *size])
        catalogue = {
            item["item_id"]: normalise(item["title"])
            for item in map(json.loads, (logs / "_truth" / "items.jsonl").read_text("utf-8").splitlines())
        }
        truth = [
            json.loads(line) for line in (logs / "_truth" / "users.jsonl").read_text("utf-8").splitlines()
        ]
        found: dict[str, dict[str, Any]] = {}
        gone: set[str] = set()
        for file in sorted(logs.glob("dt=*/*.jsonl")):
            log_day = (date.fromisoformat(file.parent.name[3:]) - date(1970, 1, 1)).days
            for line in file.read_text("utf-8").splitlines():
                event = readable(line, log_day)
                if event is not None and event["event_type"] == "retract":
                    gone.add(event["retracts_event_id"])
                elif event is not None:
                    found.setdefault(event["event_id"], event)
    rows = [generated_row(event) for event_id, event in found.items() if event_id not in gone]
    others = {
        name: np.array([int(user["user_id"][1:]) for user in truth if user[key]], np.int64)
        for name, key in (("evening", "evening"), ("family", "with_family"))
    }
    return replace(log_of(rows, catalogue, min(row["arrived"] for row in rows)), others=others)


def readable(line: str, log_day: int) -> dict[str, Any] | None:
    """The event of a line, with `moment` and `log_day`, unless the ingest would refuse it."""
    try:
        event: dict[str, Any] = json.loads(line)
        moment = datetime.fromisoformat(event["event_ts"])
    except ValueError:
        return None
    lateness = log_day - day_and_micros(moment)[0]
    if not event.get("user_id") or lateness > 7:
        return None
    return event | {"moment": moment, "log_day": log_day}


def generated_row(event: Mapping[str, Any]) -> dict[str, Any]:
    """A row of log_of. Contexts as predicates of facets see them; a missing field is false."""
    local, title = event["moment"], normalise(event["title"])
    stars, company = event.get("rating"), event.get("companions") or []
    return {
        "user": int(event["user_id"][1:]),
        "item": event["item_id"],
        "title": title,
        "text": normalise(event["text"]) if event.get("text") else title,
        "micros": day_and_micros(local)[1],
        "arrived": event["log_day"],
        "kind": event["event_type"],
        "rating": np.nan if stars is None else (stars - 1) / 4,
        "contexts": {
            "evening": local.hour >= 18 or local.weekday() >= 5,
            "family": "family" in company,
            "at_home": event.get("place") == "home",
        },
    }
