"""Every domain has a complete item catalogue, whose titles and reviews are well formed."""

import json
from collections import Counter
from pathlib import Path

import pytest

from jobs.demo.words import domain_names
from tests.jobs.demo.reading import good_events, make, topics_of


@pytest.mark.parametrize("domain", domain_names())
def test_every_domain_has_eight_topics_of_forty_items(domain: str, tmp_path: Path) -> None:
    logs = make(tmp_path / "logs", "--domain", domain, "--days", "3", "--users", "20")
    assert set(Counter(topics_of(logs).values()).values()) == {40} and len(set(topics_of(logs).values())) == 8
    titles = [
        json.loads(line)["title"]
        for line in (logs / "_truth" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(set(titles)) == 320 and all(title[0].isupper() or title[0].isdigit() for title in titles)
    texts = [event["text"] for event in good_events(logs) if "text" in event]
    assert texts and not any("{" in text or "  " in text for text in texts)
