"""vLLM's own server on loopback with the packaged model, as a separate process that can be killed."""

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
    """A starting server; it answers about 20 s later. It has child processes, which end with it."""

    def __init__(self, port: int, output: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        # The short command `vllm serve` does not work with the CPU package.
        options = {
            "--model": str(model_folder(config())),
            "--served-model-name": MODEL,
            "--runner": "pooling",
            "--dtype": "float32",
            "--max-model-len": "256",
            "--host": "127.0.0.1",
            "--port": str(port),
            "--api-key": KEY,
        }
        arguments = [word for option in options.items() for word in option]
        environment = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [*command, *arguments, "--enforce-eager"],
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
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
