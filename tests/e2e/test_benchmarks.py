"""Every benchmark runs, at a size of seconds; what it measures is not judged here, its shape is."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import latency, loading, targets
from benchmarks.__main__ import lines
from benchmarks.peer import installed
from benchmarks.results_file import newest
from benchmarks.synthetic import SyntheticEmbedding, World, near, question
from sqlalchemy import Table, select

from conftest import OpenMind
from memground.clock import ManualClock, Stamp
from memground.words import keys, words
from neuromem import NeuroMemory, NewMessage
from neuromem.types import DEFAULT_ORIGIN

ROOT = Path(__file__).parents[2]
NOW = datetime(2025, 6, 1, tzinfo=UTC)


def run(name: str, results: Path, *arguments: str | Path) -> dict[str, Any]:
    """A benchmark as people start it; gives its result."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments), "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = newest(name.replace("_", "-"), results)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def locomo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the LoCoMo form: one dialogue, three days, a question about each."""
    places = ("Oslo", "Porto", "Kyoto")
    conversation: dict[str, Any] = {"speaker_a": "Ann", "speaker_b": "Bob"}
    for day, place in enumerate(places, start=1):
        conversation[f"session_{day}_date_time"] = f"1:56 pm on {day} May, 2023"
        conversation[f"session_{day}"] = [
            {"speaker": "Ann", "dia_id": f"D{day}:1", "text": f"I am on my way to {place} by train."},
            {"speaker": "Bob", "dia_id": f"D{day}:2", "text": "Have a good journey, and write me a letter."},
        ]
    questions = [
        {"question": f"Who went to {place}?", "answer": "Ann", "category": 4, "evidence": [f"D{day}:1"]}
        for day, place in enumerate(places, start=1)
    ]
    file = tmp_path_factory.mktemp("locomo") / "dialogue.json"
    file.write_text(json.dumps([{"sample_id": "d", "conversation": conversation, "qa": questions}]))
    return file


async def test_what_is_copied_is_what_the_calls_would_have_written(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=SyntheticEmbedding(), clock=ManualClock(NOW))
    tables, world = mind._db.tables, World(mind._db.dims)
    drawn = world.draw(np.random.default_rng(1), np.arange(4))
    known = [NOW - timedelta(days=100 - place) for place in range(4)]
    turns = [
        NewMessage("user", text, moment, f"e{n}", "Ann")
        for n, (text, moment) in enumerate(zip(drawn.texts, known, strict=True))
    ]
    stamp = Stamp(NOW, DEFAULT_ORIGIN)
    rows = {"embeddings": loading.memory_rows(tables, "copied", drawn.texts, drawn.vectors, known, stamp)}
    rows |= loading.session_rows("copied", "s", turns, drawn.vectors, stamp)
    filled = [tables.embeddings.table, tables.conversations.table, tables.conversation_sessions]
    filled.append(tables.conversation_embeddings.table)
    async with loading.connect(mind) as connection:
        for table in filled:
            await loading.copy(connection, table, rows[table.name])

    for place, (text, since) in enumerate(zip(drawn.texts, known, strict=True)):
        first = f"{text} Or so." if place % loading.CHANGED == 0 else text
        values = {"metadata": {"place": place}, "importance": 1 + place, "known_at": since}
        memory = await mind.add_memory("called", first, **values)  # type: ignore[arg-type]
        if first != text:
            await mind.update_memory("called", memory.memory_id, content=text, known_at=since + (NOW - since) / 2)
    await mind.conversations.add_messages_batch("called", turns, session_id="s")
    await mind.wait_idle()

    for table in filled:
        copied, called = [await stored(mind, table, user) for user in ("copied", "called")]
        assert copied == called, table.name
        assert len(copied) == len(rows[table.name])


async def stored(mind: NeuroMemory, table: Table, user: str) -> Sequence[dict[str, Any]]:
    """A user's rows without what must differ: ids, the user, and the vectors, which only one of them chose.

    The numbers of words, which differ between users, as the words.
    """
    async with mind._db.read() as session:
        found = (await session.execute(select(table).where(table.c.user_id == user))).mappings()
        plain = [
            {name: value for name, value in row.items() if not name.endswith("id") and name != "embedding"}
            | {"session": row.get("session_id"), "external": row.get("external_id"), "words": named(row)}
            for row in found
        ]
    return sorted(plain, key=repr)


def named(row: Mapping[str, Any]) -> list[str]:
    """The words a row is found by."""
    said = words(f"{row.get('speaker', '')} {row.get('content', '')}")
    meaning = dict(zip(keys(row["user_id"], said), said, strict=True))
    return [meaning[number] for number in row.get("words", ())]


def test_synthetic_texts_have_neighbours_that_mean_something() -> None:
    world, random = World(384), np.random.default_rng(2)
    assert world.words[:3].tolist() == ["the", "of", "and"]
    assert len(set(world.words)) == len(world.words) == 30_000
    drawn = world.draw(random, np.repeat(np.arange(20), 50))
    similar = drawn.vectors @ drawn.vectors.T
    same = drawn.topics[:, None] == drawn.topics[None, :]
    np.fill_diagonal(same, False)
    assert 0.4 < similar[same].mean() < 0.8
    assert abs(similar[~same].mean()) < 0.1
    assert similar[same].std() > 0.05
    asked = near(random, drawn.vectors[7])
    assert int(np.argmax(drawn.vectors @ asked)) == 7
    shared = question(random, drawn.texts[7]).rstrip("?").split()[5:]
    assert shared
    assert all(word in drawn.texts[7].lower() for word in shared)
    again = World(384).draw(np.random.default_rng(2), np.repeat(np.arange(20), 50))
    assert (again.texts, again.vectors.tolist()) == (drawn.texts, drawn.vectors.tolist())


def test_a_shape_holds_its_big_users_within() -> None:
    shape = latency.shape_of(1_000_000)
    assert sum(shape.users.values()) == shape.memories
    assert shape.users["big-200000"] == 200_000


def test_latency(results: Path) -> None:
    found = run("latency", results, "--sizes", "300", "--queries", "4", "--seconds", "0.5")["milliseconds"]["300"]
    recall = found["settled"]["300"]["recall"]
    assert 0 < recall["p50"] <= recall["p95"]
    assert recall["round_trips"] >= 1
    exact = found["settled"]["300"]["found of exact"]
    assert set(exact) == {"now", "as of"}
    assert all(share == 1.0 for view in exact.values() for share in view.values())
    assert set(found["while writing"]) == {"search", "recall", "ingest"}
    assert set(found["floor"]) == {"round trip", "embed a query", "embed a query after a recall"}
    if installed():
        assert found["peer"]["search, 300"]["found of exact"] == 1.0


def test_ingest(results: Path) -> None:
    found = run("ingest", results, "--turns", "60", "--singles", "8")
    assert found["background"]["texts"] == 60
    assert found["background"]["own_core_ms_per_text"] is not None
    assert found["acknowledged"]["busy"]["count"] > 0


def test_startup(results: Path) -> None:
    found = run("startup", results, "--rounds", "1")
    assert found["import"]["milliseconds"] > 0
    assert found["existing database"]["first recall"] >= found["existing database"]["opened"]


def test_memory(results: Path) -> None:
    steps = run("memory", results, "--turns", "30")["megabytes"]
    assert steps["python"] < steps["neuromem imported"] < steps["model loaded"] <= steps["importing, peak"]


def test_extraction(results: Path) -> None:
    found = run("extraction", results, "--known", "30", "--rounds", "2")
    assert found["milliseconds"]["extraction"]["p50"] > 0
    assert found["round_trips"] < 60


def test_graph(results: Path) -> None:
    found = run("graph", results, "--edges", "300", "--hub", "30", "--calls", "3")
    assert (found["edges"], found["hub"]) == (300, 30)
    assert {"path, now", "path, as of", "store 30 triples"} <= found["milliseconds"].keys()


def test_erase(results: Path) -> None:
    found = run("erase", results, "--memories", "200")
    assert found["others_untouched"] is True
    assert found["erased"]["the user"]["rows"]["embeddings"] >= 190


def test_entities(results: Path) -> None:
    found = run("entities", results, "--memories", "2000", "--calls", "3")
    assert found["relations_of_hub"] == 200
    assert {"a word in 3 memories, now", "a word in 100 memories, as of", "what nobody named, now"} <= set(
        found["milliseconds"]
    )


def test_asof(results: Path, locomo: Path) -> None:
    found = run("asof", results, locomo, "--sample", "9")
    assert (found["asked"], found["moments"], found["leaks"]) == (9, 3, 0)
    assert found["same_top_10"] == 1.0


def test_quality(results: Path, locomo: Path) -> None:
    found = run("quality", results, locomo)
    assert found["overall"]["recall@5"] == 1.0
    assert set(found["by_dialogue"]) == {"d"}


def test_quality_before_and_after_learning(tmp_path: Path, locomo: Path) -> None:
    run("quality", tmp_path, locomo, "--extracted")
    found = newest("quality-extracted", tmp_path)
    assert found is not None
    assert set(found["compared"]) == {"overall", "d"}
    assert min(min(scores.values()) for scores in found["compared"].values()) >= 0.0


def test_all_figures_are_shown_beside_their_targets(results: Path) -> None:
    found = targets.figures(results)
    measured = {path.name.split("-", 3)[3].removesuffix(".json") for path in results.glob("*.json")}
    assert set(found) == measured
    shown = "\n".join(text for text, _ in lines(results))
    assert all(figure.name in shown for rows in found.values() for figure in rows)


def test_omnimem_speed(results: Path) -> None:
    found = run("omnimem_speed", results, "--sizes", "300", "--tenants", "3", "--calls", "5", "--versions", "30")
    found = found["sizes"]["300"]
    assert found["tenants"] == 3
    assert 0 < found["milliseconds"]["get"]["p50"] <= found["milliseconds"]["get"]["p95"]
    assert found["load"]["per second"] > 0
    assert ("peer" in found) == installed()
