"""`neuromem files`, through the entry point and on a real database."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neuromem.cli.storages import open_storage
from neuromem.errors import InvalidInputError
from support.command import Outcome, command

type Run = Callable[..., Outcome]
TRIP = "# Porto\n\nThe hotel lies near the river.\n"


@pytest.fixture
def run(database_url: str, user: str, tmp_path: Path) -> Run:
    """Runs `neuromem files …` for a user of the test's own, with files kept in a folder."""
    environment = {
        "NEUROMEM_DATABASE_URL": database_url,
        "NEUROMEM_USER": user,
        "NEUROMEM_STORAGE": str(tmp_path / "store"),
    }

    def run(*arguments: str, code: int = 0) -> Outcome:
        done = command("files", *arguments, environment=environment)
        assert done.code == code, done
        return done

    return run


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("hidden")
    (folder / "porto.md").write_text(TRIP)
    (folder / "lease.txt").write_text("The rent is 900 euros.\n")
    return folder


def test_files_go_in_are_found_and_come_back(run: Run, papers: Path, tmp_path: Path) -> None:
    added = run("add", str(papers), "--tag", "2024", "--tag", "b", "--category", "trips").out.splitlines()
    assert [line.partition("  ")[2] for line in added] == [
        "lease.txt: 1 page, 1 passage",
        "porto.md: 1 page, 1 passage",
    ]
    assert run("add", str(papers / "porto.md")).out.startswith("known already ")
    listed = run("list", "--tag", "2024").out
    assert "porto.md" in listed
    assert "trips #2024 #b" in listed
    assert "hidden" not in listed

    found = run("search", "where is the hotel", "--limit", "1")
    assert "The hotel lies near the river." in found.out
    assert "porto.md" in found.out
    assert run("search", "hotel", "--in", "lease.txt", "--json").json["hits"][0]["document"]["filename"] == "lease.txt"
    assert "meaning" in run("search", "hotel", "--explain").out
    assert run("search", "hotel", "--tag", "nothing").out == "no file says anything of that\n"

    shown = run("show", "porto.md", "--json").json
    assert (shown["title"], shown["tags"], shown["versions"]) == ("Porto", ["2024", "b"], 1)
    assert run("show", shown["document_id"][:8], "--text").out == TRIP
    assert "passages" in run("show", "porto.md").out

    copy = tmp_path / "copy.md"
    assert run("get", "porto.md", "-o", str(copy)).out == f"wrote {copy} (40 B)\n"
    assert copy.read_text() == TRIP
    assert "is there already; pass --force" in run("get", "porto.md", "-o", str(copy), code=2).err
    run("get", "porto.md", "-o", str(copy), "--force")
    assert run("get", "porto.md", "--url").out.startswith("file://")


def test_what_is_said_of_files_changes_and_ends(run: Run, papers: Path) -> None:
    run("add", str(papers))
    assert run("set", "porto.md", "--tag", "x", "--metadata", '{"n": 1}').out.endswith("porto.md (general) #x\n")
    assert run("set", "porto.md", "--no-tags", "--category", "trips").out.endswith("porto.md (trips)\n")
    assert run("set", "porto.md", code=2).err.startswith("neuromem: nothing to change")
    time.sleep(0.01)
    then = datetime.now(UTC).isoformat()
    assert run("rm", "porto.md", "lease.txt").out.count("forgotten") == 2
    assert run("list").out.startswith("no files for user-")
    assert "porto.md" in run("list", "--as-of", then).out
    assert run("show", "porto.md", "--text", "--as-of", then).out.startswith("as of ")
    assert "no file is called 'porto.md'" in run("rm", "porto.md", code=1).err
    first = run("list", "--as-of", then, "--limit", "1").out.splitlines()
    assert first[-1].startswith("more: neuromem files list --cursor ")


def test_what_cannot_be_read_is_said_and_the_rest_is_stored(run: Run, papers: Path) -> None:
    (papers / "broken.pdf").write_bytes(b"not a pdf")
    (papers / "empty.txt").write_bytes(b"")
    done = run("add", str(papers), "--json", code=1)
    assert [document["filename"] for document in done.json["stored"]] == ["lease.txt", "porto.md"]
    assert {Path(path).name for path in done.json["failed"]} == {"broken.pdf", "empty.txt"}
    assert done.err.count("neuromem: ") == 2
    assert "'/no/such' is no file and no folder" in run("add", "/no/such", code=2).err


def test_without_a_storage_it_says_what_to_pass(database_url: str, user: str, papers: Path) -> None:
    environment = {"NEUROMEM_DATABASE_URL": database_url, "NEUROMEM_USER": user}
    done = command("files", "add", str(papers), environment=environment)
    assert done.code == 1
    assert "nowhere to keep files" in done.err


@pytest.mark.parametrize("name", ["s3://", "s3://bucket/folder", "s3://bucket?secret=x", "http://server/bucket"])
def test_a_storage_by_a_wrong_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match="--storage"):
        open_storage(name)


def test_a_bucket_by_its_name() -> None:
    storage = open_storage("s3://files?endpoint=http://localhost:9000&region=eu-west-1")
    assert repr(storage) == "S3Storage('http://localhost:9000', bucket='files')"
