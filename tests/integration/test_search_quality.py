"""What somebody would look for is found: rare tokens in a crowd, Chinese, names of two words."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory, NewMessage
from support.embeddings import HashEmbedding

MEMORIES, TURNS = 20_000, 5_000
NEEDLES = ("The order status of customer ZX-9917 was checked and is fine", "客户的订单8841状态已检查，没有问题")
QUESTIONS = [
    ("what about ZX-9917?", NEEDLES[0]),
    ("zx 9917", NEEDLES[0]),
    ("Was the order status of customer ZX-9917 checked?", NEEDLES[0]),
    ("订单8841怎么样了", NEEDLES[1]),
    ("订单 8841", NEEDLES[1]),
    ("8841", NEEDLES[1]),
]


def crowd(count: int) -> list[str]:
    """Texts that differ in a number only; one of them shares the needle's."""
    texts = [f"The order status of customer {n} was checked and is fine" for n in range(count) if n != 8841]
    middle = count // 2
    return [*texts[:middle], *NEEDLES, *texts[middle:]]


@pytest.fixture(scope="module")
async def crowded(database_url: str) -> AsyncIterator[NeuroMemory]:
    """20,000 memories of user "files" and 5,000 turns of user "talks"."""
    policy = JobPolicy(batch=500)
    async with NeuroMemory(
        database_url, HashEmbedding(32), schema=f"crowded_{uuid.uuid4().hex[:8]}", background=policy
    ) as mind:
        memories, turns = crowd(MEMORIES), crowd(TURNS)

        async def remember() -> None:
            for start in range(0, MEMORIES, 1_000):
                await mind.add_memories("files", memories[start : start + 1_000])

        async def talk() -> None:
            for start in range(0, TURNS, 1_000):
                said = [NewMessage("user", text) for text in turns[start : start + 1_000]]
                await mind.conversations.add_messages_batch("talks", said, session_id=f"s{start}")
            await mind.wait_idle(timeout=120)

        await asyncio.gather(remember(), talk())
        yield mind


@pytest.mark.parametrize(("query", "expected"), QUESTIONS)
async def test_a_rare_token_among_thousands_of_memories(crowded: NeuroMemory, query: str, expected: str) -> None:
    assert (await crowded.search("files", query))[0].memory.content == expected
    assert (await crowded.recall("files", query)).merged[0].content == expected


@pytest.mark.parametrize(("query", "expected"), QUESTIONS)
async def test_a_rare_token_among_thousands_of_turns(crowded: NeuroMemory, query: str, expected: str) -> None:
    found = await crowded.recall("talks", query)
    assert found.merged[0].content == found.conversation_results[0].message.content == expected


async def test_a_word_is_found_though_the_vector_is_far(crowded: NeuroMemory) -> None:
    """The vector arm lists two hundred others; no cut-off may lose what only the words find, nor the other way."""
    far = HashEmbedding(32)._vector("The order status of customer 5 was checked and is fine")
    hits = await crowded.search("files", "8841", query_embedding=far, explain=True)
    assert hits[0].memory.content == NEEDLES[1]
    assert hits[0].explanation is not None
    assert hits[0].explanation.vector_rank is None
    assert hits[0].explanation.notes == ("found by its words only",)
    assert hits[1].explanation is not None
    assert hits[1].explanation.keyword_rank is None
    found = await crowded.recall("talks", "8841", query_embedding=far)
    assert found.merged[0].content == NEEDLES[1]


CHINESE = [
    ("我上周搬到了波尔图，住在河边的公寓。", "他的公寓在哪里？"),
    ("我的猫叫小黑，今年三岁。", "猫叫什么名字？"),
    ("我对花生过敏，不能吃花生酱。", "他对什么东西过敏？"),
    ("下个月十五号是妈妈的生日。", "妈妈的生日是什么时候？"),
    ("我在一家银行做数据分析师。", "他在银行做什么工作？"),
    ("周末我喜欢去山里徒步。", "他周末喜欢做什么？"),
    ("我正在学习弹吉他，老师姓王。", "吉他老师姓什么？"),
    ("去年夏天我们去了冰岛看极光。", "什么时候去冰岛看的极光？"),
    ("我的订单8841还没有收到退款。", "订单8841的退款收到了吗？"),
    ("医生说我需要多喝水，少喝咖啡。", "医生有什么建议？"),
    ("我弟弟在北京大学读物理系。", "弟弟在哪所大学读书？"),
    ("我把车停在了公司地下车库B2层。", "车停在哪里了？"),
    ("会议改到了下午三点。", "几点开会？"),
    ("我和Anna在Porto的咖啡馆见过面。", "在咖啡馆见到Anna了吗？"),
]


async def test_chinese_questions_on_memories(nm: NeuroMemory, user: str) -> None:
    await nm.add_memories(user, [text for text, _ in CHINESE])
    for text, question in CHINESE:
        assert text in [hit.memory.content for hit in await nm.search(user, question, limit=3)], question
        assert text in [hit.content for hit in (await nm.recall(user, question, limit=3)).merged], question


async def test_chinese_questions_on_turns(nm: NeuroMemory, user: str) -> None:
    for n, (text, _) in enumerate(CHINESE):
        await nm.ingest(user, "user", text, session_id=f"s{n // 4}")
        await nm.ingest(user, "assistant", "好的，我记住了。", session_id=f"s{n // 4}")
    await nm.wait_idle(timeout=60)
    for text, question in CHINESE:
        assert text in [hit.content for hit in (await nm.recall(user, question, limit=3)).merged], question


async def test_latin_words_inside_chinese_text(nm: NeuroMemory, user: str) -> None:
    """No space stands between them, and the question may be asked in another language."""
    await nm.add_memories(user, [text for text, _ in CHINESE])
    for question in ("Who is Anna?", "What happened in Porto?", "Porto", "B2", "order 8841"):
        best = (await nm.search(user, question, limit=1))[0].memory.content
        assert any(word in best for word in ("Anna", "Porto", "B2", "8841") if word in question), question


ENGLISH = [
    ("Tom moved to New York last spring.", "When did Tom move to New York?"),
    ("Tom bought a new house near York Minster.", "Which house did Tom buy near the minster?"),
    ("The annual planning meeting was canceled.", "What happened to the planning meeting?"),
    ("Ann drinks jasmine tea.", "What does Ann drink?"),
    ("Write to anna.smith@example.org about the lease.", "What was anna.smith@example.org about?"),
    ("The build broke after version 2.3.1 of libfoo.", "What broke with libfoo 2.3.1?"),
    ("The build broke after version 2.3.2 of libbar.", "What broke with libbar 2.3.2?"),
    ("Flight TP1325 leaves at nine.", "When does TP1325 leave?"),
    ("Flight TP1352 leaves at noon.", "tp1352?"),
    ("She is allergic to peanuts.", "What allergies does she have?"),
    ("The Wi-Fi password is on the fridge.", "where is the wi-fi password"),
    ("Zoë's café serves crème brûlée.", "crème brûlée"),
]


async def test_english_questions(nm: NeuroMemory, user: str) -> None:
    await nm.add_memories(user, [text for text, _ in ENGLISH])
    for text, question in ENGLISH:
        assert (await nm.search(user, question))[0].memory.content == text, question
        assert (await nm.recall(user, question)).merged[0].content == text, question
