"""The programs that the guide shows do what it says of them."""

import json
import re
import subprocess
import sys

from tests.conftest import ROOT


def test_xml_becomes_json_lines(tmp_path):
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "xml_to_json.py").write_text(program, encoding="utf-8")
    text = '<posts><row Id="1" Body="a &lt;b&gt; é"/><row Id="2"><Tag>x</Tag></row></posts>'
    (tmp_path / "p.xml").write_text(text, encoding="utf-8")
    command = [sys.executable, "xml_to_json.py", "p.xml", "row"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [{"Id": "1", "Body": "a <b> é"}, {"Id": "2", "Tag": "x"}]
