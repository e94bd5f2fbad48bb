"""A connection that breaks where it hurts: before a request arrives, or after the server did what it asked for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal


class LossyProxy:
    """Stands before a server on 127.0.0.1. Requests with `words` in them are lost, `times` times."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._words = b""
        self._lost: Literal["request", "reply"] = "reply"
        self.times = 0

    def lose(self, lost: Literal["request", "reply"], words: bytes, times: int) -> None:
        """From now on: `request`, before the server has it; `reply`, after the server sent one."""
        self._lost, self._words, self.times = lost, words, times

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end is gone or something is lost."""
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        losing = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(1 << 16):
                if self.times > 0 and self._words in data:
                    self.times -= 1
                    if self._lost == "request":
                        return
                    losing.set()
                to_server.write(data)
                await to_server.drain()

        async def back() -> None:
            while data := await from_server.read(1 << 16):
                if losing.is_set():
                    return
                writer.write(data)
                await writer.drain()

        pumps = [asyncio.ensure_future(there()), asyncio.ensure_future(back())]
        with suppress(OSError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, to_server):
            end.close()


@asynccontextmanager
async def lossy_proxy(server_port: int) -> AsyncGenerator[LossyProxy]:
    proxy = LossyProxy(server_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
