"""Random lives of a record answer as a dictionary does, however it is deployed."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.deployments import Servers
from support.omnimem_model import RecordMachine


def agree(servers: Servers, deployment: str, sync: str, *, workers: int, examples: int) -> None:
    class Machine(RecordMachine):
        pass

    Machine.servers, Machine.deployment, Machine.sync, Machine.workers = servers, deployment, sync, workers
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.operations > 15 * examples


@pytest.mark.parametrize("sync", ["inline", "async"])
def test_random_lives_agree_with_a_dictionary(records_url: str, sync: str) -> None:
    agree(Servers(records_url), "postgres", sync, workers=0, examples=5)


@pytest.mark.parametrize("sync", ["inline", "async"])
@pytest.mark.parametrize("deployment", ["mixed", "fleet"])
def test_random_lives_over_many_servers(servers: Servers, deployment: str, sync: str) -> None:
    agree(servers, deployment, sync, workers=1, examples=4)
