"""The catalogue files are complete, and are found wherever the package is."""

import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest

from jobs.demo.words import Topic, domain_names, load_domain, load_reviews

ROOT = Path(__file__).resolve().parents[3]


def test_every_domain_draws_from_a_random_stream_of_its_own() -> None:
    streams = [load_domain(name).stream for name in domain_names()]
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize("name", domain_names())
def test_a_domain_is_complete(name: str) -> None:
    domain = load_domain(name)
    assert domain.name == name
    assert sum(domain.type_weights.values()) == pytest.approx(1)
    assert domain.reference.format(name="x", title="x") != domain.reference
    assert len(domain.family_topics) == 2 and set(domain.family_topics) < set(domain.topics)
    for topic in domain.topics.values():
        words = [getattr(topic, field.name) for field in fields(Topic) if field.name != "price"]
        assert topic.price > 0
        assert all(isinstance(text, str) and text == text.strip() for texts in words for text in texts)
        assert all(texts and len(set(texts)) == len(texts) for texts in words)


def test_reviews_have_sentences_of_every_tone() -> None:
    reviews = load_reviews()
    assert set(reviews.openings) == set(reviews.closings) == {"good", "mixed", "bad"}
    assert all(text.count("{it}") == 1 for texts in reviews.openings.values() for text in texts)


def test_the_catalogue_is_read_from_a_zip(tmp_path: Path) -> None:
    """A cluster gets the code as a zip."""
    with zipfile.ZipFile(tmp_path / "nightfold.zip", "w") as archive:
        for path in [ROOT / "jobs" / "__init__.py", *sorted(ROOT.glob("jobs/demo/**/*"))]:
            archive.write(path, path.relative_to(ROOT))
    code = (
        "from jobs.demo import words; import yaml; "
        "print(words.__file__, words.domain_names(), len(words.load_domain('ads').topics))"
    )
    environment = {"PYTHONPATH": str(tmp_path / "nightfold.zip")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nightfold.zip" in done.stdout and f"{domain_names()} 8" in done.stdout
