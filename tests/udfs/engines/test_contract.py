"""The contract of the engines: a configuration without defaults of its own, and vectors of unit length."""

import subprocess
import sys
from dataclasses import MISSING, fields

import numpy as np
import pytest

from schemas.settings import EngineSettings
from tests.conftest import ROOT
from tests.udfs.engines.configs import config
from udfs.engines.contract import EngineConfig, dimension, unit
from udfs.errors import EngineError


def test_every_field_but_devices_is_a_setting_and_has_its_default_there_alone():
    with_default = [field.name for field in fields(EngineConfig) if field.default is not MISSING]
    assert with_default == ["devices"]
    settings = EngineSettings().model_dump()
    for field in fields(EngineConfig):
        if field.name != "devices":
            assert getattr(config(), field.name) == settings[field.name]


def test_a_row_without_length_stays_unchanged():
    assert np.array_equal(
        unit(np.array([[0.0, 0.0], [3.0, 4.0]])), np.array([[0, 0], [0.6, 0.8]], np.float32)
    )
    assert np.array_equal(unit(np.array([[1e-30, 0.0]])), np.array([[1e-30, 0]], np.float32))


def test_a_vector_is_cut_to_the_configured_dimensions_and_never_extended():
    assert dimension(config(), 4) == 4
    assert dimension(config(dimensions=2), 4) == 2
    with pytest.raises(EngineError, match="dimensions is 5, but the model gives 4"):
        dimension(config(dimensions=5), 4)


def test_the_contract_loads_no_engine_and_no_model_library():
    heavy = {"torch", "vllm", "tokenizers", "numba"}
    code = f"import sys, udfs.engines.contract; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
