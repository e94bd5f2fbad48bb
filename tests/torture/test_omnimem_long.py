"""The model and the kill rounds of omnimem, for long."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.omnimem_killing import strike_round
from support.omnimem_model import RecordMachine

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("sync", ["inline", "async"])
def test_twenty_thousand_operations_agree_with_a_dictionary(records_url: str, sync: str) -> None:
    class Machine(RecordMachine):
        pass

    Machine.url, Machine.sync = records_url, sync
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
async def test_a_kill_loses_nothing(records_url: str, schema: str, seed: int) -> None:
    outcome = await strike_round(records_url, schema, ("inline", "async")[seed % 2], seed)
    assert (outcome.lost, outcome.resurrected, outcome.differences) == (0, 0, 0), outcome
