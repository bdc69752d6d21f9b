"""vLLM's own server on loopback with the packaged model, as a process of its own that can be killed: for slow tests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.udfs.engines.configs import config
from udfs.engines.model import model_folder

KEY: Final = "secret"
MODEL: Final = "minilm"


class Server:
    """A server that starts; it answers some 20 s later, and takes processes of its own with it."""

    def __init__(self, port: int, output: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        # Its short command `vllm serve` does not know the CPU package.
        model = [
            "--model",
            str(model_folder(config())),
            "--served-model-name",
            MODEL,
            "--runner",
            "pooling",
            "--dtype",
            "float32",
        ]
        more = [
            "--max-model-len",
            "256",
            "--enforce-eager",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--api-key",
            KEY,
        ]
        environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *model, *more]
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)


@contextmanager
def vllm_server(port: int, output: Path) -> Iterator[Server]:
    server = Server(port, output)
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
