"""The model and the kill rounds of omnimem, for long."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.deployments import NAMES, Servers
from support.omnimem_killing import strike_round
from support.omnimem_model import RecordMachine

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("sync", ["inline", "async"])
@pytest.mark.parametrize("deployment", NAMES)
def test_twenty_thousand_operations_agree_with_a_dictionary(servers: Servers, deployment: str, sync: str) -> None:
    class Machine(RecordMachine):
        pass

    Machine.servers, Machine.deployment, Machine.sync, Machine.workers = servers, deployment, sync, 1
    while Machine.operations < 10_000:
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


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("deployment", NAMES)
async def test_a_kill_loses_nothing(servers: Servers, deployment: str, schema: str, seed: int) -> None:
    outcome = await strike_round(servers, deployment, schema, ("inline", "async")[seed % 2], seed)
    assert (outcome.lost, outcome.resurrected, outcome.differences) == (0, 0, 0), outcome
