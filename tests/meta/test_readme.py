"""The READMEs' figures are those of committed results, and both say the same."""

import re
from pathlib import Path

import pytest
from benchmarks.readme import READMES, filled


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_the_tables_are_the_newest_results(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    assert filled(text) == text, "run `python -m benchmarks.readme`"


def test_both_languages_tell_the_same() -> None:
    """Section by section: as many examples, rows of tables and points, and the same links."""
    english, chinese = (readme.read_text(encoding="utf-8").split("\n## ") for readme in READMES)
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        forms = [
            [len(re.findall(form, text, re.MULTILINE)) for form in (r"^```", r"^\|", r"^- ")] for text in (one, other)
        ]
        assert forms[0] == forms[1], one.splitlines()[0]
        links = [set(re.findall(r"\]\(([^)]*)\)", text)) - {"README.md", "README.zh-CN.md"} for text in (one, other)]
        assert links[0] == links[1], one.splitlines()[0]
