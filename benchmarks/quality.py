"""How often recall finds the turns that answer a question: `python -m benchmarks.quality FILE [--no-save]`.

FILE is a LoCoMo file. Every dialogue becomes one user's conversations; every question is asked with recall(limit=20),
with no language model. recall@k = share of a question's evidence turns among the first k of `merged`, averaged over
questions (those without evidence are left out); MRR = mean of 1 / rank of the first evidence turn within 20.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from neuromem import NeuroMemory, RankingProfile
from neuromem.importers import locomo

DEPTHS = (5, 10, 20)
type Scores = dict[str, float]


async def measure(nm: NeuroMemory, dialogues: list[locomo.Dialogue]) -> dict[str, object]:
    """Imports the dialogues and asks their questions."""
    begun = time.perf_counter()
    for dialogue in dialogues:
        for session_id, messages in dialogue.sessions:
            await nm.conversations.add_messages_batch(dialogue.name, messages, session_id=session_id)
    await nm.wait_idle()
    imported = time.perf_counter() - begun
    found: list[tuple[str, str, Scores]] = []
    begun = time.perf_counter()
    for dialogue in dialogues:
        names = {
            message.message_id: message.external_id
            for session_id, _ in dialogue.sessions
            for message in await nm.conversations.get_session_messages(dialogue.name, session_id)
        }
        for question in dialogue.questions:
            result = await nm.recall(dialogue.name, question.text, limit=max(DEPTHS))
            ranking = [names.get(hit.id) for hit in result.merged]
            found.append((dialogue.name, question.category, _scores(ranking, set(question.evidence))))
    asked = time.perf_counter() - begun
    return {
        "questions": len(found),
        "turns": sum(map(len, dialogues)),
        "overall": _mean([scores for _, _, scores in found]),
        "by_category": _grouped((category, scores) for _, category, scores in found),
        "by_dialogue": _grouped((name, scores) for name, _, scores in found),
        "import_seconds": round(imported, 2),
        "ms_per_question": round(1000 * asked / max(1, len(found)), 2),
    }


def _scores(ranking: list[str | None], evidence: set[str]) -> Scores:
    scores = {f"recall@{k}": len(evidence.intersection(ranking[:k])) / len(evidence) for k in DEPTHS}
    first = next((rank for rank, name in enumerate(ranking, 1) if name in evidence), None)
    return scores | {"mrr": 0.0 if first is None else 1.0 / first}


def _mean(scores: list[Scores]) -> Scores:
    return {name: round(fmean(s[name] for s in scores), 4) for name in scores[0]}


def _grouped(pairs: object) -> dict[str, Scores]:
    groups: dict[str, list[Scores]] = defaultdict(list)
    for name, scores in pairs:  # type: ignore[attr-defined]
        groups[name].append(scores)
    return {name: _mean(scores) for name, scores in sorted(groups.items())}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--no-save", action="store_true", help="print only")
    parser.add_argument("--database-url", default=None)
    arguments = parser.parse_args()
    from benchmarks.results_file import save

    schema = f"quality_{time.time_ns()}"
    async with NeuroMemory(arguments.database_url, schema=schema, ranking=RankingProfile()) as nm:
        figures = await measure(nm, locomo.read(arguments.file))
        await drop(nm, schema)
    for name, scores in {"overall": figures["overall"], **figures["by_category"]}.items():  # type: ignore[dict-item]
        print(f"{name:<14}" + "  ".join(f"{key} {value:.3f}" for key, value in scores.items()))
    print(f"{figures['questions']} questions, {figures['ms_per_question']} ms each with embedding")
    if not arguments.no_save:
        print("saved:", save("quality", figures).name)


async def drop(nm: NeuroMemory, schema: str) -> None:
    """Removes the benchmark's own schema."""
    from sqlalchemy.schema import DropSchema

    # A benchmark cleans up after itself; users have no need of this, so there is no call for it.
    if nm._worker is not None:
        await nm._worker.stop()
    async with nm._db.session() as session:
        await session.execute(DropSchema(schema, cascade=True))


if __name__ == "__main__":
    asyncio.run(main())
