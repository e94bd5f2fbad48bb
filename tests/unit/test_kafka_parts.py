"""The parts of the Kafka queue that need no broker: how far a partition got, and how changes are written."""

import string
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from omnimem.storage.base import Change
from omnimem.storage.kafka.cluster import Cluster
from omnimem.storage.kafka.messages import Stamps, Trial, change_key, change_value, read_change, read_trial
from omnimem.storage.kafka.progress import Part
from omnimem.storage.settings.kafka import KafkaSettings

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
any_change = st.one_of(
    st.builds(Change, st.just("put"), names, names), st.builds(Change, st.just("delete"), names, st.none())
)


@given(st.lists(st.tuples(st.sampled_from(["came", "passed", "done", "commit"]), st.integers(0, 5)), max_size=60))
def test_the_watermark_is_below_all_that_is_not_done(steps: list[tuple[str, int]]) -> None:
    """Against a model: every offset is open or done, and gaps (what a topic no longer has) are passed over."""
    part, came, done, position = Part("t", 0), list[int](), set[int](), 0
    assert part.watermark() is None
    for step, number in steps:
        open_ = [offset for offset in came if offset not in done]
        if step == "came":
            position += number  # a gap
            part.came(position)
            came.append(position)
            position += 1
        elif step == "passed":
            position += number
            part.passed(position)
        elif step == "done" and open_:
            part.done(open_[number % len(open_)])
            done.add(open_[number % len(open_)])
        elif step == "commit" and open_:
            besides = set(open_[: number + 1])
            rest = [offset for offset in open_ if offset not in besides]
            assert part.watermark(besides) == (rest[0] if rest else position)
        left = [offset for offset in came if offset not in done]
        assert part.open == len(left)
        if part.position is not None:
            assert part.watermark() == (left[0] if left else position)


@given(any_change, st.integers(0, 2**62))
def test_a_change_is_read_back_as_it_was_written(change: Change, recorded: int) -> None:
    assert read_change(change_value(change, recorded)) == (change, recorded)


@given(any_change, any_change)
def test_two_changes_have_two_keys(one: Change, other: Change) -> None:
    assert (change_key(one) == change_key(other)) == (one == other)


@given(st.binary(max_size=200) | st.text(string.printable, max_size=60).map(str.encode))
def test_what_is_no_change_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="no change"):
        read_change(value)


@given(st.integers(0, 99), st.floats(0, 4e9), st.text(max_size=3_000))
def test_how_a_change_fared_is_read_back(attempts: int, not_before: float, error: str) -> None:
    trial = Trial(attempts, not_before, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), error)
    read = read_trial(Message(headers=trial.headers(), timestamp=(1, 0)))
    assert (read.attempts, read.failed_at) == (attempts, trial.failed_at)
    assert abs(read.not_before - not_before) < 0.002
    assert read.error == error[:2_000].encode(errors="replace").decode()


def test_headers_of_others_do_no_harm() -> None:
    read = read_trial(Message(headers=[("attempts", b"many"), ("failed-at", b"soon")], timestamp=(1, 5_000)))
    assert (read.attempts, read.not_before, read.error) == (0, 0.0, "")
    assert read.failed_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


def test_stamps_only_go_up() -> None:
    stamps = Stamps()
    made = [stamps.next() for _ in range(10_000)]
    assert made == sorted(set(made))


@pytest.mark.parametrize("cause", [KafkaError._SSL, KafkaError._AUTHENTICATION, KafkaError._RESOLVE])
def test_that_all_brokers_are_down_hides_no_cause(cause: int) -> None:
    cluster = Cluster(KafkaSettings("localhost:1"))
    for code, said in ((cause, "the cause"), (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")):
        cluster.trouble(KafkaError(code, said))
    assert "the cause" in str(cluster.error("asking", KafkaError(KafkaError._TIMED_OUT)))
