"""The READMEs' figures are those of committed results."""

from pathlib import Path

import pytest
from benchmarks.readme import READMES, filled


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_the_tables_are_the_newest_results(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    assert filled(text) == text, "run `python -m benchmarks.readme`"
