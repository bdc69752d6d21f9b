"""A benchmark outside its bounds must fail; otherwise nobody notices."""

import json

import pytest

from tests.perf import __main__ as perf
from tests.perf.report import Ratio, report


@pytest.mark.parametrize(
    ("ratio", "status"),
    [
        (Ratio("speed", 0.5, least=0.5), 0),
        (Ratio("speed", 0.49, least=0.5), 1),
        (Ratio("memory", 1.1, most=1.1), 0),
        (Ratio("memory", 1.2, most=1.1), 1),
        (Ratio("unbounded", 7.0), 0),
    ],
)
def test_a_ratio_outside_its_bounds_fails(ratio, status, capsys):
    assert report("x", [Ratio("other", 1.0), ratio], {"rows": 5}) == status
    line = json.loads(capsys.readouterr().out)
    assert line["ratios"][1]["holds"] is (status == 0) and line["figures"] == {"rows": 5}


def test_an_unknown_name_is_refused(capsys):
    assert perf.main(["nothing"]) == 2
    assert "no benchmark nothing" in capsys.readouterr().err
