"""`neuromem graph`, through the entry point and on a real database."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from support.command import Outcome, command

type Run = Callable[..., Outcome]


@pytest.fixture
def run(database_url: str, user: str) -> Run:
    """Runs `neuromem graph …` for a user of the test's own."""
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}

    def run(*arguments: str, code: int = 0) -> Outcome:
        done = command("graph", *arguments, environment=environment)
        assert done.code == code, done
        return done

    return run


def test_what_was_related_is_shown_now_and_as_of_any_moment(run: Run) -> None:
    run("relate", "Anna", "lives in", "Oslo", "--subject-type", "person", "--object-type", "place")
    time.sleep(0.01)
    then = datetime.now(UTC).isoformat()
    done = run("relate", "anna", "livesIn", "New_York", "--origin", "notes")
    assert done.out.startswith("noted: anna lives in new york\nended: anna lives in oslo (until 2")
    assert run("relate", "ANNA", "lives-in", "new york").out == "known already: anna lives in new york\n"
    run("relate", "New York", "located in", "USA")

    assert run("neighbors", "Anna").out.splitlines()[:2] == ["Anna (person)", "├── lives in → New_York (entity)"]
    assert "Oslo (place) until 2" in run("neighbors", "anna").out
    past = run("neighbors", "anna", "--as-of", then).out.splitlines()
    assert past[0].startswith("as of 2")
    assert past[1:] == ["Anna (person)", "└── lives in → Oslo (place)"]
    assert (
        run("neighbors", "anna", "--valid-at", then, "--relation", "lives in", "--json").json["neighbors"][0]["name"]
        == "Oslo"
    )

    way = ["anna (person)", "└── lives in → new york (entity)", "    └── located in → usa (entity)"]
    assert run("path", "anna", "usa").out.splitlines() == way
    assert run("path", "anna", "usa", "--depth", "1").out == "no way from anna to usa in 1 step\n"
    assert run("path", "anna", "usa", "--json").json["complete"] is True
    facts = run("facts", "does Anna live in Oslo?").out.splitlines()
    assert facts[0] == "Anna (person)"
    assert facts[-1].startswith("└── lives in ")
    assert [fact["named"] for fact in run("facts", "Anna in Oslo", "--json").json["facts"]] == [2, 1]
    assert run("facts", "anything else").out.startswith("nothing is known about what that names")

    assert [line.split()[0] for line in run("list").out.splitlines()] == ["Anna", "New_York", "Oslo", "USA"]
    first = run("list", "--limit", "1").out.splitlines()
    assert run("list", "--limit", "1", "--cursor", first[1].split()[5]).out.startswith("New_York")


def test_what_is_not_there_is_said(run: Run) -> None:
    assert run("list").out.startswith("nothing in the graph for user-")
    assert "nothing goes by 'Anna' in the graph" in run("neighbors", "Anna", code=1).err
    assert run("path", "Anna", "Ben").out == "no way from Anna to Ben in 4 steps\n"
    assert "confidence" not in run("relate", "Anna", "->", "Ben", code=2).err
    assert "max_depth=99" in run("path", "Anna", "Ben", "--depth", "99", code=2).err


def test_names_cannot_move_the_cursor(run: Run) -> None:
    run("relate", "An\x1b[2Jna", "likes", "[bold]tea[/bold]")
    for shown in (run("list").out, run("facts", "[bold]tea[/bold]").out, run("neighbors", "[bold]tea[/bold]").out):
        assert "\x1b" not in shown
        assert "[bold]tea[/bold]" in shown
