"""A real HTTP server on loopback that speaks OpenAI's protocol, counts what it is asked, and fails on demand.

::

    with OpenAIServer(dims=8) as server:
        provider = OpenAIEmbedding(server.key, base_url=server.base_url, dims=8)
        server.fail_next(status(429, retry_after=1))     # one fault per request, then normal answers again
        ...
        assert server.count("/v1/embeddings") == 2

    with OpenAIServer(chat=lambda body: "an answer to " + body["messages"][-1]["content"]) as server:
        llm = OpenAILLM(server.key, base_url=server.base_url)

What the model says is `server.chat`, a function from the request's JSON to the answer's text; it may be replaced.
An endpoint is a method from the request's JSON to the answer's; recording, the key and the faults are common to all.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

CHAT = "/v1/chat/completions"

type Json = dict[str, Any]
type Endpoint = Callable[[Json], Json]
type Chat = Callable[[Json], str]


@dataclass(frozen=True)
class Call:
    """One request the server received."""

    path: str
    body: Json
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer: ``change`` edits its JSON, ``respond`` replaces it, ``delay`` comes first."""

    delay: float = 0.0
    change: Callable[[Json], Json] | None = None
    respond: Callable[[Request], Response] | None = None


def status(code: int, message: str = "failed on demand", *, retry_after: float | None = None) -> Fault:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Fault(respond=lambda request: _json({"error": {"message": message, "code": None}}, code, headers))


def quoting_key(code: int = 401) -> Fault:
    """A careless server: its error message repeats the Authorization header."""
    return Fault(
        respond=lambda request: _json({"error": {"message": f"bad key: {request.headers['authorization']}"}}, code)
    )


def slow(seconds: float) -> Fault:
    return Fault(delay=seconds)


def prose(text: str = "I am sorry, I cannot help with that.", content_type: str = "application/json") -> Fault:
    return Fault(respond=lambda request: Response(text, media_type=content_type))


def changed(change: Callable[[Json], Json]) -> Fault:
    return Fault(change=change)


def dropped() -> Fault:
    """The connection ends in the middle of the answer."""
    return Fault(respond=lambda request: _Dropped())


def wrong_dims(dims: int) -> Fault:
    return _each_vector(lambda vector: [0.5] * dims)


def nan() -> Fault:
    return _each_vector(lambda vector: [float("nan"), *vector[1:]])


def wrong_count() -> Fault:
    """One vector fewer than asked for."""
    return changed(lambda answer: {**answer, "data": answer["data"][:-1]})


def shuffled() -> Fault:
    """Not a fault of the protocol: the items come in another order, each with its index."""
    return changed(lambda answer: {**answer, "data": answer["data"][::-1]})


def choice(**fields: Any) -> Fault:
    """Fields of the chat answer's first choice, such as finish_reason="length"."""
    return changed(lambda answer: {**answer, "choices": [{**answer["choices"][0], **fields}]})


def message(**fields: Any) -> Fault:
    """Fields of the chat answer's message, such as content=None, refusal="no"."""
    return changed(lambda answer: _with_message(answer, fields))


def _with_message(answer: Json, fields: Json) -> Json:
    first = answer["choices"][0]
    return {**answer, "choices": [{**first, "message": {**first["message"], **fields}}]}


def cut_short(characters: int) -> Fault:
    """The answer ends at the limit of its length: so many characters of it came."""

    def cut(answer: Json) -> Json:
        text = answer["choices"][0]["message"]["content"][:characters]
        answer = _with_message(answer, {"content": text})
        return {**answer, "choices": [{**answer["choices"][0], "finish_reason": "length"}]}

    return changed(cut)


def vector_of(text: str, dims: int) -> list[float]:
    """The vector the server gives for a text: length 1, the same every time."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(dims)
    return (vector / np.linalg.norm(vector)).tolist()


class OpenAIServer:
    """Runs in a thread of its own between ``__enter__`` and ``__exit__``, so any event loop may ask it."""

    key = "sk-test-3f9c1d7a"

    def __init__(self, *, dims: int = 8, chat: Chat = lambda body: "Hello.") -> None:
        self.dims = dims
        self.chat = chat
        self.refuses: frozenset[str] = frozenset()
        """What the chat endpoint answers 400 to: names of parameters, or of forms ("json_schema", "json_object")."""
        self.calls: list[Call] = []
        self.endpoints: dict[str, Endpoint] = {"/v1/embeddings": self._embeddings, CHAT: self._chat}
        self._faults: deque[Fault] = deque()
        app = Starlette(routes=[Route("/{path:path}", self._serve, methods=["POST"])])
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the test server did not start within 10 s")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    def fail_next(self, *faults: Fault) -> None:
        self._faults.extend(faults)

    def reset(self) -> None:
        self.calls.clear()
        self.refuses = frozenset()
        self._faults.clear()

    def count(self, path: str) -> int:
        return sum(call.path == path for call in self.calls)

    async def _serve(self, request: Request) -> Response:
        body = await request.json()
        self.calls.append(Call(request.url.path, body, dict(request.headers)))
        endpoint = self.endpoints.get(request.url.path)
        if endpoint is None:
            return _json({"error": {"message": f"no such endpoint: {request.url.path}"}}, 404)
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return _json({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401)
        fault = self._faults.popleft() if self._faults else Fault()
        await asyncio.sleep(fault.delay)
        if fault.respond is not None:
            return fault.respond(request)
        if refused := self._refused(body):
            return _json({"error": {"message": refused, "code": "unsupported_parameter"}}, 400)
        answer = endpoint(body)
        return _json(fault.change(answer) if fault.change else answer)

    def _embeddings(self, body: Json) -> Json:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        dims = body.get("dimensions", self.dims)
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, dims)}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}

    def _chat(self, body: Json) -> Json:
        text = self.chat(body)
        first = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        asked = sum(len(message["content"].split()) for message in body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": len(text.split())}
        return {"id": "c", "object": "chat.completion", "model": body["model"], "choices": [first], "usage": usage}

    def _refused(self, body: Json) -> str:
        if "max_tokens" in self.refuses & body.keys():
            return "Unsupported parameter: 'max_tokens' is not supported; use 'max_completion_tokens' instead."
        for name in sorted(self.refuses & body.keys()):
            return f"Unsupported value: '{name}' is not supported with this model."
        form = body.get("response_format", {}).get("type")
        return f"This response_format type is unavailable now: {form}" if form in self.refuses else ""


class _Dropped(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"data": ['})  # uvicorn closes: 990 bytes are missing


def _json(content: Json, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    # json.dumps, unlike JSONResponse, writes the NaN that some servers really send.
    return Response(json.dumps(content), code, headers, media_type="application/json")


def _each_vector(edit: Callable[[list[float]], list[float]]) -> Fault:
    return changed(
        lambda answer: {**answer, "data": [{**item, "embedding": edit(item["embedding"])} for item in answer["data"]]}
    )


MAY_PASS = [
    (status(429, "slow down"), "status 429"),
    (status(500), "status 500"),
    (status(503, "x" * 5000), "status 503"),
    (dropped(), "cannot be reached"),
]
"""Faults that another try may not meet, and what an error says of each."""
