"""`nm.kv`."""

from collections.abc import Mapping
from typing import Any

from neuromem.facades.context import Context
from neuromem.services.kv import Entries, KVService
from neuromem.types import DEFAULT_ORIGIN, KeyValue


class KVReader:
    """Reads key-values. `scope_id` is the user's id for all user data; the profile is namespace "profile"."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, namespace: str, scope_id: str, key: str, default: Any = None) -> Any:
        """The value under a key, or `default`."""
        async with self._context.source.read() as session:
            return await KVService(session).get(namespace, scope_id, key, self._context.view(), default)

    async def list(self, namespace: str, scope_id: str, *, prefix: str = "") -> Entries:
        """The entries of a namespace by key; with `prefix`, those whose key begins with it."""
        async with self._context.source.read() as session:
            return await KVService(session).list(namespace, scope_id, self._context.view(), prefix=prefix)

    async def history(self, namespace: str, scope_id: str, key: str) -> Entries:
        """All versions of an entry, newest first."""
        async with self._context.source.read() as session:
            return await KVService(session).history(namespace, scope_id, key, self._context.view())


class KVFacade(KVReader):
    """Key-values: any JSON under (namespace, scope_id, key), every change a version."""

    async def set(
        self, namespace: str, scope_id: str, key: str, value: Any, *, origin: str = DEFAULT_ORIGIN
    ) -> KeyValue:
        """Sets a value; an equal one changes nothing."""
        async with self._context.source.session() as session:
            return await KVService(session).set(namespace, scope_id, key, value, origin=origin)

    async def batch_set(
        self, namespace: str, scope_id: str, values: Mapping[str, Any], *, origin: str = DEFAULT_ORIGIN
    ) -> Entries:
        """Sets several values, all or none."""
        async with self._context.source.session() as session:
            return await KVService(session).batch_set(namespace, scope_id, values, origin=origin)

    async def delete(self, namespace: str, scope_id: str, key: str, *, origin: str = DEFAULT_ORIGIN) -> bool:
        """Ends an entry; earlier moments still see it. Whether there was one."""
        async with self._context.source.session() as session:
            return await KVService(session).delete(namespace, scope_id, key, origin=origin)
