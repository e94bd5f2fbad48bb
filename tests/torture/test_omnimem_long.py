"""The model and the kill rounds of omnimem, for long; see README.md.

Writes `benchmarks/results/<date>-omnimem-model.json` and `…-omnimem-kill.json`. OMNIMEM_OPERATIONS (20,000) and
OMNIMEM_KILLS (200) in the environment say how many of them each deployment gets.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.deployments import NAMES, Servers
from support.omnimem_killing import Outcome, strike_round
from support.omnimem_model import RecordMachine
from support.torture_results import save

pytestmark = pytest.mark.torture

OPERATIONS = int(os.environ.get("OMNIMEM_OPERATIONS", "20000"))
KILLS = int(os.environ.get("OMNIMEM_KILLS", "200"))
_LIVES = 10
"""Kills of one life after the other before everything begins anew."""
SYNC = ("inline", "async")

type Figures = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def model_figures() -> Iterator[Figures]:
    found: Figures = {}
    yield found
    save("omnimem-model", found)


@pytest.fixture(scope="module")
def kill_figures() -> Iterator[Figures]:
    found: Figures = {}
    yield found
    save("omnimem-kill", found)


@pytest.mark.parametrize("sync", SYNC)
@pytest.mark.parametrize("deployment", NAMES)
def test_thousands_of_operations_agree_with_a_dictionary(
    servers: Servers, deployment: str, sync: str, model_figures: Figures
) -> None:
    class Machine(RecordMachine):
        pass

    Machine.servers, Machine.deployment, Machine.sync, Machine.workers = servers, deployment, sync, 1
    begun = time.monotonic()
    figures = model_figures[f"{deployment}, {sync}"] = {"operations": 0, "differences": "found"}
    while Machine.operations < OPERATIONS // len(SYNC):
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=10,
                stateful_step_count=100,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        print(f"{deployment}, {sync}: {Machine.operations} operations, no difference", flush=True)
        figures |= {"operations": Machine.operations}
    figures |= {"differences": 0, "seconds": round(time.monotonic() - begun)}


@pytest.mark.parametrize("sync", SYNC)
@pytest.mark.parametrize("deployment", NAMES)
async def test_kills_lose_nothing(servers: Servers, deployment: str, sync: str, kill_figures: Figures) -> None:
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    for seed in range(KILLS // len(SYNC)):
        own = f"killed_{deployment}_{sync}_{seed // _LIVES}"
        outcomes.append(await strike_round(servers, deployment, own, sync, seed))
        print(f"{deployment}, {sync}, kill {seed + 1}: {outcomes[-1]}", flush=True)
    figures = kill_figures[f"{deployment}, {sync}"] = {
        "kills": len(outcomes),
        "acknowledged": sum(outcome.acknowledged for outcome in outcomes),
        "lost": sum(outcome.lost for outcome in outcomes),
        "resurrected": sum(outcome.resurrected for outcome in outcomes),
        "differences": sum(outcome.differences for outcome in outcomes),
        "seconds": round(time.monotonic() - begun),
    }
    assert (figures["lost"], figures["resurrected"], figures["differences"]) == (0, 0, 0)
