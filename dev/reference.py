"""Writes docs/reference from the docstrings: `make docs`, or `python dev/reference.py`.

What is public is found, not listed: `neuromem.__all__`, the facades, the providers' `__all__`, the commands.
`missing()` names what has no docstring. Nothing is connected to, and no optional dependency imported.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from typer.main import get_command

import memground.errors
import neuromem
from memground.errors import MemoryStoreError
from neuromem import NeuroMemory, facades, providers
from neuromem.cli import app
from neuromem.facades import AsOf

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "<!-- Made from the docstrings by `make docs`; changes belong there. -->\n\n"
WIDTH = 110


class Member(NamedTuple):
    name: str
    value: Any
    owner: type


def pages() -> dict[str, str]:
    """The pages by file name."""
    made = {
        "neuromem.md": _page("NeuroMemory", "The front door: `from neuromem import NeuroMemory`.", _neuromem()),
        "facades.md": _page("Facades", "What hangs on a `NeuroMemory`, by its attribute.", _facades()),
        "types.md": _page("Types", "What goes in and comes out: frozen values with `.to_dict()`.", _classes("types")),
        "settings.md": _page("Settings", "Policies, profiles, filters and clocks.", _classes("settings")),
        "errors.md": _page("Errors", _prose(memground.errors.__doc__ or ""), _classes("errors")),
        "providers.md": _page("Providers", "Models and storage, and how to write your own.", _providers()),
        "command-line.md": _page("Command line", "Every command with its options.", _commands()),
    }
    index = [f"- [{text.splitlines()[2].removeprefix('# ')}]({name})" for name, text in made.items()]
    said = "Every public name, made from the docstrings. Where to begin is the [quickstart](../quickstart.md)."
    return {"README.md": _page("Reference", said, index), **made}


def missing() -> list[str]:
    """Public names without a docstring."""
    found = [f"neuromem.{name}" for name in neuromem.__all__ if not inspect.getdoc(getattr(neuromem, name))]
    for owner in _public_classes():
        found += [f"{owner.__name__}.{one.name}" for one in _members(owner) if not inspect.getdoc(one.value)]
    return sorted(set(found))


def _page(title: str, said: str, parts: Iterable[str]) -> str:
    text = "\n".join([f"# {title}\n", f"{said}\n", *parts])
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return NOTE + re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


# What belongs on which page


def _kind(name: str) -> str:
    value = getattr(neuromem, name)
    module = getattr(value, "__module__", "") or ""
    if inspect.isclass(value) and issubclass(value, MemoryStoreError):
        return "errors"
    if module == "neuromem._core":
        return "neuromem"
    return "types" if module.startswith("neuromem.types") or name == "MemoryType" else "settings"


def _named(kind: str) -> list[str]:
    return [name for name in neuromem.__all__ if _kind(name) == kind]


def _facade_classes() -> dict[str, type]:
    """The facades of a mind by the attribute they hang on."""
    found = {name.removesuffix("Facade").lower(): getattr(facades, name) for name in sorted(facades.__all__)}
    return {name: one for name, one in found.items() if one.__name__.endswith("Facade")}


def _provider_modules() -> Iterator[Any]:
    for module in sorted(pkgutil.iter_modules(providers.__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            loaded = importlib.import_module(f"{providers.__name__}.{module.name}")
            if hasattr(loaded, "__all__"):
                yield loaded


def _public_classes() -> Iterator[type]:
    values = [getattr(neuromem, name) for name in neuromem.__all__]
    values += _facade_classes().values()
    values += [getattr(module, name) for module in _provider_modules() for name in module.__all__]
    yield from (value for value in values if inspect.isclass(value))


# The pages


def _neuromem() -> Iterator[str]:
    yield from _class(NeuroMemory, members=False)
    reads = {one.name for one in _members(AsOf)}
    groups: dict[str, list[Member]] = {"Run": [], "Write": [], "Read": []}
    for one in _members(NeuroMemory):
        own = one.owner is NeuroMemory
        groups["Run" if own else "Read" if one.name in reads else "Write"].append(one)
    said = {
        "Run": "",
        "Write": "Also in `async with nm.transaction() as tx`: all or none.\n",
        "Read": "Also at any earlier moment: `nm.as_of(t)`.\n",
    }
    for title, found in groups.items():
        yield f"## {title}\n\n{said[title]}"
        for one in found:
            yield from _member(one)
    yield "## Functions\n"
    for name in _named("neuromem"):
        value = getattr(neuromem, name)
        if value is not NeuroMemory and inspect.isfunction(value):
            yield from _member(Member(name, value, NeuroMemory))


def _facades() -> Iterator[str]:
    for attribute, owner in _facade_classes().items():
        yield f"## nm.{attribute}\n\n{_prose(inspect.getdoc(owner) or '')}\n"
        for one in _members(owner):
            yield from _member(one)


def _classes(kind: str) -> Iterator[str]:
    for name in _named(kind):
        value = getattr(neuromem, name)
        if inspect.isclass(value):
            yield from _class(value, name)
        else:
            yield f"## {name}\n\n{_prose(inspect.getdoc(value) or '')}\n"
            yield from _alternatives(value)


def _providers() -> Iterator[str]:
    for module in _provider_modules():
        yield f"# {module.__name__}\n\n{_prose(inspect.getdoc(module) or '')}\n"
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield from _class(value)
            elif inspect.isfunction(value):
                yield from _member(Member(name, value, type(None)), level="##")


def _alternatives(value: Any) -> Iterator[str]:
    """The texts a name of a type stands for."""
    choices = getattr(getattr(value, "__value__", value), "__args__", ())
    if choices:
        yield f"One of {', '.join(f'`{choice}`' for choice in choices)}.\n"


# Classes and functions


def _class(owner: type, name: str = "", *, members: bool = True) -> Iterator[str]:
    yield f"## {name or owner.__name__}\n"
    written = "__init__" in vars(owner) and not getattr(owner, "_is_protocol", False)
    if written and not dataclasses.is_dataclass(owner) and inspect.isfunction(owner.__init__):
        yield _code(_signature(owner.__init__, owner.__name__))
    yield f"{_prose(inspect.getdoc(owner) or '')}\n"
    fields = list(_fields(owner)) if dataclasses.is_dataclass(owner) else []
    if fields:
        yield "| field | type | default | |\n|---|---|---|---|"
        for field in fields:
            yield "| " + " | ".join(field) + " |"
        yield ""
    for one in _members(owner) if members else ():
        if not (issubclass(owner, MemoryStoreError) and one.owner is not owner):
            yield from _member(one)


def _fields(owner: type) -> Iterator[tuple[str, str, str, str]]:
    said = {name: text for base in reversed(owner.__mro__) for name, text in _written(base).items()}
    for field in dataclasses.fields(owner):  # type: ignore[arg-type]
        if not field.name.startswith("_"):
            kind, default, meaning = said.get(field.name, (str(field.type), "", ""))
            yield field.name, _cell(kind), _cell(default), meaning.replace("|", "\\|")


def _cell(code: str) -> str:
    return f"`{code}`".replace("|", "\\|") if code else ""


@cache
def _written(owner: type) -> dict[str, tuple[str, str, str]]:
    """The fields of a class as its source has them: type, default, and the text below."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, tuple[str, str, str]] = {}
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            default = "" if node.value is None else ast.unparse(node.value)
            found[node.target.id] = ast.unparse(node.annotation), default, " ".join(str(text).split())
    return found


