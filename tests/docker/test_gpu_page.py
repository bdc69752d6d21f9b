"""docs/gpu.md names only commands, files, settings, tasks and messages that exist."""

import json
import re

import pytest

from schemas.settings import EngineSettings
from tests.conftest import ROOT

PAGE = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for folder, pattern in (("udfs", "*.py"), ("docker", "*.sh"))
    for path in (ROOT / folder).rglob(pattern)
)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", PAGE))))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:docker|docs|jobs)/[\w./-]+\w", PAGE)) - {"docker/.env"})
)
def test_a_file_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`engine\.(\w+)", PAGE))))
def test_a_setting_exists(name):
    assert name in EngineSettings.model_fields


@pytest.mark.parametrize("text", re.findall(r"'(\{.*\})'", PAGE))
def test_step_conf_names_tasks_and_gpu_properties(text):
    for task, conf in json.loads(text).items():
        assert (ROOT / f"tests/golden/commands/profiles_nightly.{task}.txt").is_file()
        assert conf == {"spark.executor.resource.gpu.amount": "1"}


def test_our_own_messages_are_those_of_the_code():
    assert "get_gpus: there is no nvidia-smi on PATH" in PAGE
    for words in (
        ("there is no nvidia-smi on PATH",),
        ("engine.gpus is", "but this worker sees"),
        ("this worker's engine has GPU", "and the task was given"),
    ):
        assert all(word in PAGE and word in SOURCES for word in words)
