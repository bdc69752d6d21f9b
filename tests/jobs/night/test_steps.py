"""The steps of a night are declared once in jobs/; the scheduler, which has its own list, starts the same."""

import ast

from jobs.night.steps import NIGHT, required_jobs
from schemas.settings import RecommendSettings, Settings
from tests.conftest import ROOT


def declared(path: str, name: str) -> object:
    """The literal that a module assigns to a name, without importing the module."""
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            return ast.literal_eval(node.value)
    raise LookupError(f"{path} assigns no {name}")


def test_the_nightly_dag_starts_the_steps_of_a_night():
    assert declared("dags/profiles_nightly.py", "STEPS") == tuple(step.job for step in NIGHT)


def test_every_step_must_precede_the_publication_and_lists_where_nights_make_them():
    with_lists = Settings(recommend=RecommendSettings(nightly=True))
    assert (*required_jobs(with_lists), "publish_run") == tuple(step.job for step in NIGHT)
    assert set(required_jobs(with_lists)) - set(required_jobs(Settings())) == {"recommend_items"}


def test_every_step_is_a_command_of_its_own():
    assert [job for job, _ in NIGHT if not (ROOT / "jobs" / f"{job}.py").is_file()] == []
