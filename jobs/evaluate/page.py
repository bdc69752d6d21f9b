"""The page of a run: the verdict first, then the table, then the parts, and what the figures do not say."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobs.rank.choice import CONTENT, FACET
from jobs.rank.tuning import ALL, WITHOUT_CONTENT

COLUMNS: Final = ("ndcg", "recall", "mrr", "hit", "coverage", "gini", "novelty")
LIMITS: Final = """\
- The log tells what users chose, not what they were shown. Items that were shown more often were chosen more
  often, and a model that repeats the old ranking is favoured. The figures order models on this log; they do
  not predict what a model would sell.
- A user who chose nothing in the horizon is not judged, and neither is one without history.
- An interval is that of one comparison. The verdict uses the p corrected for all of them (Holm).
- Cold items are ranked among themselves alone, so that their figures cannot be compared with the table."""


def page(result: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> str:
    """The Markdown of a result (summary.py). plots: title and file name of each."""
    rules, days, k = result["rules"], result["days"], result["rules"]["k"]
    parts = [
        f"# Evaluation of {days['first']} to {days['last']}",
        (
            f"{result['users']:,} users at {len(result['steps'])} steps, {result['user_steps']:,} rankings "
            f"of up to {result['catalogue']:,} items. Each step predicts {rules['horizon']} days; "
            f"items that a user chose before: {rules['repeat']}."
        ),
        verdict(result),
        ranker_in_force(result.get("ranker"), days["last"]),
        "## All models",
        (
            f"NDCG, recall, hit rate, coverage, Gini and novelty (bits) of the first {k} ranks; "
            "MRR over the whole ranking. Means over users, the steps of a user averaged first."
        ),
        model_table(result["models"], COLUMNS),
        "## Who beats whom",
        comparison_table(result["comparisons"]),
        *[f"![{title}]({file})" for title, file in plots],
        "## By length of history",
        f"NDCG@{k} by how many events of the user were known at the step.",
        parts_table(result["models"], result["buckets"]),
        *cold_part(result, k),
        *facet_part(result, k),
        *reranking_part(result, k),
        "## What the log shows of exposure",
        exposure(result.get("impressions")),
        "## Tuning",
        (
            f"Chosen by NDCG@{k} on {', '.join(result['tuning']['steps'])}, {result['tuning']['users']:,} "
            f"users, {len(result['tuning']['tried'])} points tried (all in the JSON file):"
        ),
        chosen_table(result["models"]),
        "## What the figures do not say",
        "\n".join([LIMITS, *[f"- {note}" for note in result["notes"]]]),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(result: Mapping[str, Any]) -> str:
    """Who wins, in sentences."""
    best, found = result["best_baseline"], result["comparisons"]
    if not found:
        return "**Nobody could be judged.** No user seen before chose anything in the horizon of a step."
    winners = [one["model"] for one in found if one["reference"] == best and one["verdict"] == "better"]
    sentences = [f"The best single baseline before the test was `{best}`."]
    if winners:
        sentences.append(f"**Better than it: {', '.join(f'`{name}`' for name in winners)}.**")
    else:
        sentences.append("**No model was shown to be better than it.**")
    for one in found:
        if (one["model"], one["reference"]) == (ALL, WITHOUT_CONTENT):
            sentences.append(f"Content in the blend: {one['verdict']} ({interval(one)}).")
        elif one["reference"] == CONTENT and one["model"].startswith(FACET):
            facet = one["model"].removeprefix(FACET)
            sentences.append(f"Facet `{facet}` in the content: {one['verdict']} ({interval(one)}).")
    return " ".join(sentences)


def ranker_in_force(found: Mapping[str, str] | None, day: str) -> str:
    """What the gate said of the ranker that makes lists at the end of the range."""
    if found is None:
        return f"No ranker was in force on {day}, so that no lists are made."
    return f"The ranker in force on {day} is `{found['version']}`; the gate accepted it: {found['verdict']}."


def interval(one: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    return f"{one['difference']:+.4f}, {one['low']:+.4f} to {one['high']:+.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float | None) -> str:
    """A figure to four digits; a dash where there was nobody to measure."""
    return "-" if value is None else f"{value:.4f}"


def model_table(models: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The models, best first."""
    ordered = sorted(models, key=lambda row: -(row["ndcg"] or 0.0))
    rows = [[f"`{row['model']}`", *[number(row[name]) for name in columns]] for row in ordered]
    return table(["model", *columns], rows)


