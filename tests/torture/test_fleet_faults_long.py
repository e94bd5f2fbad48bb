"""Servers of a fleet broken in random ways, for long.

Writes `benchmarks/results/<date>-fleet-faults.json`. FLEET_ROUNDS in the environment says how many rounds (40).
"""

import os
import random
from dataclasses import asdict
from typing import Any

import pytest

from support.fleet_faults import NAMES, Breakable, Fault, Name, Outcome, endure
from support.torture_results import save

pytestmark = pytest.mark.torture


def faults_of(seed: int) -> list[tuple[tuple[Name, ...], Fault, float]]:
    """Three faults: of each server alone or two at once; a frozen one stays so for 20 s once in a round."""
    chance = random.Random(seed)
    found: list[tuple[tuple[Name, ...], Fault, float]] = []
    for number in range(3):
        names = tuple(chance.sample(NAMES, chance.choice([1, 1, 2])))
        fault: Fault = chance.choice(["stop", "kill", "freeze"])
        found.append((names, fault, 20.0 if fault == "freeze" and number == 0 else chance.uniform(1, 6)))
    return found


async def test_servers_that_break_lose_nothing() -> None:
    outcomes: dict[int, Outcome] = {}
    rounds = int(os.environ.get("FLEET_ROUNDS", "40"))
    with Breakable() as breakable:
        for seed in range(rounds):
            faults = faults_of(seed)
            outcomes[seed] = await endure(breakable, faults, sync=("inline", "async")[seed % 2], seed=seed)
            print(f"round {seed}: {faults}\n  {outcomes[seed]}", flush=True)
    save("fleet-faults", summed(outcomes))
    assert {seed: outcome for seed, outcome in outcomes.items() if outcome.losses} == {}


def summed(outcomes: dict[int, Outcome]) -> dict[str, Any]:
    sums: dict[str, Any] = {"rounds": len(outcomes)}
    for outcome in outcomes.values():
        for key, value in asdict(outcome).items():
            sums[key] = sums.get(key, 0) + (len(value) if key == "wrong" else value)
    return sums
