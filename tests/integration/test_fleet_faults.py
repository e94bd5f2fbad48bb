"""Servers of a fleet stop, die or freeze amid writes: nothing acknowledged is lost, the indexes end as the truth."""

from support.fleet_faults import Breakable, Fault, Name, endure

ROUNDS: list[tuple[str, list[tuple[tuple[Name, ...], Fault, float]]]] = [
    ("async", [(("elasticsearch",), "stop", 2.0), (("kafka",), "kill", 2.0)]),
    ("inline", [(("postgres",), "kill", 2.0), (("mongodb",), "kill", 2.0)]),
    ("async", [(("postgres", "kafka"), "stop", 2.0), (("mongodb", "elasticsearch"), "freeze", 4.0)]),
]


async def test_servers_that_break_lose_nothing() -> None:
    """One after the other: four servers take as long to start as a round."""
    with Breakable() as breakable:
        for number, (sync, faults) in enumerate(ROUNDS):
            outcome = await endure(breakable, faults, sync=sync, seed=number, pause=3.0)
            assert outcome.losses == 0, (sync, faults, outcome)
            assert outcome.operations > 20
            assert outcome.reads > 50
