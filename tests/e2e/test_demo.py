"""The demo's history, and LoCoMo files: imported once, answered now and as of then."""

import json
from pathlib import Path

import pytest
from benchmarks.quality import measure

from conftest import OpenMind
from memground.embedding import LocalEmbedding
from memground.errors import InvalidInputError
from neuromem.demo.sample import Sample
from neuromem.importers import locomo

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
