"""A server with the part of vLLM's OpenAI interface that the engine uses, and with faults on demand.

For tests without a model.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.udfs.engines.configs import config
from udfs.engines.hashed_words import HashEmbedder

VECTORS = HashEmbedder(config(kind="hash", hash_dimensions=8))


class EmbeddingServer(ThreadingHTTPServer):
    """Embeds token ids by the hash engine.

    answers: (status, headers) of the first answers, in turn. Status 0 hangs until the server ends. With a
    header Content-Length, blanks follow the content, one by one, until the server ends.
    spoil: changes a correct answer before it is sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.key: str | None = None
        self.models = ["a-model"]
        self.max_model_len: int | None = None
        self.poison: int | None = None  # a token id that makes a request fail
        self.sign = 1.0
        self.spoil: Callable[[dict[str, Any]], object] = lambda answer: answer
        self.delay_s = 0.01
        self.inputs: list[int] = []  # number of texts in each answered request
        self.most_at_once = 0
        self.open = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_GET(self) -> None:
        length = self.server.max_model_len
        models = [{"id": name, "max_model_len": length} for name in self.server.models]
        self._answer(200, {"data": models})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.open += 1
            server.most_at_once = max(server.most_at_once, server.open)
            status, headers = server.answers.pop(0) if server.answers else (200, {})
        time.sleep(server.delay_s)
        with server.lock:
            server.open -= 1
        if status == 0:
            server.ended.wait(60)
        elif server.key and self.headers["Authorization"] != f"Bearer {server.key}":
            self._answer(401, {"error": {"message": f"who are you? not {self.headers['Authorization']}"}})
        elif status != 200:
            self._answer(status, {"error": {"message": "not now"}}, headers)
        elif server.poison is not None and any(server.poison in ids for ids in body["input"]):
            self._answer(500, {"error": {"message": "these tokens\nbreak me"}})
        else:
            with server.lock:
                server.inputs.append(len(body["input"]))
            vectors = server.sign * VECTORS.embed_tokens(body["input"])
            rows = [
                {"index": i, "embedding": base64.b64encode(v.astype("<f4").tobytes()).decode()}
                for i, v in enumerate(vectors)
            ]
            self._answer(200, server.spoil({"data": rows[::-1]}))

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        while "Content-Length" in (headers or {}) and not self.server.ended.wait(0.1):
            try:
                self.wfile.write(b" ")
            except OSError:
                break

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
