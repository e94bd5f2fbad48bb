"""Random lives of a record answer as a dictionary does."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.omnimem_model import RecordMachine


@pytest.mark.parametrize("sync", ["inline", "async"])
def test_random_lives_agree_with_a_dictionary(records_url: str, sync: str) -> None:
    class Machine(RecordMachine):
        pass

    Machine.url, Machine.sync = records_url, sync
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=5,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.operations > 100
