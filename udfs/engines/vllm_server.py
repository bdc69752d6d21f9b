"""The engine that uses running OpenAI-compatible vLLM servers, for GPU machines outside Spark.

Texts are tokenised here, with the same files as in the local engine, and sent as token ids, so that they are
truncated at the same place and marked as truncated. A failed request is retried on the next server; a request
that a server refuses is the fault of its texts.
"""

import base64
import http.client
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from udfs.engines.contract import Embedder, EngineConfig, Tokens, dimension, first_line, unit
from udfs.engines.model import load_tokenizer, model_key, tokenise
from udfs.errors import EngineError, RefusedError
from udfs.small_files import read_small

# Tokens of one request: enough to fill a server's batch, few enough to keep it busy until a call ends.
REQUEST_TOKENS: Final = 8192
# HTTP statuses of a temporary error: too many requests, a server that starts or stops, or a failing proxy.
LATER: Final = frozenset({408, 425, 429, 502, 503, 504})
# The largest answer, bytes: the vectors of a call (udfs/embed.py CALL_BYTES) in base64, and some room.
ANSWER_BYTES: Final = 128 << 20
# The largest key, bytes.
LARGEST_KEY: Final = 1 << 20
# Attempts at a request that makes a server fail (500), after which its texts are refused.
TRIES: Final = 3
# Seconds before a retry: the first pause, which doubles up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 10.0


class ServerEmbedder(Embedder):
    """Servers of the configured model. Raises EngineError if none answers within config.timeout_s."""

    engine = "vllm_server"

    def __init__(self, config: EngineConfig) -> None:
        self.model_key = model_key(config)
        self.dtype = "unknown" if config.dtype == "auto" else config.dtype  # a server does not report it
        self._config = config
        self._turn = count()
        # Servers whose last request timed out.
        self._silent: set[str] = set()
        self._pool = ThreadPoolExecutor(config.requests, "requests")
        self._tokenizer = load_tokenizer(config)
        served = self._ask("GET", "/v1/models", None, self._deadline(), read_models)
        self._name = config.served_model or (next(iter(served)) if len(served) == 1 else "")
        if self._name not in served:
            raise EngineError(f"engine.served_model: the servers have {', '.join(served)}; name one of them")
        if served[self._name] < config.max_tokens:
            # It would refuse every longer text, and the texts would be rejected for it.
            raise EngineError(
                f"engine.max_tokens is {config.max_tokens}, but the server takes only {served[self._name]} "
                "(--max-model-len)"
            )
        self.machines = len(config.endpoints)
        self._size = 0
        self._size = self._request(self.tokenise(["a"]).ids, self._deadline()).shape[1]
        self.dim = dimension(config, self._size)

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """See Embedder."""
        return tokenise(self._tokenizer, self._config, texts)

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        """See Embedder."""
        deadline = self._deadline()
        parts = list(self._pool.map(lambda part: self._request(part, deadline), requests(ids)))
        return unit(np.concatenate([np.empty((0, self.dim)), *(part[:, : self.dim] for part in parts)]))

    def _request(self, ids: Sequence[list[int]], deadline: float) -> np.ndarray:
        """The servers' vectors float64[n, d] of one request."""
        body = {"model": self._name, "input": ids, "encoding_format": "base64"}
        vectors = np.asarray(
            self._ask("POST", "/v1/embeddings", body, deadline, lambda answer: read_vectors(answer, len(ids)))
        )
        if self._size and vectors.shape[1] != self._size:
            raise EngineError(
                "the servers have different models: "
                f"one gave {self._size} numbers for a text, another {vectors.shape[1]}"
            )
        return vectors

    def _ask(  # noqa: C901 - one loop over servers and answers, in the order in which they are tried
        self, method: str, path: str, body: dict[str, Any] | None, deadline: float, read: Callable[[Any], Any]
    ) -> Any:
        """`read` of the first usable answer.

        Raises RefusedError if a server refuses the texts, and EngineError if none answers by the deadline.
        """
        endpoints = self._in_turn()
        pause, failed, last = FIRST_PAUSE_S, 0, "nothing"
        share = self._config.timeout_s / 3  # a hanging server must leave time for another
        waits: list[float] = []
        for tried in count(1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            endpoint = endpoints[(tried - 1) % len(endpoints)]
            after = None
            try:
                status, after, answer = self._exchange(endpoint, method, path, body, min(left, share))
                self._silent.discard(endpoint)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, TimeoutError):
                    self._silent.add(endpoint)
                # A last attempt that was cut short says nothing about the server; keep the error before it.
                if not (isinstance(error, TimeoutError) and left < share and tried > 1):
                    last = f"{endpoint}: {type(error).__name__}: {first_line(error)}"
            else:
                try:
                    if status == 200:
                        return read(json.loads(answer))
                    words = _words(answer, server_key(self._config))
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    # A proxy's page or half an answer: the server's fault, unless it happens TRIES times.
                    words = f"with an answer that can't be used: {first_line(error)}"
                last = f"{endpoint}: {status} {words}"
                self._refuse_final(status, last)
                if status not in LATER:
                    failed += 1
                    if 200 < status < 500 or failed == TRIES:
                        raise RefusedError(f"{status} {words}")
            # Try the next server at once; after a round, wait for the shortest pause. Jitter keeps clients
            # apart.
            waits.append(after or pause * random.uniform(0.5, 1))
            if tried % len(endpoints) == 0:
                time.sleep(min(*waits, max(0.0, deadline - time.monotonic())))
                waits.clear()
                pause = min(2 * pause, LAST_PAUSE_S)
        raise EngineError(
            f"no server has answered for {self._config.timeout_s} s (engine.timeout_s); the last said {last}"
        )

    def _refuse_final(self, status: int, answer: str) -> None:
        """Raises EngineError for a status that no retry changes and that is not the fault of a text."""
        if status in (401, 403):
            raise EngineError(
                f"the server refuses the key, which is taken from {key_place(self._config)}: {answer}"
            )
        if status == 404:
            raise EngineError(
                "the server does not know the model or the address "
                f"(engine.served_model, engine.endpoints): {answer}"
            )

    def _in_turn(self) -> list[str]:
        """The servers, from the next in turn; hanging ones last, since each costs a third of the timeout."""
        endpoints = self._config.endpoints
        start = next(self._turn) % len(endpoints)
        return sorted(endpoints[start:] + endpoints[:start], key=lambda endpoint: endpoint in self._silent)

    def _exchange(
        self, endpoint: str, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> tuple[int, float | None, bytes]:
        """Status, the pause in seconds that the server requests (Retry-After), and the answer."""
        end = time.monotonic() + seconds
        address = urlsplit(endpoint)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=seconds)
        headers = {"Content-Type": "application/json"}
        if key := server_key(self._config):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(
                method, address.path.rstrip("/") + path, None if body is None else json.dumps(body), headers
            )
            response = connection.getresponse()
            wait = response.getheader("Retry-After", "")
            return response.status, float(wait) if wait.isdecimal() else None, _body(response, end)
        finally:
            connection.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._config.timeout_s


