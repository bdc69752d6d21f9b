"""How missing texts are cut into tiles, and what the job says about them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.embed.days import LEAST_TILE, LEAST_TILES, tile_count, tile_progress, waiting_for
from schemas.settings import EngineSettings


@pytest.mark.parametrize(
    ("texts", "most", "tiles"),
    [
        (0, 50_000, 0),
        (1, 50_000, 1),
        (LEAST_TILE, 50_000, 1),
        (LEAST_TILE + 1, 50_000, 2),
        (100 * LEAST_TILE, 50_000, LEAST_TILES),
        (1_000_000, 50_000, 20),
        (1_000_001, 50_000, 21),
    ],
)
def test_there_are_several_tiles_but_no_tiny_ones(texts, most, tiles):
    assert tile_count(texts, most) == tiles


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_no_tile_has_more_texts_than_allowed(texts, most):
    assert texts <= tile_count(texts, most) * most


def test_progress_says_how_fast_and_how_long():
    assert tile_progress(500, 1_500, 2.0) == "500 of 1,500 texts, 250 texts/s, 4 s left"


def test_a_job_says_what_it_waits_for():
    assert waiting_for(EngineSettings(kind="hash")) == "starting the hash engine"
    servers = ("http://a:1", "http://b:2")
    settings = EngineSettings(kind="vllm_server", model="m", endpoints=servers, timeout_s=60)
    assert waiting_for(settings) == "waiting up to 60 s for http://a:1, http://b:2 (engine.timeout_s)"
