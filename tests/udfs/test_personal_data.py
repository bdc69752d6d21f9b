"""How much personal data is found in a labelled list of texts, and how much else is taken for it.

The list is invented: example domains, and numbers that are reserved for tests. It holds texts that are beyond
the rules, so that the figures say what to expect. `python -m tests.udfs.test_personal_data` writes the table
of docs/logs.md.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from udfs.privacy import scrub

HERE = Path(__file__).parent
LOGS = HERE.parent.parent / "docs" / "logs.md"
LINES = [json.loads(line) for line in (HERE / "personal_data.jsonl").read_text(encoding="utf-8").splitlines()]
KINDS = ("email", "ip", "card", "phone")
LANGUAGES = {"en": "English", "zh": "Chinese"}
MARKS = "<!-- computed by tests/udfs/test_personal_data.py -->", "<!-- end -->"
# Of all kinds together, and of each kind: where a list holds seven of a kind, one error weighs a seventh.
LEAST_PRECISION, LEAST_RECALL = 0.98, 0.95
LEAST_OF_A_KIND = 0.85


def spans(text: str, scrubbed: str) -> set[tuple[str, int, int]]:
    """(kind, begin, end) of what the placeholders of a scrubbed text stand for."""
    parts = re.split(r"\[(email|ip|card|phone)\]", scrubbed)
    whole = re.fullmatch("(.+?)".join(map(re.escape, parts[::2])), text, re.DOTALL)
    assert whole is not None, f"{scrubbed!r} is not {text!r}"
    return {(kind, *whole.span(group)) for group, kind in enumerate(parts[1::2], 1)}


def count(language: str, kind: str) -> tuple[int, int, int]:
    """Spans found rightly, found wrongly and missed."""
    right = wrong = missed = 0
    for line in LINES:
        if line["language"] != language:
            continue
        found = spans(line["text"], scrub(line["text"], line["region"]))
        meant = spans(line["text"], line["scrubbed"])
        right += sum(span[0] == kind for span in found & meant)
        wrong += sum(span[0] == kind for span in found - meant)
        missed += sum(span[0] == kind for span in meant - found)
    return right, wrong, missed


def share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else 1.0


def table() -> str:
    """Precision and recall by kind and language, as Markdown."""
    rows = ["| | kind | in the list | precision | recall |", "|---|---|---|---|---|"]
    sums = [0, 0, 0]
    for language, name in LANGUAGES.items():
        for kind in KINDS:
            right, wrong, missed = counts = count(language, kind)
            sums = [total + n for total, n in zip(sums, counts, strict=True)]
            figures = f"{share(right, wrong):.3f} | {share(right, missed):.3f}"
            rows.append(f"| {name} | `[{kind}]` | {right + missed} | {figures} |")
    right, wrong, missed = sums
    rows.append(f"| all | | {right + missed} | {share(right, wrong):.3f} | {share(right, missed):.3f} |")
    return "\n".join(rows)


def test_the_list_is_fit_to_measure_with():
    for language in LANGUAGES:
        of_language = [line for line in LINES if line["language"] == language]
        private = sum(line["text"] != line["scrubbed"] for line in of_language)
        assert len(of_language) >= 60 and 0.4 <= private / len(of_language) <= 0.6
        assert all(
            sum(kind in line["scrubbed"].split("[", 1)[-1] for line in of_language) >= 5 for kind in KINDS
        )
    assert all(before["text"] != line["text"] for before, line in pairwise(LINES))


@pytest.mark.parametrize("language", LANGUAGES)
def test_precision_and_recall_stay_above_their_minimums(language):
    right, wrong, missed = map(sum, zip(*(count(language, kind) for kind in KINDS), strict=True))
    assert share(right, wrong) >= LEAST_PRECISION and share(right, missed) >= LEAST_RECALL


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_is_much_worse_than_the_others(language, kind):
    right, wrong, missed = count(language, kind)
    assert share(right, wrong) >= LEAST_OF_A_KIND and share(right, missed) >= LEAST_OF_A_KIND


def with_table(text: str) -> str:
    """The documentation with the table between its marks."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}"


def test_the_documentation_holds_the_computed_table():
    text = LOGS.read_text(encoding="utf-8")
    assert MARKS[0] in text and with_table(text) == text


def test_scrubbed_texts_stay_as_they_are():
    for line in LINES:
        once = scrub(line["text"], line["region"])
        assert scrub(once, line["region"]) == once


if __name__ == "__main__":
    LOGS.write_text(with_table(LOGS.read_text(encoding="utf-8")), encoding="utf-8")
