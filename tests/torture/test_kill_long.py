"""Hundreds of kills; see README.md. Writes `benchmarks/results/<date>-kill.json`."""

import time
from pathlib import Path

import pytest

from memground.postgres.embedded import EmbeddedPostgres
from support.embedded import short_tmp_dir
from support.killing import Outcome, Place, State, clear, kill_postmaster, strike_round, undisturbed
from support.torture_results import save

TURNS = 2_000
PROGRAM_KILLS = 200
SERVER_KILLS = 20


@pytest.mark.torture
async def test_hundreds_of_kills() -> None:
    started = time.monotonic()
    with short_tmp_dir() as folder:
        server = await EmbeddedPostgres.open(folder / "pg")
        await server.ensure_database("kills")
        url = server.url("kills")
        expected = await undisturbed(Place(url, "kills", "undisturbed", TURNS))
        programs = await kill_programs(url, expected)
        await server.close()
        servers = await kill_servers(folder / "own", expected)
    sums = {"programs_killed": summed(programs), "servers_killed": summed(servers)}
    save("kill", {"turns_a_round": TURNS, **sums, "seconds": round(time.monotonic() - started)})
    assert [outcome for outcome in programs + servers if wrong(outcome)] == []


async def kill_programs(url: str, expected: State) -> list[Outcome]:
    """The program dies, the server lives."""
    outcomes: list[Outcome] = []
    for seed in range(PROGRAM_KILLS):
        place = Place(url, "kills", f"killed-{seed}", TURNS)
        await clear(place)
        outcomes.append(await strike_round(place, seed, expected))
        show("program", outcomes, PROGRAM_KILLS)
    return outcomes


async def kill_servers(folder: Path, expected: State) -> list[Outcome]:
    """The server dies, the program is told so."""
    outcomes: list[Outcome] = []
    for seed in range(1_000, 1_000 + SERVER_KILLS):
        place = Place(f"embedded://{folder}", "kills", f"killed-{seed}", TURNS)
        outcomes.append(await strike_round(place, seed, expected, strike=kill_postmaster(folder)))
        show("server", outcomes, SERVER_KILLS)
    return outcomes


def wrong(outcome: Outcome) -> bool:
    return bool(outcome.lost or outcome.duplicated or outcome.differing)


def show(what: str, outcomes: list[Outcome], of: int) -> None:
    last = outcomes[-1]
    print(
        f"{what} killed {len(outcomes)}/{of}: {last.acknowledged} acknowledged, {last.stored} stored, "
        f"{last.lost} lost, {last.duplicated} twice, {last.differing or 'nothing'} differs, {last.seconds} s",
        flush=True,
    )


def summed(outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "rounds": len(outcomes),
        "operations": sum(outcome.operations for outcome in outcomes),
        "acknowledged": sum(outcome.acknowledged for outcome in outcomes),
        "stored_unacknowledged": sum(outcome.stored - outcome.acknowledged for outcome in outcomes),
        "lost": sum(outcome.lost for outcome in outcomes),
        "duplicated": sum(outcome.duplicated for outcome in outcomes),
        "seeds_that_differ": {outcome.seed: outcome.differing for outcome in outcomes if outcome.differing},
    }
