"""The contract of the fold: constants without defaults of their own, and no compiler for a driver."""

import subprocess
import sys
from dataclasses import MISSING, fields

from schemas.fold_settings import FacetSettings, FoldSettings
from tests.conftest import ROOT
from tests.udfs.fold.configs import constants
from udfs.fold.contract import EFFECTIVE, FIXED, GATES, LITERAL, MEAN, FoldConstants


def test_every_constant_is_a_setting_and_has_its_default_there_alone():
    assert all(field.default is MISSING for field in fields(FoldConstants))
    settings = FoldSettings().model_dump() | FacetSettings(name="main").model_dump()
    for field in fields(FoldConstants):
        assert getattr(constants(), field.name) == settings.get(field.name)
        assert field.name in FacetSettings.model_fields or field.name == "max_day_share"


def test_every_gate_of_the_settings_has_a_number_of_its_own():
    assert GATES == {"effective": EFFECTIVE, "literal": LITERAL, "mean": MEAN, "fixed": FIXED}
    assert len(set(GATES.values())) == 4
    choices = FoldSettings.model_json_schema()["properties"]["gate"]["enum"]
    assert set(choices) == set(GATES)


def test_the_contract_loads_no_compiler():
    code = "import sys, udfs.fold.contract; print({'numba', 'llvmlite'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