def read_models(answer: Any) -> dict[str, float]:
    """The token limit of each model that a server has; infinite if the server does not report it."""
    return {str(model["id"]): float(model.get("max_model_len") or inf) for model in answer["data"]}


def read_vectors(answer: Any, texts: int) -> np.ndarray:
    """Vectors float64[texts, d] of an answer, in the order of their index.

    Raises ValueError if they are not exactly one vector of one size for each text.
    """
    data = sorted(answer["data"], key=lambda row: int(row["index"]))
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in data]
    sizes = sorted({len(row) for row in rows})
    if len(sizes) != 1 or not sizes[0] or [row["index"] for row in data] != list(range(texts)):
        raise ValueError(f"{len(rows)} vectors of {sizes} numbers for {texts} texts, or not one for each")
    return np.stack(rows).astype(np.float64)


def key_place(config: EngineConfig) -> str:
    """Where the API key is taken from."""
    return config.key_file or config.key_variable


def server_key(config: EngineConfig) -> str:
    """The API key, stripped of white space such as a trailing line break; empty where none is given.

    Raises EngineError, without the key in its message, if its file can't be read or the key can't be an HTTP
    header.
    """
    if config.key_file is None:
        key = os.environ.get(config.key_variable, "").strip()
    else:
        try:
            content = read_small(Path(config.key_file).expanduser(), LARGEST_KEY)
            key = content.decode("utf-8", errors="replace").strip()
        except (OSError, RuntimeError) as error:
            raise EngineError(f"engine.key_file can't be read on this machine: {first_line(error)}") from None
    if not (key.isascii() and key.isprintable()):
        raise EngineError(f"the key in {key_place(config)} has characters that can't be sent")
    return key


def requests(ids: Sequence[list[int]]) -> list[list[list[int]]]:
    """The texts in order, grouped into requests of at most REQUEST_TOKENS tokens (or one text)."""
    parts: list[list[list[int]]] = []
    tokens = REQUEST_TOKENS
    for numbers in ids:
        tokens += len(numbers)
        if tokens > REQUEST_TOKENS:
            parts.append([])
            tokens = len(numbers)
        parts[-1].append(numbers)
    return parts


def _body(response: http.client.HTTPResponse, end: float) -> bytes:
    """The full answer.

    Raises TimeoutError after `end`: the connection's own timeout is for each piece alone.
    """
    answer = bytearray()
    while piece := response.read1(1 << 20):
        answer += piece
        if time.monotonic() > end:
            raise TimeoutError("the answer began but did not end")
        if len(answer) > ANSWER_BYTES:
            raise http.client.HTTPException(f"the answer is longer than {ANSWER_BYTES >> 20} MiB")
    return bytes(answer)


def _words(answer: bytes, key: str) -> str:
    """The server's error message in one line, with the key redacted, which some servers repeat."""
    try:
        said = json.loads(answer)
        words = str(said.get("error", said).get("message", said))
    except (ValueError, AttributeError, RecursionError):
        words = answer.decode("utf-8", "replace")
    return " ".join((words.replace(key, "***") if key else words).split())[:300]
