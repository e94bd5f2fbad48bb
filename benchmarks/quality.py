"""How often recall finds the turns that answer a question: `python -m benchmarks.quality FILE [--no-save]`.

FILE is a LoCoMo file (Maharana et al., ACL 2024; CC BY-NC 4.0, so no part of this repository: read the notice that lies
beside yours, it also says which categories the numbers name). Every dialogue becomes one user's conversations;
every question is asked with recall(limit=20), with no language model. recall@k = share of a question's evidence turns
among the first k of `merged`, averaged over questions (those without evidence are left out); MRR = mean of 1 / rank of
the first evidence turn within 20.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import measuring, scripted
from benchmarks.results_file import save
from neuromem import NeuroMemory, RankingProfile
from neuromem.importers import locomo

DEPTHS = (5, 10, 20)
type Scores = dict[str, float]


async def measure(nm: NeuroMemory, dialogues: list[locomo.Dialogue], *, extracted: bool = False) -> dict[str, Any]:
    """Imports the dialogues and asks their questions.

    `extracted`: after facts and relations were learned from them; `unlearned` says what the same mind answered before,
    and `compared` how much more is found after. Two imports would differ by up to a question of a hundred: rows that
    score alike stand by their ids, which are random.
    """
    begun = time.perf_counter()
    for dialogue in dialogues:
        for session_id, messages in dialogue.sessions:
            await nm.conversations.add_messages_batch(dialogue.name, messages, session_id=session_id)
    await nm.wait_idle()
    imported = {"turns": sum(map(len, dialogues)), "import_seconds": round(time.perf_counter() - begun, 2)}
    before = await _answers(nm, dialogues) | imported
    if not extracted:
        return before
    begun = time.perf_counter()
    for dialogue in dialogues:
        await learn(nm, dialogue)
    await nm.wait_idle()
    learned = {"learning_seconds": round(time.perf_counter() - begun, 2)}
    after = await _answers(nm, dialogues) | imported | learned
    gained = {"overall": _less(after["overall"], before["overall"])}
    gained |= {name: _less(scores, before["by_dialogue"][name]) for name, scores in after["by_dialogue"].items()}
    return after | {"unlearned": before, "compared": gained}


async def _answers(nm: NeuroMemory, dialogues: list[locomo.Dialogue]) -> dict[str, Any]:
    """What is found now."""
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
            ranking = [{names.get(source.id) for source in hit.came_from} for hit in result.merged]
            found.append((dialogue.name, question.category, _scores(ranking, set(question.evidence))))
    asked = time.perf_counter() - begun
    by_dialogue = _grouped((name, scores) for name, _, scores in found)
    return {
        "questions": len(found),
        "overall": _mean([scores for _, _, scores in found]),
        "by_category": _grouped((category, scores) for _, category, scores in found),
        "by_dialogue": by_dialogue,
        "spread_over_dialogues": {
            name: (min(scores[name] for scores in by_dialogue.values()), max(s[name] for s in by_dialogue.values()))
            for name in next(iter(by_dialogue.values()))
        },
        "ms_per_question": round(1000 * asked / max(1, len(found)), 2),
    }


async def learn(nm: NeuroMemory, dialogue: locomo.Dialogue) -> None:
    """What a faultless extraction would have found, session by session."""
    for session_id, _ in dialogue.sessions:
        said = await nm.conversations.get_session_messages(dialogue.name, session_id)
        speakers = list(dict.fromkeys(message.speaker or message.role for message in said))
        for message in said:
            other = next((name for name in speakers if name != message.speaker), "they")
            found = {"facts": scripted.facts(message, other), "triples": scripted.triples(message)}
            if any(found.values()):
                await nm.apply_extraction(dialogue.name, **found, sources=[message.message_id])  # type: ignore[arg-type]


def _scores(ranking: list[set[str | None]], evidence: set[str]) -> Scores:
    """A hit shows the turns it came from: a turn itself, a memory or relation those it was learned from."""
    shown = {k: evidence.intersection(set[str | None]().union(*ranking[:k])) for k in DEPTHS}
    scores = {f"recall@{k}": len(shown[k]) / len(evidence) for k in DEPTHS}
    first = next((rank for rank, turns in enumerate(ranking, 1) if turns & evidence), None)
    return scores | {"mrr": 0.0 if first is None else 1.0 / first}


def _mean(scores: list[Scores]) -> Scores:
    return {name: round(fmean(s[name] for s in scores), 4) for name in scores[0]}


def _less(scores: Scores, others: Scores) -> Scores:
    return {name: round(score - others[name], 4) for name, score in scores.items()}


def _grouped(pairs: Iterable[tuple[str, Scores]]) -> dict[str, Scores]:
    groups: dict[str, list[Scores]] = defaultdict(list)
    for name, scores in pairs:
        groups[name].append(scores)
    return {name: _mean(scores) for name, scores in sorted(groups.items())}


def report(figures: dict[str, Any]) -> None:
    for name, scores in {"overall": figures["overall"], **figures["by_category"]}.items():
        print(f"  {name:<14}" + "  ".join(f"{key} {value:.3f}" for key, value in scores.items()))
    for key, (least, most) in figures["spread_over_dialogues"].items():
        print(f"  {key} by dialogue: {least:.3f} to {most:.3f}")
    for name, scores in figures.get("compared", {}).items():
        print(f"  {name:<14}" + "  ".join(f"{key} {value:+.4f}" for key, value in scores.items()) + " by learning")
    print(f"  {figures['questions']} questions, {figures['ms_per_question']} ms each with embedding")


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--extracted", action="store_true", help="also with what a faultless extraction would find")
    parser.add_argument("--database-url", help="default: an embedded server of its own")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    dialogues = locomo.read(chosen.file)
    async with (
        measuring.database(chosen.database_url, None) as url,
        NeuroMemory(url, schema=f"quality_{time.time_ns()}", ranking=RankingProfile()) as nm,
    ):
        figures = await measure(nm, dialogues, extracted=chosen.extracted)
        if chosen.database_url is not None:
            await measuring.drop(nm)
    plain = figures.pop("unlearned", figures)
    report(plain)
    save("quality", plain, chosen)
    if chosen.extracted:
        report(figures)
        save("quality-extracted", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
