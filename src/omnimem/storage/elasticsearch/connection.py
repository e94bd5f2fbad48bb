"""The opened server: its client, its errors as ours, bounded retries, bulk writes."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticsearch import ApiError, AsyncElasticsearch, TransportError

from memground.errors import ConfigurationError, UnavailableError
from omnimem.storage.elasticsearch.documents import encoded
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings

ATTEMPTS = 4
"""Times a request is made that the server has no room for."""
_PAUSE = 0.2
"""Seconds before the second attempt, twice as many before each further one."""
_BUSY = frozenset({429, 502, 503, 504})
_BULK_BYTES = 5_000_000
_BULK_ITEMS = 1_000
_OLDEST = (8, 10)


class MissingIndexError(UnavailableError):
    """There is no such index, or it stands behind another alias by now."""


@dataclass(frozen=True, eq=False)
class Write:
    """One document's write: `action` "index", "create" or "delete", its options, and the document."""

    action: str
    index: str
    id: str
    options: Mapping[str, Any]
    document: bytes | None = None

    @property
    def lines(self) -> list[bytes]:
        head = encoded({self.action: {"_index": self.index, "_id": self.id, "require_alias": True, **self.options}})
        return [head] if self.document is None else [head, self.document]


@dataclass(frozen=True)
class Refusal:
    """A write that was not done: the answer's status, and why."""

    write: Write
    status: int
    kind: str
    reason: str


class Connection:
    """One Elasticsearch cluster. Every method raises UnavailableError while it cannot be reached or has no room."""

    def __init__(self, settings: ElasticsearchSettings) -> None:
        self.settings = settings
        self._client: AsyncElasticsearch | None = None
        self._prepared = False
        self._preparer: asyncio.Task[Any] | None = None
        self._preparing = asyncio.Lock()
        self.version = ""
        self.prepare: Callable[[], Awaitable[None]] | None = None
        """What is done once, before the first request that reaches the cluster."""

    def open(self) -> None:
        """Makes the client; nothing is sent yet. Raises ConfigurationError for an address or a file that is none."""
        settings = self.settings
        nodes = settings.addresses
        options: dict[str, Any] = {"ca_certs": settings.ca_certs} if settings.ca_certs else {}
        try:
            self._client = AsyncElasticsearch(
                nodes,
                basic_auth=None if settings.api_key else settings.login,
                api_key=settings.api_key,
                request_timeout=settings.timeout,
                max_retries=len(nodes) - 1,  # on another node; what is busy is asked again by us, after a pause
                retry_on_status=(),
                **options,
            )
        except (ValueError, OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"Elasticsearch at {settings.location} cannot be used: {error}") from error

    async def ready(self) -> None:
        """Looks who is there, and prepares what the requests need, unless that was done.

        Raises ConfigurationError for a server that is too old or refuses us.
        """
        if self._prepared or asyncio.current_task() is self._preparer:
            return
        async with self._preparing:
            if self._prepared:
                return
            self._preparer = asyncio.current_task()
            try:
                info = await self.run(lambda client: client.info())
                self.version = str(info["version"]["number"])
                if tuple(map(int, self.version.split(".")[:2])) < _OLDEST:
                    raise ConfigurationError(
                        f"Elasticsearch at {self.settings.location} is {self.version}; omnimem needs 8.10 or newer"
                    )
                if self.prepare is not None:
                    await self.prepare()
                self._prepared = True
            finally:
                self._preparer = None

    async def close(self) -> None:
        client, self._client, self._prepared = self._client, None, False
        if client is not None:
            await client.close()

    async def run(self, request: Callable[[AsyncElasticsearch], Awaitable[Any]]) -> Any:
        """The body of the answer to a request; a server that has no room is asked again, a few times."""
        if self._client is None:
            raise ConfigurationError("Elasticsearch is not open; open the storage first")
        await self.ready()
        for attempt in range(ATTEMPTS):
            try:
                return (await request(self._client)).body
            except ApiError as error:
                if error.status_code not in _BUSY:
                    raise self._refused(error) from error
                if attempt == ATTEMPTS - 1:
                    raise self._unavailable(f"it answers {error.status_code} ({error.message})") from error
            except TransportError as error:
                raise self._unreachable(error) from error
            await asyncio.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def search(self, index: str, query: Mapping[str, Any], **options: Any) -> list[dict[str, Any]]:
        """The hits of a query, without their sources."""
        answer = await self.run(
            lambda client: client.search(index=index, query=query, source=False, track_total_hits=False, **options)
        )
        return answer["hits"]["hits"]

    async def bulk(self, writes: Sequence[Write], *, refresh: bool) -> list[Refusal]:
        """Does the writes, in requests of bounded size; returns those that were refused. `refresh`: found at once."""
        refused: list[Refusal] = []
        for part in _parts(writes):
            waiting = part
            for attempt in range(ATTEMPTS):
                failed = await self._bulk(waiting, refresh)
                refused += [failure for failure in failed if failure.status not in _BUSY]
                busy = [failure for failure in failed if failure.status in _BUSY]
                if not busy:
                    break
                if attempt == ATTEMPTS - 1:
                    raise self._unavailable(f"it refuses writes: {busy[0].reason}")
                waiting = [failure.write for failure in busy]
                await asyncio.sleep(_PAUSE * 2**attempt)
        return refused

    async def _bulk(self, writes: Sequence[Write], refresh: bool) -> list[Refusal]:
        lines: Any = [line for write in writes for line in write.lines]  # the client takes lines as they are
        answer = await self.run(
            lambda client: client.bulk(
                operations=lines, refresh=refresh, filter_path="errors,items.*.status,items.*.error"
            )
        )
        if not answer["errors"]:
            return []
        failed: list[Refusal] = []
        for write, item in zip(writes, answer["items"], strict=True):
            result = next(iter(item.values()))
            if "error" in result:
                why = result["error"]
                failed.append(Refusal(write, result["status"], str(why.get("type")), str(why.get("reason"))[:500]))
        return failed

    def missing(self, what: str) -> MissingIndexError:
        return MissingIndexError(
            f"Elasticsearch at {self.settings.location} has no index {what}; open the storage again, which makes it, "
            "and repair"
        )

    def _refused(self, error: Any) -> ConfigurationError | MissingIndexError:
        if error.status_code == 404 and error.message == "index_not_found_exception":
            return self.missing(str(error.body["error"].get("index")))
        what = "the login" if error.status_code in (401, 403) else "a request"
        return ConfigurationError(
            f"Elasticsearch at {self.settings.location} refused {what}: {error.status_code} {str(error)[:500]}"
        )

    def _unreachable(self, error: Any) -> ConfigurationError | UnavailableError:
        if "certificate_verify_failed" in f"{error.message} {error.errors}".lower():
            return ConfigurationError(
                f"the certificate of Elasticsearch at {self.settings.location} is not trusted; ca_certs names the file "
                "of who signed it"
            )
        return self._unavailable(f"{type(error).__name__}: {error.message}")

    def _unavailable(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"Elasticsearch at {self.settings.location} cannot be reached: {why[:500]}; check that it runs and that "
            "the address is right"
        )


def _parts(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """The writes in their order, as many at once as a request should carry."""
    part: list[Write] = []
    size = 0
    for write in writes:
        weight = sum(map(len, write.lines)) if write.document is not None else 200
        if part and (size + weight > _BULK_BYTES or len(part) >= _BULK_ITEMS):
            yield part
            part, size = [], 0
        part.append(write)
        size += weight
    if part:
        yield part
