"""The README's figures are those of a committed result."""

from benchmarks.readme import README, filled, newest


def test_the_quality_table_is_the_newest_result() -> None:
    text = README.read_text()
    assert filled(text, newest("quality")) == text, "run `python -m benchmarks.readme`"
