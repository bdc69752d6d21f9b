"""The engine that asks running OpenAI-compatible vLLM servers, for GPU machines outside Spark.

Texts are tokenised here, by the same files as in the other engines, and sent as token ids: so they are cut in the same place, and
what was cut is known. Requests are retried and moved to the next server; what a server refuses alone is the text's fault.
"""

import base64
import http.client
import json
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from udfs.engine import Embedder, EngineConfig, EngineError, Tokens, dimension, first_line, load_tokenizer, model_key, tokenise, unit

# Tokens of one request: enough to fill a server's batch, few enough that four clients keep it busy to the end of a call.
REQUEST_TOKENS: Final = 8192
# Too many requests, or a server that starts, stops or hides behind a proxy: it may answer later.
LATER: Final = frozenset({408, 425, 429, 502, 503, 504})
# How often a request that makes a server fail (500) is tried before the texts in it are blamed.
TRIES: Final = 3
# The first pause before another try; it doubles, up to the last, seconds.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 10.0


class RefusedError(RuntimeError):
    """The server won't take these texts, in its own words."""


class ServerEmbedder(Embedder):
    """Servers that have the configured model. Raises EngineError where none answers within config.timeout_s."""

    engine = "vllm_server"

    def __init__(self, config: EngineConfig) -> None:
        self.model_key = model_key(config)
        self.dtype = config.dtype
        self._config = config
        self._turn = count()
        self._pool = ThreadPoolExecutor(config.requests, "requests")
        self._tokenizer = load_tokenizer(config)
        served = [model["id"] for model in self._ask("GET", "/v1/models", None, self._deadline())["data"]]
        self._name = config.served_model or (served[0] if len(served) == 1 else "")
        if self._name not in served:
            raise EngineError(f"engine.served_model: the servers have {', '.join(served)}; name one of them")
        self.dim = dimension(config, self._request(self.tokenise(["a"]).ids, self._deadline()).shape[1])

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        return tokenise(self._tokenizer, self._config, texts)

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        deadline = self._deadline()
        parts = list(self._pool.map(lambda part: self._request(part, deadline), requests(ids)))
        return unit(np.concatenate([np.empty((0, self.dim)), *(part[:, : self.dim] for part in parts)]))

    def _request(self, ids: Sequence[list[int]], deadline: float) -> np.ndarray:
        """The servers' vectors float64[n, d] of one request."""
        body = {"model": self._name, "input": ids, "encoding_format": "base64"}
        data = sorted(self._ask("POST", "/v1/embeddings", body, deadline)["data"], key=lambda row: row["index"])
        rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in data]
        if len(rows) != len(ids) or len({len(row) for row in rows}) != 1:
            raise RefusedError(f"the server gave {len(rows)} vectors of {sorted({len(row) for row in rows})} numbers for {len(ids)} texts")
        return np.stack(rows).astype(np.float64)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, deadline: float) -> Any:
        """The answer of the first server that gives one. Raises RefusedError, and EngineError after the deadline."""
        endpoints = self._config.endpoints
        start, pause, failed, last = next(self._turn), FIRST_PAUSE_S, 0, "nothing"
        for tried in count(1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            endpoint = endpoints[(start + tried) % len(endpoints)]
            after = None
            try:
                # One that hangs must leave time for another.
                status, after, answer = self._exchange(endpoint, method, path, body, min(left, self._config.timeout_s / 3))
            except (OSError, http.client.HTTPException) as error:
                last = f"{endpoint}: {type(error).__name__}: {first_line(error)}"
            else:
                if status == 200:
                    return json.loads(answer)
                words = _words(answer)
                last = f"{endpoint}: {status} {words}"
                if status in (401, 403, 404):
                    raise EngineError(f"the server refuses the job, not the text: {last}")
                if status not in LATER:
                    failed += 1
                    if status < 500 or failed == TRIES:
                        raise RefusedError(f"{status} {words}")
            # Another server at once; after a round of all of them a pause, for each client of another length.
            if tried % len(endpoints) == 0 or after is not None:
                time.sleep(min(after or pause * random.uniform(0.5, 1), max(0.0, deadline - time.monotonic())))
                pause = min(2 * pause, LAST_PAUSE_S)
        raise EngineError(f"no server has answered for {self._config.timeout_s} s (engine.timeout_s); the last said {last}")

    def _exchange(
        self, endpoint: str, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> tuple[int, float | None, bytes]:
        """Status, the pause the server asks for in seconds, and the answer."""
        address = urlsplit(endpoint)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=seconds)
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, address.path.rstrip("/") + path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            wait = response.getheader("Retry-After", "")
            return response.status, float(wait) if wait.isdigit() else None, response.read()
        finally:
            connection.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._config.timeout_s


def requests(ids: Sequence[list[int]]) -> list[list[list[int]]]:
    """The texts in order, in requests of at most REQUEST_TOKENS tokens (or one text)."""
    parts: list[list[list[int]]] = []
    tokens = REQUEST_TOKENS
    for numbers in ids:
        tokens += len(numbers)
        if tokens > REQUEST_TOKENS:
            parts.append([])
            tokens = len(numbers)
        parts[-1].append(numbers)
    return parts


def _words(answer: bytes) -> str:
    """What a server says is wrong, in one line."""
    try:
        said = json.loads(answer)
        return " ".join(str(said.get("error", said).get("message", said)).split())[:300]
    except (ValueError, AttributeError):
        return " ".join(answer.decode("utf-8", "replace").split())[:300]
