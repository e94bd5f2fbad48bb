"""Stands between a client and Elasticsearch: by TLS, with a login, busy, frozen, as clusters elsewhere are."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

USER, PASSWORD, API_KEY = "tenant", "s3cret", "a2V5"


@dataclass
class SearchProxy:
    """`port`: on loopback. `busy`: requests answered 429 from now on; `frozen`: none is answered."""

    upstream: str
    login: bool = False
    port: int = 0
    busy: int = 0
    frozen: bool = False
    seen: list[str] = field(default_factory=list[str])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        while self.frozen:
            await asyncio.sleep(0.05)
        accepted = ("Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode(), f"ApiKey {API_KEY}")
        headers = {"X-Elastic-Product": "Elasticsearch"}
        if self.login and request.headers.get("Authorization") not in accepted:
            return web.json_response(
                {"error": {"type": "security_exception"}, "status": 401}, status=401, headers=headers
            )
        if self.busy:
            self.busy -= 1
            return web.json_response({"error": {"type": "busy"}, "status": 429}, status=429, headers=headers)
        kept = {key: value for key, value in request.headers.items() if key in ("Content-Type", "Accept")}
        async with (
            ClientSession() as session,
            session.request(
                request.method, f"{self.upstream}{request.path_qs}", data=await request.read(), headers=kept
            ) as found,
        ):
            body = await found.read()
            return web.Response(body=body, status=found.status, headers={**headers, "Content-Type": found.content_type})


@asynccontextmanager
async def search_proxy(
    upstream: str, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncGenerator[SearchProxy]:
    proxy = SearchProxy(upstream, **options)
    app = web.Application(client_max_size=200_000_000)
    app.router.add_route("*", "/{path:.*}", proxy.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    proxy.port = runner.addresses[0][1]
    try:
        yield proxy
    finally:
        proxy.frozen = False
        await runner.cleanup()
