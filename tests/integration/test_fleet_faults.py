"""Servers of a fleet stop, die or freeze amid writes: nothing acknowledged is lost, the indexes end as the truth."""

from collections.abc import Iterator

import pytest

from support.fleet_faults import Breakable, Fault, Name, endure


@pytest.fixture(scope="module")
def breakable() -> Iterator[Breakable]:
    with Breakable() as servers:
        yield servers


ROUNDS: list[tuple[str, list[tuple[tuple[Name, ...], Fault, float]]]] = [
    ("async", [(("elasticsearch",), "stop", 2.0), (("kafka",), "kill", 2.0)]),
    ("inline", [(("postgres",), "kill", 2.0), (("mongodb",), "kill", 2.0)]),
    ("async", [(("postgres", "kafka"), "stop", 2.0), (("mongodb", "elasticsearch"), "freeze", 4.0)]),
]


@pytest.mark.parametrize(("number", "sync", "faults"), [(n, *given) for n, given in enumerate(ROUNDS)])
async def test_servers_that_break_lose_nothing(
    breakable: Breakable, number: int, sync: str, faults: list[tuple[tuple[Name, ...], Fault, float]]
) -> None:
    outcome = await endure(breakable, faults, sync=sync, seed=number)
    assert outcome.losses == 0, outcome
    assert outcome.operations > 20
    assert outcome.reads > 50
