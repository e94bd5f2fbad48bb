"""A client does the same over every deployment, in both modes."""

from collections.abc import AsyncIterator

import pytest

from omnimem import JobPolicy, OmniMemClient
from omnimem.testing.conformance import ClientConformance, LetterEmbedding
from support.deployments import NAMES, Servers


@pytest.mark.parametrize("sync", ["inline", "async"])
@pytest.mark.parametrize("deployment", NAMES)
class TestClients(ClientConformance):
    @pytest.fixture
    async def client(self, servers: Servers, deployment: str, sync: str) -> AsyncIterator[OmniMemClient]:
        settings = servers.settings(deployment, sync=sync, jobs=JobPolicy(poll=0.05))
        async with OmniMemClient.connect(settings, embedding=LetterEmbedding()) as client:
            yield client
