"""What has no end is not read, and neither is what is too large."""

import os
from pathlib import Path

import pytest

from tests.udfs.engines.configs import config
from udfs.engines.vllm_server import server_key
from udfs.errors import EngineError
from udfs.small_files import UnfitFileError, read_small

MIB = 1 << 20


def test_a_file_is_read_up_to_its_largest_size(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * MIB)
    assert len(read_small(tmp_path / "file", MIB)) == MIB
    os.truncate(tmp_path / "file", MIB + 1)
    with pytest.raises(UnfitFileError, match="it is larger than 1 MiB"):
        read_small(tmp_path / "file", MIB)


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(UnfitFileError, match="it is no file"):
            read_small(path, MIB)


def test_a_server_s_key_is_no_device():
    for name in ("/dev/zero", "~nobody-of-this-name/key"):
        with pytest.raises(EngineError, match=r"^engine\.key_file can't be read on this machine: "):
            server_key(config(kind="vllm_server", key_file=name))
