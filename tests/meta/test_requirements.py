"""The pinned requirements are what pyproject.toml asks for, and name no place to get them from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
DEMO = [*PROJECT["project"]["dependencies"], *EXTRAS["embedded"], *EXTRAS["onnx"], *EXTRAS["openai"], *GROUPS["build"]]
FLEET = [*EXTRAS["mongodb"], *EXTRAS["elasticsearch"], *EXTRAS["kafka"]]
DEV = [*DEMO, *EXTRAS["s3"], *EXTRAS["schema"], *FLEET, *GROUPS["dev"]]
WANTED = {"demo": DEMO, "dev": DEV, "bench": [*DEV, *GROUPS["bench"]]}


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.MULTILINE))


@pytest.mark.parametrize("name", WANTED)
def test_what_is_asked_for_is_pinned(name: str) -> None:
    pinned = pins(name)
    wanted = [Requirement(line) for line in WANTED[name]]
    wrong = [str(r) for r in wanted if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "0"))]
    assert wrong == [], "run: make lock"


def test_the_development_requirements_include_the_others() -> None:
    assert pins("demo").items() <= pins("dev").items()
    assert pins("dev").items() <= pins("bench").items()


@pytest.mark.parametrize("name", WANTED)
def test_lines_are_pins_with_hashes_and_nothing_else(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    form = re.compile(r"#.*|[a-z0-9-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if line and not form.fullmatch(line)] == []
    assert [line for line in lines if line.startswith("#") and ("/" in line or "@" in line)] == []
