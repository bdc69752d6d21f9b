"""The plots of a run, one for each question: who wins, for whom, and when.

SVG, the same bytes for the same result.
"""

from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, Final

# Models that a plot of many lines shows: the best ones.
LINES: Final = 6


def plots(result: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Title and SVG of each plot by its file name; none where nobody was judged."""
    if not result["comparisons"]:
        return {}
    drawn: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "winner.svg": (f"Against {result['best_baseline']}, with 95% intervals", draw_winner),
        "buckets.svg": ("NDCG by length of history", draw_buckets),
        "time.svg": ("NDCG over time", draw_time),
    }
    return {name: (title, svg(title, draw, result)) for name, (title, draw) in drawn.items()}


def svg(title: str, draw: Callable[[Any, Mapping[str, Any]], None], result: Mapping[str, Any]) -> str:
    """One plot as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Without a salt, ids of clip paths are drawn at random.
    with rc_context({"svg.hashsalt": "nightfold", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        draw(axes, result)
        axes.spines[["top", "right"]].set_visible(False)
        page = StringIO()
        figure.savefig(page, format="svg", metadata={"Date": None, "Creator": None})
    return page.getvalue()


def draw_winner(axes: Any, result: Mapping[str, Any]) -> None:
    """Differences from the best baseline, the best on top."""
    found = [one for one in result["comparisons"] if one["reference"] == result["best_baseline"]]
    found.sort(key=lambda one: one["difference"])
    colours = {"better": "tab:green", "worse": "tab:red"}
    for place, one in enumerate(found):
        colour = colours.get(one["verdict"], "tab:gray")
        axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(one["difference"], place, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [one["model"] for one in found])
    axes.set_xlabel("difference of NDCG")


def best_models(result: Mapping[str, Any]) -> list[str]:
    """The names of the best models, best first."""
    ordered = sorted(result["models"], key=lambda row: -(row["ndcg"] or 0.0))
    return [row["model"] for row in ordered[:LINES]]


def draw_buckets(axes: Any, result: Mapping[str, Any]) -> None:
    """The best models by length of history."""
    groups = [group for group in result["buckets"] if group["users"]]
    for name in best_models(result):
        axes.plot(range(len(groups)), [group["ndcg"][name] for group in groups], "o-", label=name)
    axes.set_xticks(range(len(groups)), [f"{group['name']}\n{group['users']:,} users" for group in groups])
    axes.set_xlabel("known events of the user")
    axes.set_ylabel("NDCG")
    axes.legend(frameon=False)


def draw_time(axes: Any, result: Mapping[str, Any]) -> None:
    """The best models by step."""
    steps = result["steps"]
    for name in best_models(result):
        axes.plot(range(len(steps)), [step["ndcg"][name] for step in steps], "o-", label=name, markersize=3)
    places = range(0, len(steps), max(1, len(steps) // 6))
    axes.set_xticks(places, [steps[place]["day"] for place in places])
    axes.set_xlabel("day of the step")
    axes.set_ylabel("NDCG")
    axes.legend(frameon=False)
