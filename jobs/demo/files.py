"""Writes the files of a demo log.

dt=YYYY-MM-DD/events.jsonl  the lines of a log day, in the order of arrival
_truth/users.jsonl          each user's interests as topic weights: `before` applies until `change_date` (UTC;
                            null: no change), `after` from then on. `evening` replaces both from 18:00
                            local time and at weekends; `with_family` replaces all three while the family is
                            among the companions. `dislikes` is a topic outside these weights, rated 1 or 2.
_truth/items.jsonl          the topic of each item
_truth/dirt.json            for each log day the number of lines, of retractions, and of each kind of dirt

Readers of logs ignore _truth, because its name begins with an underscore.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from jobs.demo.delivery import to_line, total_counts
from jobs.demo.log import DemoLog


def write_log(folder: Path, log: DemoLog) -> None:
    """Writes a log into a folder without log days. A day's _SUCCESS comes last: readers wait for it."""
    write_truth(folder / "_truth", log)
    for day, log_day in log.days.items():
        day_folder = folder / f"dt={day}"
        day_folder.mkdir(parents=True)
        write_lines(day_folder / "events.jsonl", log_day.lines)
        (day_folder / "_SUCCESS").touch()


def write_truth(folder: Path, log: DemoLog) -> None:
    """Writes what only the generator knows, for tests and the demo page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "users.jsonl", (to_line(user.truth()) for user in log.users))
    items = [item for of_topic in log.catalogue.items.values() for item in of_topic]
    topics = ({"item_id": item.item_id, "title": item.title, "topic": item.topic} for item in items)
    write_lines(folder / "items.jsonl", map(to_line, topics))
    counts = {str(day): log_day.counts for day, log_day in log.days.items()}
    dirt = {"days": counts, "totals": total_counts(log.days)}
    write_lines(folder / "dirt.json", [json.dumps(dirt, indent=1)])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text file with a line feed after each line."""
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
