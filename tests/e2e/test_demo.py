"""The demo's history, and LoCoMo files: imported once, answered now and as of then."""

import json
from pathlib import Path

import pytest
from benchmarks.quality import measure

from conftest import OpenMind
from memground.embedding import LocalEmbedding
from memground.errors import InvalidInputError
from neuromem import LLMCall, LocalStorage
from neuromem.demo.learned import BEFORE_THE_MOVE, USER, Learned
from neuromem.demo.learning import SCRIPT, language_model, learned_turns, scripted_model
from neuromem.demo.sample import Sample
from neuromem.demo.whole import Whole
from neuromem.importers import locomo
from support.openai_server import OpenAIServer, status

LOCOMO = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "locomo-dev.json"


async def test_answers_change_with_the_moment_they_are_asked_for(
    open_mind: OpenMind, embedding: LocalEmbedding
) -> None:
    mind, history = await open_mind(embedding=embedding), Sample()
    first, again = await history.load(mind), await history.load(mind)
    assert (first.messages > 40, first.memories) == (True, 7)
    assert (again.messages, again.memories) == (0, 0)
    answers = {
        question.ask: [
            (await mind.recall(history.user, question.ask, as_of=moment)).merged[0].content
            for moment in (None, question.earlier)
        ]
        for question in history.questions
    }
    expected = [
        ("Porto", "Oslo"),
        ("own bakery", "a bakery"),
        ("绿茶", "黑咖啡"),
        ("21 May", "14 May"),
        ("ZX-9917",) * 2,
    ]
    for (ask, (now, then)), (word_now, word_then) in zip(answers.items(), expected, strict=True):
        assert word_now in now, ask
        assert word_then in then, ask


async def test_what_a_model_learns_is_asked_along_its_relations(
    open_mind: OpenMind, embedding: LocalEmbedding, capsys: pytest.CaptureFixture[str]
) -> None:
    history, calls = Sample(), list[LLMCall]()
    mind = await open_mind(
        embedding=embedding, llm=scripted_model(history), auto_extract=False, on_llm_call=calls.append
    )
    learned = Learned(mind, history)
    await learned.learn()
    assert len(calls) == len(history.sessions())
    found = await mind.extraction_status(USER)
    assert (found.extracted > 40, found.pending, found.failed) == (True, 0, 0)
    await learned.learn()
    assert len(calls) == len(history.sessions()), "a second time there is nothing left to learn"
    cities = await mind.kv.history("profile", USER, "wei_city")
    assert [entry.value for entry in cities] == ["Porto", "Oslo"]

    question = "Where does Wei live?"
    for moment, home in ((None, "Porto"), (BEFORE_THE_MOVE, "Oslo")):
        assert home in (await mind.recall(USER, question, as_of=moment)).merged[0].content
    for graph, valid_at in ((mind.as_of(BEFORE_THE_MOVE).graph, None), (mind.graph, BEFORE_THE_MOVE)):
        homes = await graph.get_neighbors(USER, None, "Wei", edge_types=["lives_in"], valid_at=valid_at)
        assert [home.name for home in homes] == ["Oslo"]
    homes = await mind.graph.get_neighbors(USER, None, "wei", edge_types=["lives_in"])
    assert {home.name: home.edge.valid_to is None for home in homes} == {"Porto": True, "Oslo": False}
    memories = (await mind.list_memories(USER, limit=100)).items
    assert all(memory.sources for memory in memories)

    await learned.show("the script", calls, "")
    shown = capsys.readouterr().out
    for words in ("because Wei: We did it.", "├── ", "→ Porto", "→ Oslo", "Ivo neighbor of Mara", "ended the old one"):
        assert words in shown


async def test_the_whole_mind_is_shown_and_a_second_time_nothing_is_new(
    open_mind: OpenMind, embedding: LocalEmbedding, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, calls = Sample(), list[LLMCall]()
    mind = await open_mind(
        embedding=embedding,
        llm=scripted_model(history),
        storage=LocalStorage(tmp_path),
        auto_extract=False,
        on_llm_call=calls.append,
    )
    await Learned(mind, history).learn()
    whole, before = Whole(mind, calls), len(calls)
    await whole.show()
    shown = capsys.readouterr().out
    for words in (
        "Within half a year Wei left Oslo for Porto", "because ", "-0.6", "+0.9", "the Portuguese exam (nervous)",
        "The rent of the shop is 940", "Wei owns Pixel", "my locker at the station is 4711",
        "counted again: nothing left", "not known: erased is erased",
    ):  # fmt: skip
        assert words in shown, words
    assert len(calls) == before + 2
    await whole.show()
    assert "no news" in capsys.readouterr().out
    assert len(calls) == before + 2
    assert (await mind.stats(USER)).documents == 1


async def test_every_turn_of_the_script_is_in_the_sample() -> None:
    turns = {message.external_id for _, messages in Sample().sessions() for message in messages}
    assert learned_turns().keys() <= turns


async def test_the_model_the_environment_names_is_used_if_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NEUROMEM_LLM", "m")
    async with language_model(Sample()) as (llm, note):
        assert (llm.model_id, "OPENAI_BASE_URL" in note) == (SCRIPT, True)
    with OpenAIServer(chat=lambda body: "Yes.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        async with language_model(Sample()) as (llm, note):
            assert (llm.model_id, note) == ("m", "")
        server.fail_next(status(401))
        async with language_model(Sample()) as (llm, note):
            assert llm.model_id == SCRIPT
            assert "cannot be used" in note


async def test_recall_on_a_real_dialogue_is_as_good_as_promised(open_mind: OpenMind, embedding: LocalEmbedding) -> None:
    if not LOCOMO.is_file():
        pytest.skip("the development dialogues lie beside the repository only for its developers")
    figures = await measure(await open_mind(embedding=embedding), locomo.read(LOCOMO)[:1])
    overall = figures["overall"]
    assert isinstance(overall, dict)
    assert overall["recall@10"] >= 0.74
    assert overall["recall@5"] >= 0.62


@pytest.mark.parametrize("text", ["no JSON", "[1]", '[{"conversation": {}}]'])
def test_another_file_is_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=r"other\.json"):
        locomo.read(file)


def test_a_dialogue_is_read_whole(tmp_path: Path) -> None:
    turns = [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "Hello"},
        {"speaker": "Bob", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a red kite"},
    ]
    conversation = {"speaker_a": "Ann", "speaker_b": "Bob", "session_1": turns}
    conversation["session_1_date_time"] = "1:56 pm on 8 May, 2023"
    questions = [
        {"question": "What did Bob show?", "answer": "a kite", "category": 4, "evidence": ["D1:2; D9:9"]},
        {"question": "Lost evidence?", "answer": "", "category": 1, "evidence": []},
    ]
    file = tmp_path / "dialogue.json"
    file.write_text(json.dumps([{"sample_id": "d", "conversation": conversation, "qa": questions}]))
    (dialogue,) = locomo.read(file)
    (session, messages) = dialogue.sessions[0]
    assert (session, [m.external_id for m in messages]) == ("session_1", ["D1:1", "D1:2"])
    assert messages[1].content == "Look! [image: a red kite]"
    assert [q.evidence for q in dialogue.questions] == [("D1:2",)]
