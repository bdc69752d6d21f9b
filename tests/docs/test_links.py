"""Every relative link of the Markdown pages leads to a file, and its anchor to a heading there."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Folders at the root that are not the repository's; the environments hold thousands of pages of others.
LEFT_OUT = {".git", ".venv", ".venv-airflow", ".uv", "build", "demo"}
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ANCHOR = re.compile(r'<a id="([^"]+)">')


def pages() -> Iterator[Path]:
    for folder, below, files in os.walk(ROOT):
        if Path(folder) == ROOT:
            below[:] = set(below) - LEFT_OUT
        yield from (Path(folder, name) for name in files if name.endswith(".md"))


PAGES = sorted(pages())


def links(text: str) -> list[str]:
    """The targets of inline links that stay within the repository; code is left out."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))
    return [link for link in LINK.findall(prose) if not re.match(r"[a-z][a-z0-9+.-]*:", link)]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page: its headings, the second of a name with -1, and those that are set by hand."""
    text = page.read_text(encoding="utf-8")
    found: Counter[str] = Counter()
    named = set(ANCHOR.findall(text))
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", FENCED.sub("", text), re.MULTILINE):
        name = slug(heading)
        named.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return frozenset(named)


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            wrong.append(link)
    return wrong


def test_there_are_pages_with_links():
    assert sum(len(links(page.read_text(encoding="utf-8"))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert broken(page) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](b.md)", ["b.md"]),
        ("![a](b.svg) and [c](#d)", ["b.svg", "#d"]),
        ("[a](https://example.org/b.md)", []),
        ("`[a](b.md)`", []),
        ("```\n[a](b.md)\n```\n", []),
        ("[two\nlines](b.md#c)", ["b.md#c"]),
    ],
)
def test_links_are_found(text, found):
    assert links(text) == found


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "other.md").write_text('# One: two\n\n## One: two\n\n<a id="n1"></a>\n', encoding="utf-8")
    good = "[a](other.md) [b](other.md#one-two) [c](other.md#one-two-1) [d](other.md#n1) [e](#here)"
    bad = ["nowhere.md", "other.md#three", "#there", "../outside.md"]
    page = tmp_path / "page.md"
    page.write_text("\n".join([good, *(f"[x]({link})" for link in bad), "", "## Here"]), encoding="utf-8")
    assert broken(page) == bad


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "decisions"
    indexed = links((folder / "README.md").read_text(encoding="utf-8"))
    numbered = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [link for link in indexed if link[:4].isdigit()] == numbered
    assert [name[:4] for name in numbered] == [f"{number:04}" for number in range(1, len(numbered) + 1)]
