"""The text of the page that ends the demo; jobs/show_demo.py reads what it shows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

DAYS_SHOWN: Final = 12
BAR, TEXT_WIDTH, NAME_WIDTH = 24, 44, 30
# Of a list's score, as the table recommendations has them.
PARTS: Final = ("content", "collaborative", "popularity", "own", "freshness")
QUERIES: Final = {
    "Which profiles moved most in one day?": (
        "SELECT user_id, facet, as_of_date, event_count, round(drift, 3) AS drift FROM profile_states "
        "WHERE event_count > 20 ORDER BY drift DESC LIMIT 5"
    ),
    "Which records were quarantined, and why?": (
        "SELECT reason, count(*) AS records FROM quarantined_events GROUP BY reason"
    ),
    "How many events of each type are there, and how many have a text?": (
        "SELECT event_type, count(*) AS events, count(text_key) AS with_text FROM behavior_events "
        "GROUP BY event_type"
    ),
}


def section(title: str, lines: Iterable[str]) -> str:
    """A heading with its lines, and an empty line after them."""
    return "\n".join([title, *lines, ""])


def table_lines(tables: Iterable[tuple[str, int, int]]) -> list[str]:
    """A line for each table, given its name, version and number of rows."""
    head = f"  {'table':<20} {'version':>7} {'rows':>9}"
    return [head, *(f"  {name:<20} {version:>7} {rows:>9,}" for name, version, rows in tables)]


def embedding_lines(runs: Iterable[Any]) -> list[str]:
    """A line for each of these rows of pipeline_runs: how many texts were embedded, how many reused."""
    lines = []
    for row in runs:
        first, last, counts = row["from_date"], row["date"], row["counts"]
        days = f"{last}" if first == last else f"{first}..{last}"
        texts, embedded, reused = counts["texts"], counts["embedded"], counts["reused"]
        lines.append(f"  {days:<24} {texts:>7,} texts  {embedded:>7,} embedded  {reused:>7,} reused")
    return lines


def profile_lines(days: Sequence[Any], turn: date) -> list[str]:
    """The days around `turn`, each with its drift as a bar and its largest cause.

    A day has `as_of_date`, `event_count`, `drift` (None for the first state) and `cause`: the event of that
    day with the largest share in the profile, or None.
    """
    at = next(i for i, day in enumerate(days) if day["as_of_date"] == turn)
    first = max(0, min(at - DAYS_SHOWN // 2, len(days) - DAYS_SHOWN))
    shown = days[first : first + DAYS_SHOWN]
    largest = max(day["drift"] or 0.0 for day in shown) or 1.0
    lines = [f"  {'day':<10} {'events':>6}  {'drift':<{BAR + 6}} largest cause (share of the day's profile)"]
    for day in shown:
        drift = day["drift"] or 0.0
        bar = "█" * round(BAR * drift / largest)
        cause = _cause(day["cause"]) if day["cause"] else ""
        lines.append(f"  {day['as_of_date']} {day['event_count']:>6}  {drift:.3f} {bar:<{BAR}} {cause}")
    return lines


def list_lines(items: Sequence[Any]) -> list[str]:
    """A line for each item of a user's list, with the parts of its score, and one for the events behind it.

    An item has `rank`, `name`, `score`, each of PARTS, and `because`: events with `event_type` and `text`.
    """
    widths = {name: max(len(name), 6) for name in ("score", *PARTS)}
    heads = " ".join(f"{name:>{width}}" for name, width in widths.items())
    lines = [f"     {'item':<{NAME_WIDTH}} {heads}"]
    for item in items:
        numbers = " ".join(f"{item[name]:>{width}.3f}" for name, width in widths.items())
        lines.append(f"  {item['rank']:>2} {_short(item['name'], NAME_WIDTH):<{NAME_WIDTH}} {numbers}")
        causes = [f"{e['event_type']} '{_short(e['text'] or '', NAME_WIDTH)}'" for e in item["because"]]
        lines += [f"     because of {', '.join(causes)}"] if causes else []
    return lines


def truth_lines(truth: Mapping[str, Any] | None) -> list[str]:
    """The true interests of a user of a demo log; none for another log."""
    if truth is None:
        return []
    if truth["change_date"] is None:
        return ["  Ground truth: this user's interests never change."]
    before, after = _main_topics(truth["before"]), _main_topics(truth["after"])
    return [f"  Ground truth: on {truth['change_date']} the interests changed from {before} to {after}."]


def query_lines(warehouse: str) -> list[str]:
    """Queries that run without Spark."""
    lines = []
    for number, (question, sql) in enumerate(QUERIES.items(), 1):
        lines += [f"  {number}. {question}", f'     make query WAREHOUSE={warehouse} SQL="{sql}"']
    return lines


def _cause(event: Any) -> str:
    short = _short(event["text"], TEXT_WIDTH)
    return f"{event['event_type']} '{short}' {100 * event['weight']:.0f}%"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _main_topics(weights: Mapping[str, float]) -> str:
    largest = sorted(weights.items(), key=lambda entry: -entry[1])[:2]
    return " and ".join(name for name, weight in largest if weight >= 0.2)
