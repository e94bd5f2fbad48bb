"""Kill -9 of a client that writes and indexes: nothing acknowledged is lost, and the indexes end as the truth."""

import pytest

from support.omnimem_killing import strike_round


@pytest.mark.parametrize("sync", ["inline", "async"])
async def test_kills_lose_nothing(records_url: str, schema: str, sync: str) -> None:
    """Five kills of one life after the other: each goes on with what the one before left."""
    acknowledged = 0
    for seed in range(5):
        outcome = await strike_round(records_url, schema, sync, seed)
        assert (outcome.lost, outcome.resurrected, outcome.differences) == (0, 0, 0), outcome
        acknowledged += outcome.acknowledged
    assert acknowledged > 20