def comparison_table(found: Sequence[Mapping[str, Any]]) -> str:
    """The comparisons in their order."""
    rows = [
        [f"`{one['model']}`", f"`{one['reference']}`", interval(one), f"{one['p_holm']:.3f}", one["verdict"]]
        for one in found
    ]
    return table(["model", "against", "difference of NDCG, 95% interval", "p (Holm)", "verdict"], rows)


def parts_table(
    models: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]], figure: str = "ndcg"
) -> str:
    """A figure by model and part of the users."""
    head = ["model", *[f"{group['name']} ({group['users']:,} users)" for group in groups]]
    return table(
        head,
        [[f"`{row['model']}`", *[number(group[figure][row["model"]]) for group in groups]] for row in models],
    )


def cold_part(result: Mapping[str, Any], k: int) -> list[str]:
    """Cold items, where any was chosen."""
    head = "## Cold items"
    if not result["cold"][0]["users"]:
        return [head, "No user chose an item that was known and that nobody had touched before."]
    told = f"NDCG@{k} of rankings of items that nobody had touched before, for users who chose one."
    return [head, told, parts_table(result["models"], result["cold"])]


def facet_part(result: Mapping[str, Any], k: int) -> list[str]:
    """Context facets, where there are any."""
    if not result["facets"]:
        return ["## Context facets", "The settings have none."]
    told = f"NDCG@{k} of the rows of users who had a state of the facet at the step."
    return ["## Context facets", told, parts_table(result["models"], result["facets"])]


def reranking_part(result: Mapping[str, Any], k: int) -> list[str]:
    """What re-ranking the blend's lists costs and gives, where the settings ask for any."""
    rows = {row["model"]: row for row in result["models"] if "divergence" in row}
    against = {one["model"]: one for one in result["comparisons"] if one["reference"] == ALL}
    names = [ALL, *[name for name in against if name in rows]]
    if len(names) == 1:
        return []
    told = (
        "The blend's lists as the settings' section `recommend` re-ranks them. Distance is the mean of 1 - "
        f"cosine over pairs of the first {k}, divergence that of the history's categories from the list's "
        "(nats), and the largest share that of the lists with the item shown most."
    )
    columns = ("ndcg", "distance", "divergence", "coverage", "gini", "largest_share")
    cells = [
        [f"`{name}`", *[number(rows[name][column]) for column in columns], price(against.get(name))]
        for name in names
    ]
    head = ["lists", *[column.replace("_", " ") for column in columns], "difference of NDCG, 95% interval"]
    return ["## What re-ranking costs", told, table(head, cells)]


def price(one: Mapping[str, Any] | None) -> str:
    """A comparison with the blend; a dash for the blend itself."""
    return "-" if one is None else f"{interval(one)}, {one['verdict']}"


def exposure(found: Mapping[str, Any] | None) -> str:
    """Click-through and conversion of what was shown, or that nothing is known of it."""
    if not found:
        return (
            "**Exposure is unknown**: the log has no events of type `impression`. Nothing here tells "
            "whether an item that was not chosen had been seen."
        )
    names = {
        "impressions": "impressions",
        "users": "users",
        "ctr": "click-through rate",
        "conversion": "conversion of the first 10 places",
        "with_propensity": "impressions with a propensity",
        "ctr_weighted": "click-through rate, weighted by inverse propensity",
        "conversion_weighted": "conversion, weighted by inverse propensity",
    }
    rows = [
        [text, f"{found[name]:,}" if isinstance(found[name], int) else number(found[name])]
        for name, text in names.items()
    ]
    return table(["figure", "value"], rows)


def chosen_table(models: Sequence[Mapping[str, Any]]) -> str:
    """The parameters of each model that has any."""
    rows = [
        [f"`{row['model']}`", ", ".join(f"{name} {value:g}" for name, value in row["parameters"].items())]
        for row in models
        if row["parameters"]
    ]
    return table(["model", "parameters or weights"], rows)
