"""The two indexes behind their aliases: made when they are missing, made anew beside and switched.

`omnimem-memories` has one document for each memory, the latest record or a tombstone; `omnimem-history` the records
that were superseded. While they are made anew, `omnimem-memories-next` and `omnimem-history-next` stand for the new
ones, and whoever writes, in whichever program, writes to both. Writes name aliases and demand that they are such:
Elasticsearch never makes an index by itself because of one.
"""

import logging
import re
from typing import Any

from memground.errors import ConfigurationError
from omnimem.storage.elasticsearch.connection import Connection
from omnimem.storage.elasticsearch.mapping import MAPPING_VERSION, index_settings, mappings

_log = logging.getLogger("omnimem.elasticsearch")
_NEXT = "-next"
_NUMBERED = re.compile(r"-v(\d+)(?:-(\d+))?$")


class Indexes:
    """Names of the indexes of one prefix, and their lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        prefix = connection.settings.prefix
        self.memories, self.history = f"{prefix}-memories", f"{prefix}-history"

    @property
    def both(self) -> str:
        """Both, for reading."""
        return f"{self.memories},{self.history}"

    async def ensure(self) -> None:
        """Makes what is missing. Raises ConfigurationError for indexes of a newer omnimem."""
        for alias in (self.memories, self.history):
            if await self._behind(alias) is None:
                await self._create(f"{alias}-v{MAPPING_VERSION}", alias)
            version = await self._mapping_version(alias)
            if version > MAPPING_VERSION:
                raise ConfigurationError(
                    f"the index {alias} at {self._connection.settings.location} was made by a newer omnimem (mapping "
                    f"{version}, this one knows {MAPPING_VERSION}); use the newer one, or another prefix"
                )
            if version < MAPPING_VERSION:
                _log.warning("the index %s has mapping %d of %d; rebuild it", alias, version, MAPPING_VERSION)

    async def drop(self) -> None:
        """Deletes both indexes, and those being made."""
        for alias in (self.memories, self.history):
            for name in (alias, alias + _NEXT):
                if (index := await self._behind(name)) is not None:
                    await self._connection.run(
                        lambda client, index=index: client.indices.delete(index=index, ignore_unavailable=True)
                    )

    async def written(self) -> list[str]:
        """What follows the names of the indexes that a write goes to, in this order: "-next" while there are such, "".

        So a write that meets the switch is in the new index in any case: under the one name or under the other.
        """
        return [_NEXT, ""] if await self.building() else [""]

    async def building(self) -> bool:
        """Whether the indexes are being made anew."""
        name = self.memories + _NEXT
        return await self._connection.run(lambda client: client.indices.exists_alias(name=name))

    async def refresh(self, which: str) -> None:
        """Makes all that was written findable."""
        await self._connection.run(lambda client: client.indices.refresh(index=which))

    # ---------------------------------------------------------------- made anew

    async def begin(self) -> None:
        """Makes the new indexes beside those in use, or goes on with those that a broken-off rebuild left."""
        # The history first: who finds the new memories writes to both.
        for alias in (self.history, self.memories):
            if await self._behind(alias + _NEXT) is None:
                current = await self._behind(alias)
                if current is None:
                    raise self._connection.missing(alias)
                await self._create(_following(alias, current), alias + _NEXT)

    async def switch(self) -> None:
        """Puts the new indexes in the place of the old ones, which are deleted, in one step."""
        actions: list[dict[str, Any]] = []
        for alias in (self.memories, self.history):
            old, new = await self._behind(alias), await self._behind(alias + _NEXT)
            if new is None:
                return  # somebody else's rebuild was as far, and switched
            actions += [{"add": {"index": new, "alias": alias}}, {"remove": {"index": new, "alias": alias + _NEXT}}]
            actions += [{"remove_index": {"index": old}}] if old is not None else []
        await self._connection.run(lambda client: client.indices.update_aliases(actions=actions))

    async def abandon(self) -> bool:
        """Deletes indexes that a rebuild began and will not end; whether there were any."""
        there = False
        for alias in (self.memories, self.history):
            if (index := await self._behind(alias + _NEXT)) is not None:
                there = True
                await self._connection.run(
                    lambda client, index=index: client.indices.delete(index=index, ignore_unavailable=True)
                )
        return there

    @property
    def next(self) -> str:
        """What follows the name of an index that is being made."""
        return _NEXT

    # ---------------------------------------------------------------- facts

    async def about(self) -> dict[str, str]:
        """What an operator asks: how many documents there are and how large they are."""
        names = self.both
        stats = await self._connection.run(
            lambda client: client.indices.stats(index=names, metric="docs,store", filter_path="indices.*.total")
        )
        found: dict[str, str] = {}
        for alias in (self.memories, self.history):
            index = await self._behind(alias)
            total = stats.get("indices", {}).get(index, {}).get("total", {})
            count = await self._connection.run(lambda client, alias=alias: client.count(index=alias))
            size = total.get("store", {}).get("size_in_bytes", 0) / 1_048_576
            found[alias] = f"{index}: {count['count']:,} documents, {size:,.1f} MiB"
        if await self.building():
            found["rebuild"] = "going on, or broken off: run it again, or abandon it"
        return found

    async def _behind(self, alias: str) -> str | None:
        found = await self._connection.run(
            lambda client: client.options(ignore_status=404).indices.get_alias(name=alias)
        )
        return next((index for index in found if index not in ("error", "status")), None)

    async def _mapping_version(self, alias: str) -> int:
        found = await self._connection.run(
            lambda client: client.indices.get_mapping(index=alias, filter_path="*.mappings._meta")
        )
        for index in found.values():
            return int(index["mappings"]["_meta"].get("omnimem_mapping", 0))
        raise ConfigurationError(
            f"the index {alias} at {self._connection.settings.location} is not omnimem's; use another prefix"
        )

    async def _create(self, index: str, alias: str) -> None:
        settings, mapping = index_settings(self._connection.settings), mappings()
        answer = await self._connection.run(
            lambda client: client.options(ignore_status=400).indices.create(
                index=index, settings=settings, mappings=mapping, aliases={alias: {}}
            )
        )
        error = answer.get("error")
        # Two that open at once make the same index; one of them is told that it is there.
        if error and error.get("type") != "resource_already_exists_exception":
            raise ConfigurationError(
                f"Elasticsearch at {self._connection.settings.location} cannot make the index {index}: "
                f"{str(error.get('reason'))[:500]}"
            )
        if await self._behind(alias) is None:
            raise ConfigurationError(
                f"the index {index} at {self._connection.settings.location} is there without its alias {alias}; "
                "delete it, or use another prefix"
            )


def _following(alias: str, current: str) -> str:
    """The name of the index made after `current`; whoever makes one comes to the same name."""
    found = _NUMBERED.search(current)
    version, number = (int(found[1]), int(found[2] or 1)) if found else (0, 1)
    return f"{alias}-v{MAPPING_VERSION}" + (f"-{number + 1}" if version == MAPPING_VERSION else "")