def _members(owner: type) -> list[Member]:
    """Public methods and properties, each once, the class's own first."""
    found: dict[str, Member] = {}
    for base in owner.__mro__:
        if (base.__module__ or "").startswith(("neuromem", "memground")):
            for name, value in vars(base).items():
                plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                    # Through the class, so that a docstring of the method it stands for counts.
                    found.setdefault(name, Member(name, getattr(owner, name), base))
    return list(found.values())


def _member(one: Member, *, level: str = "###") -> Iterator[str]:
    yield f"{level} {one.name}\n"
    if inspect.isroutine(one.value):
        yield _code(_signature(one.value, one.name))
    yield f"{_prose(inspect.getdoc(one.value) or '')}\n"


def _signature(function: Callable[..., Any], name: str) -> str:
    """As the source has it, without self; one parameter a line where it is long."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    positional = tree.args.posonlyargs or tree.args.args
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    start = "async " if isinstance(tree, ast.AsyncFunctionDef) else ""
    managed = any("contextmanager" in ast.unparse(decorator) for decorator in tree.decorator_list)
    start = "async with " if managed else start
    end = f" -> {ast.unparse(tree.returns)}" if tree.returns is not None and tree.name != "__init__" else ""
    line = f"{start}{name}({ast.unparse(tree.args)}){end}"
    if len(line) <= WIDTH:
        return line
    parameters = "".join(f"    {part},\n" for part in _parts(tree.args))
    return f"{start}{name}(\n{parameters}){end}"


def _parts(arguments: ast.arguments) -> Iterator[str]:
    """The parameters one by one, as source."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for parameter, default in zip(plain, defaults, strict=True):
        yield _part(parameter, default)
    if arguments.vararg is not None:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _part(parameter, default)
    if arguments.kwarg is not None:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _part(parameter: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(parameter) + ("" if default is None else f" = {ast.unparse(default)}")


def _code(text: str) -> str:
    return f"```py\n{text}\n```\n"


def _prose(text: str) -> str:
    """A docstring as Markdown: `::` becomes a fence around what is indented below it."""
    lines = inspect.cleandoc(text).splitlines()
    out: list[str] = []
    fenced = waiting = False
    for line in lines:
        if fenced and line and not line.startswith("    "):
            while out and not out[-1]:
                out.pop()
            out += ["```", ""]
            fenced = False
        if line.endswith("::"):
            waiting = True
            out.append(line[:-1] if line != "::" else "")
        elif waiting and line.startswith("    "):
            out += ["```text", line[4:]]
            waiting, fenced = False, True
        else:
            out.append(line[4:] if fenced else line)
    return "\n".join([*out, "```"] if fenced else out).strip()


# The command line


def _commands() -> Iterator[str]:
    yield "```text\nneuromem [--version] [--debug] COMMAND …\n```\n"
    yield from _command(get_command(app), "neuromem")


def _command(command: Any, name: str) -> Iterator[str]:
    nested = getattr(command, "commands", None)
    if nested:
        for word in sorted(nested):
            yield from _command(nested[word], f"{name} {word}")
        return
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    words = "".join(f" {_argument(param)}" for param in arguments)
    yield f"## {name}\n\n```text\n{name}{words}\n```\n\n{inspect.cleandoc(command.help or '')}\n"
    rows = [row for param in command.params if param.param_type_name == "option" for row in _option(param)]
    if rows:
        yield "| option | default | variable | |\n|---|---|---|---|"
        yield from rows
        yield ""


def _argument(param: Any) -> str:
    word = (param.metavar or param.name).upper() + ("…" if param.nargs == -1 else "")
    return word if param.required else f"[{word}]"


def _option(param: Any) -> Iterator[str]:
    names = ", ".join(f"`{word}`" for word in (*param.opts, *param.secondary_opts))
    default = param.default
    shown = "" if default is None or default is False or callable(default) or default == [] else f"`{default}`"
    variable = f"`{param.envvar}`" if param.envvar else ""
    if "--help" not in param.opts:
        yield f"| {names} | {shown} | {variable} | {(param.help or '').replace('|', chr(92) + '|')} |"


def main() -> None:
    if undocumented := missing():
        sys.exit(f"without a docstring: {', '.join(undocumented)}")
    made = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {FOLDER}")


if __name__ == "__main__":
    main()
