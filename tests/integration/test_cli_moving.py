"""`neuromem export`, `import-user`, `entity` and `timeline`, through the entry point and on a real database."""

import gzip
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromem.cli.drawing import bar
from support.command import Outcome, command

type Run = Callable[..., Outcome]


@pytest.fixture
def run(database_url: str, user: str) -> Run:
    """Runs `neuromem …` for a user of the test's own."""
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}

    def run(*arguments: str, code: int = 0, stdin: bytes = b"") -> Outcome:
        done = command(*arguments, environment=environment, stdin=stdin)
        assert done.code == code, done
        return done

    return run


def test_a_user_moves_from_one_schema_to_another(run: Run, user: str, schema: str, tmp_path: Path) -> None:
    run("add", "Anna lives in Porto")
    run("graph", "relate", "Anna", "lives in", "Porto")
    file, plain = tmp_path / "anna.jsonl.gz", tmp_path / "anna.jsonl"
    assert run("export", "--output", str(file)).out == f"4 rows for {user} are in {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    lines = gzip.decompress(file.read_bytes()).splitlines()
    assert [json.loads(lines[place])["record"] for place in (0, 1, -1)] == ["header", "row", "end"]
    done = run("export", "-o", str(plain), "--json", "--no-vectors").json
    assert done == {"file": str(plain), "records": 6, "rows": 4, "objects": 0}

    there = ("--schema", schema)
    assert run("import-user", str(file), *there).out.startswith(f"{user} is here, as of 2")
    refused = run("import-user", str(file), *there, code=1)
    assert "has memories here already" in refused.err
    taken = run("import-user", str(plain), "--as", "other", *there, code=1)
    assert "under another name" in taken.err
    before, after = run("entity", "porto", "--json").json, run("entity", "porto", "--json", *there).json
    assert before == after
    assert before["memory_count"] == before["relation_count"] == 1
    run("import-user", "-", "--as", "anna-2", "--schema", f"{schema}b", stdin=plain.read_bytes())
    assert run("stats", "--schema", f"{schema}b", "--user", "anna-2", "--json").json["memories"] == {"general": 1}


def test_files_move_with_their_user(run: Run, schema: str, tmp_path: Path) -> None:
    paper = tmp_path / "trip.md"
    paper.write_text("# Porto\n\nThe tram goes up the hill.")
    file, here, there = str(tmp_path / "x.gz"), ("--storage", str(tmp_path / "a")), ("--storage", str(tmp_path / "b"))
    run("files", "add", str(paper), *here)
    missing = run("export", "-o", file, code=1)
    assert "--no-objects" in missing.err
    assert not Path(file).exists()
    assert run("export", "-o", file, "--json", *here).json["objects"] == 1
    refused = run("import-user", file, "--schema", schema, code=1)
    assert "nowhere to keep them" in refused.err
    assert "in the storage: 1 file" in run("import-user", file, "--schema", schema, *there).out
    run("files", "get", "trip.md", "-o", str(tmp_path / "got.md"), "--schema", schema, *there)
    assert (tmp_path / "got.md").read_bytes() == paper.read_bytes()
    run("export", "-o", file, "--no-objects")
    run("import-user", file, "--schema", f"{schema}b")
    lost = run("files", "get", "trip.md", "-o", "-", "--schema", f"{schema}b", code=1)
    assert "upload the file again" in lost.err


def test_a_broken_file_is_one_line_and_nothing_is_written(run: Run, schema: str, tmp_path: Path) -> None:
    run("add", "likes tea")
    whole = tmp_path / "whole.gz"
    run("export", "-o", str(whole))
    lines = gzip.decompress(whole.read_bytes()).splitlines(keepends=True)
    for name, data, says in (
        ("empty", b"", "is empty"),
        ("prose", b"hello\n", "line 1 of"),
        ("list", b"[1]\n", "no JSON object"),
        ("cut", b"".join(lines[:-1]), "cut off"),
        ("packed", whole.read_bytes()[:-30], "cut off or damaged"),
        ("another", b'{"record": "header", "format": "mem0"}\n', "format='mem0'"),
    ):
        file = tmp_path / name
        file.write_bytes(data)
        refused = run("import-user", str(file), "--schema", schema, code=2)
        assert says in refused.err
        assert refused.err.count("\n") == 1
    assert "cannot be read" in run("import-user", str(tmp_path / "none"), code=2).err
    assert "cannot be written" in run("export", "-o", str(tmp_path / "none" / "x"), code=2).err
    assert run("stats", "--schema", schema, "--json").json["memories"] == {}


def test_an_entity_is_drawn_as_a_tree(run: Run, user: str) -> None:
    run("graph", "relate", "Anna", "lives in", "Oslo", "--subject-type", "person")
    run("graph", "relate", "Anna", "lives in", "Porto")
    run("add", "Anna likes tea")
    run("say", "Have you met Anna?")
    drawn = run("entity", "anna").out.splitlines()
    assert drawn[0] == "Anna (person)"
    assert drawn[1].startswith("├── mentioned 2")
    assert drawn[4].startswith("│   └── Anna lives in Oslo (until 2")
    del drawn[4]
    assert drawn[2:] == [
        "├── 2 relations",
        "│   ├── Anna lives in Porto",
        "├── 1 memory",
        "│   └── Anna likes tea",
        "└── 1 turn",
        "    └── user: Have you met Anna?",
    ]
    assert "the latest 1" in run("entity", "anna", "--limit", "1").out
    assert run("entity", "Zoe").out == f"nothing is known about Zoe for {user}\n"
    assert run("entity", "anna", "--as-of", "2020-01-01").out.splitlines()[1].startswith("nothing is known")


def test_a_timeline_is_drawn_in_bars_with_its_gaps(run: Run) -> None:
    for day in ("2024-05-01", "2024-05-01", "2024-05-20", "2024-05-29"):
        run("add", f"something of {day}", "--valid-from", day)
    drawn = [line.split() for line in run("timeline", "--by", "week", "--timezone", "UTC").out.splitlines()]
    assert drawn == [
        ["2024-04-29", "█" * 40, "2", "2", "general"],
        ["…", "2", "empty", "weeks"],
        ["2024-05-20", "█" * 20, "1", "1", "general"],
        ["2024-05-27", "█" * 20, "1", "1", "general"],
    ]
    assert [period["count"] for period in run("timeline", "--by", "week", "--json").json["periods"]] == [2, 1, 1]


def test_a_bar_is_as_long_as_its_count() -> None:
    assert [bar(value, 8, 1) for value in range(9)] == ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"]
    assert (bar(1, 1_000_000, 10), bar(5, 0, 10), bar(-1, 3, 10)) == ("▏", "", "")
