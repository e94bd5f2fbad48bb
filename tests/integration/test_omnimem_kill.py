"""Kill -9 of a client that writes and indexes: nothing acknowledged is lost, and the indexes end as the truth."""

import pytest

from support.deployments import Servers
from support.omnimem_killing import strike_round


async def strike(servers: Servers, deployment: str, own: str, sync: str, rounds: int) -> None:
    """Kills of one life after the other: each goes on with what the one before left."""
    acknowledged = 0
    for seed in range(rounds):
        outcome = await strike_round(servers, deployment, own, sync, seed)
        assert (outcome.lost, outcome.resurrected, outcome.differences) == (0, 0, 0), outcome
        acknowledged += outcome.acknowledged
    assert acknowledged > 4 * rounds


@pytest.mark.parametrize("sync", ["inline", "async"])
async def test_kills_lose_nothing(records_url: str, schema: str, sync: str) -> None:
    await strike(Servers(records_url), "postgres", schema, sync, 5)


@pytest.mark.parametrize("sync", ["inline", "async"])
@pytest.mark.parametrize("deployment", ["mixed", "fleet"])
async def test_kills_beside_many_servers_lose_nothing(
    servers: Servers, deployment: str, schema: str, sync: str
) -> None:
    await strike(servers, deployment, schema, sync, 2)
