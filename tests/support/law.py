"""The as-of law as a program: live a random life, live again only what was known at a moment, compare every answer.

::

    acts = plan(random_steps(seed=1, count=30))          # numbers become acts with times and names
    whole = await live(mind, clock, acts)                # D
    await check_law(mind, clock, whole, moments(acts))   # R(D, as_of=t) = R(D_t) for every read R and every t given
    await check_rollback(mind, clock, whole, t)          # rollback(t) makes now what was at t, and can be taken back

Things are compared by the names the plan gave them, never by database ids.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from memground.clock import ManualClock
from memground.errors import InvalidInputError, NotFoundError
from memground.text import fold
from neuromem import Episode, F, Fact, NeuroMemory, NewMessage
from neuromem.queries.messages import EXTRACTION
from neuromem.types import Source, Value
from support import law_digest, law_files, law_graph

START = datetime(2024, 3, 1, 9, tzinfo=UTC)
WAITS = tuple(timedelta(seconds=s) for s in (0, 0.000001, 30, 18_000, 777_600))
BACKS = tuple(timedelta(seconds=s) for s in (0, 20, 10_000, 300_000, 4_000_000))
KINDS = (
    "say", "say", "import", "again", "remember", "remember", "remember past", "update", "update", "update past",
    "delete", "revert", "learn", "learn", "set", "set", "unset", "close", "rollback", "undo writer", "undo since",
    "undo reversal",
    *law_graph.KINDS, *law_digest.KINDS, *law_files.KINDS,
)  # fmt: skip
WORDS = ("porto", "tea", "rain", "anna", "boat", "music", "oslo")
SESSIONS = ("s1", "s2", "s3")
ORIGINS = ("agent", "import", "worker")
NAMESPACES = ("profile", "notes")
VALUES: tuple[Any, ...] = (True, 1, 0, False, None, "tea", ["tea", 1], {"name": "Rex", "age": 3}, {"name": "Rex"}, 1.5)
NOWHERE = "zzqx"
"""A query word no text holds: the keyword arm is silent and every score is exact."""


@dataclass(frozen=True)
class Step:
    """Small numbers; what they mean depends on what was planned before."""

    kind: str
    wait: int
    back: int
    pick: int
    word: int


def random_steps(seed: int, count: int) -> list[Step]:
    rng = random.Random(seed)
    return [
        Step(rng.choice(KINDS), rng.randrange(5), rng.randrange(5), rng.randrange(1_000), rng.randrange(1_000))
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Act:
    """One write: when it is made, since when it is known, which earlier time it speaks of, the name of what it makes.

    `said`: the messages of an import, (name, known time, word) each; the others have one name.
    """

    kind: str
    name: str
    at: datetime
    known: datetime
    past: datetime
    pick: int
    word: int
    target: str | None = None
    session: str = "s1"
    said: tuple[tuple[str, datetime, int], ...] = ()

    @property
    def origin(self) -> str:
        return ORIGINS[self.pick % 3]


def plan(steps: Iterable[Step]) -> list[Act]:
    """What the numbers mean. A name says what made it, so that a target is the same in every replay."""
    at, acts = START, list[Act]()
    names: dict[str, list[str]] = {"message": [], "memory": [], "reversal": []}
    sessions: dict[str, str] = {}
    for number, step in enumerate(steps):
        at += WAITS[step.wait]
        past = max(START - timedelta(days=60), at - BACKS[step.back])
        known = (
            past if step.kind in ("import", "again", "remember past", "update past", "relate past", "file past") else at
        )
        name, session = f"{step.kind}-{number}", SESSIONS[step.pick % 3]
        act = Act(step.kind, name, at, known, past, step.pick, step.word, session=session)
        match step.kind:
            case "say" | "import":
                said = [(act.name, known, act.word)]
                if step.kind == "import":
                    said.append((f"{act.name}b", known - timedelta(hours=1), act.word + 1))
                    said.append((f"{act.name}c", min(at, known + BACKS[2]), act.word + 2))
                act = replace(act, said=tuple(said))
                names["message"] += [name for name, _, _ in said]
                sessions |= {name: act.session for name, _, _ in said}
            case "again":
                target = _pick(names["message"], step)
                act = replace(act, target=target, session=sessions.get(target or "", "s1"))
            case "learn":
                act = replace(act, target=_pick(names["message"], step) if step.word % 4 else None)
            case "relate" | "relate past":
                act = replace(act, target=_pick(names["message"], step) if step.word % 2 else None)
            case "remember" | "remember past":
                act = replace(act, target=_pick(names["message"], step) if step.word % 2 else None)
                names["memory"].append(act.name)
            case "update" | "update past" | "delete" | "revert":
                act = replace(act, target=_pick(names["memory"], step))
            case "rollback" | "undo writer" | "undo since":
                names["reversal"].append(act.name)
            case "undo reversal":
                act = replace(act, target=_pick(names["reversal"], step))
                names["reversal"].append(act.name)
        acts.append(act)
    return acts


def _pick(names: Sequence[str], step: Step) -> str | None:
    """Mostly a recent one: things that happen to the same thing are where the law breaks."""
    return names[-1 - step.pick % min(len(names), 4)] if names else None


def known_at(acts: Iterable[Act], moment: datetime) -> list[Act]:
    """The writes known at a moment; of an import, the messages known by then."""
    kept: list[Act] = []
    for act in acts:
        if act.said:
            said = tuple(item for item in act.said if item[1] <= moment)
            kept += [replace(act, said=said)] if said else []
        elif act.known <= moment:
            kept.append(act)
    return kept


def moments(acts: Sequence[Act]) -> list[datetime]:
    """Where something may go wrong: at every known time, a microsecond before and after, and between."""
    times = sorted({act.at for act in acts} | {a.known for a in acts} | {time for a in acts for _, time, _ in a.said})
    tick = timedelta(microseconds=1)
    between = [a + (b - a) / 2 for a, b in pairwise(times)]
    return sorted({*times, *(t - tick for t in times), *(t + tick for t in times), *between})


@dataclass
class Life:
    """A user who lived through acts. `ids`: database id by name; `done`: the acts that wrote something.

    `learned`: what extracted memories say, by id. They go by that, because which telling began one depends on which
    tellings there were.
    """

    mind: NeuroMemory
    clock: ManualClock
    user: str = field(default_factory=lambda: f"life-{uuid.uuid4().hex[:12]}")
    ids: dict[str, str] = field(default_factory=dict[str, str])
    learned: dict[str, str] = field(default_factory=dict[str, str])
    done: list[Act] = field(default_factory=list[Act])
    refused: list[str] = field(default_factory=list[str])
    learns: bool = False

    async def do(self, act: Act) -> None:
        self.clock.set(act.at)
        try:
            done = await _ACTS[act.kind](self, act)
        except (NotFoundError, InvalidInputError) as error:
            self.refused.append(f"{act.name}: {error}")
            return
        if done is not None:
            self.done.append(done)

    def id(self, name: str | None) -> str:
        if name is None or name not in self.ids:
            raise NotFoundError(f"this life has no {name}")
        return self.ids[name]

    @property
    def names(self) -> dict[str, str]:
        return {key: name for name, key in self.ids.items()} | self.learned | {self.user: "user"}

    @property
    def memories(self) -> list[str]:
        return [name for name in self.ids if name.startswith("remember")]

    @property
    def end(self) -> datetime:
        """A day after all."""
        return max((act.at for act in self.done), default=START) + timedelta(days=1)


async def live(mind: NeuroMemory, clock: ManualClock, acts: Iterable[Act]) -> Life:
    """A new user lives through the acts. Background work may still be under way."""
    acts = list(acts)
    life = Life(mind, clock, learns=any(act.kind == "learn" for act in acts))
    for act in acts:
        await life.do(act)
    return life


# ---------------------------------------------------------------- the law


async def check_law(mind: NeuroMemory, clock: ManualClock, whole: Life, when: Iterable[datetime]) -> None:
    """Every read of the past answers as the present did then. All that was known is lived again per moment."""
    then = {moment: await live(mind, clock, known_at(whole.done, moment)) for moment in when}
    for life in then.values():
        life.learns = whole.learns
    await mind.wait_idle(timeout=60)
    end = whole.end
    for moment, life in then.items():
        assert not life.refused, f"known at {moment}, but refused then: {life.refused}"
        clock.set(end)
        now = await answers(mind.as_of(moment), whole, whole.memories, moment)
        clock.set(moment)
        found = differences(now, await answers(mind, life, whole.memories, moment))
        assert not found, f"as of {moment} (left) is not what was known then (right)\n{found}"


async def check_rollback(mind: NeuroMemory, clock: ManualClock, whole: Life, moment: datetime) -> None:
    """After a rollback the present is as it was; the undo of it is as if nothing had been."""

    async def read(on: Any, moment: datetime, *, at: datetime) -> dict[str, Any]:
        await mind.wait_idle(timeout=60)
        clock.set(at)
        return await answers(on, whole, whole.memories, moment, content_only=True)

    end = max(whole.end, moment)  # what came last may have been refused
    before = await read(mind, end, at=end)
    then = await read(mind.as_of(moment), moment, at=end)
    reversal = await mind.rollback(whole.user, moment)
    found = differences(await read(mind, moment, at=moment), then)
    assert not found, f"after the rollback to {moment} (left) is not as of then (right)\n{found}"
    clock.set(end)
    await mind.undo(whole.user, origin=reversal.origin)
    found = differences(await read(mind, end, at=end), before)
    assert not found, f"after the undo of the rollback to {moment} (left) is not before it (right)\n{found}"


# ---------------------------------------------------------------- acts


def text(word: int) -> str:
    """Three words; different numbers often give the same text."""
    return " ".join(WORDS[word // place % 7] for place in (1, 7, 49)) + ("?" if word % 5 == 0 else "")


def _metadata(word: int) -> dict[str, Any]:
    felt: dict[str, Any] = {"arousal": word % 4 / 3}
    if word % 3:
        felt |= {"valence": word % 5 / 2 - 1, "label": WORDS[word % 4].upper()}
    return {"topic": WORDS[word % 3], "emotion": felt, "flag": bool(word % 2) if word % 3 else 1}


async def _say(life: Life, act: Act) -> Act:
    new = [
        NewMessage(
            "user" if act.word % 3 else "assistant",
            text(word),
            timestamp=None if act.kind == "say" else time,
            external_id=name if act.kind == "import" or act.word % 2 else None,
            speaker="Anna" if act.word % 4 == 0 else None,
            metadata=_metadata(act.word),
        )
        for name, time, word in act.said
    ]
    stored = await life.mind.conversations.add_messages_batch(life.user, new, session_id=act.session, origin=act.origin)
    for (name, time, _), message in zip(act.said, stored, strict=True):
        assert message.known_from == time
        life.ids[name] = message.message_id
    return act


async def _again(life: Life, act: Act) -> Act | None:
    """Ingests an external id once more: nothing is written while it is known."""
    known = set(life.ids.values())
    message = await life.mind.ingest(
        life.user, "user", text(act.word), session_id=act.session, external_id=act.target, timestamp=act.past,
        origin=act.origin,
    )  # fmt: skip
    if message.recorded_at != act.at or message.message_id in known:
        return None
    life.ids[act.name] = message.message_id
    return replace(act, known=message.known_from)


async def _remember(life: Life, act: Act) -> Act:
    sources = [] if act.target is None else [Source("message", life.id(act.target), {"part": act.word % 2})]
    starts = None if act.word % 3 else act.past - BACKS[3]
    memory = await life.mind.add_memory(
        life.user,
        text(act.word),
        memory_type=("general", "fact")[act.pick % 2],
        metadata=_metadata(act.word),
        importance=1 + act.word % 10,
        valid_from=starts,
        valid_to=act.past + BACKS[4] if act.word % 4 == 0 else None,
        known_at=act.past if act.kind == "remember past" else None,
        origin=act.origin,
        sources=sources,
    )
    life.ids[act.name] = memory.memory_id
    return replace(act, known=memory.known_from)


async def _learn(life: Life, act: Act) -> Act:
    """Extracts facts, an event and a profile value from a message, or from nothing."""
    sources = [] if act.target is None else [life.id(act.target)]
    said = [text(act.word % 5), text(act.word % 3)]
    result = await life.mind.apply_extraction(
        life.user,
        facts=[Fact(said[0], confidence=act.word % 3 / 4 + 0.4, importance=1 + act.word % 10), Fact(said[1])],
        episodes=[Episode(said[0], happened_at=act.past if act.word % 2 else None)],
        profile_updates={WORDS[act.pick % 3]: None if act.pick % 5 == 0 else f"value {act.word % 2}"},
        sources=sources,
        origin=act.origin,
    )
    for memory_id in (*result.added, *result.enriched, *result.restated):
        first = (await life.mind.history(life.user, memory_id))[-1]
        life.learned[memory_id] = f"learned {first.memory_type} {fold(first.content)}"
    return act if act.target is None else replace(act, known=await _known_since(life, act.target))


async def _known_since(life: Life, name: str) -> datetime:
    """Since when the last extraction of a message counts: since the message is known, or the one before was undone."""
    async with life.mind._db.read() as session:
        links = session.tables.memory_sources.table
        of_it = (links.c.source_id == uuid.UUID(life.id(name)), links.c.derived_kind == EXTRACTION)
        newest = select(links.c.known_from).where(*of_it).order_by(links.c.version.desc()).limit(1)
        return (await session.execute(newest)).scalar_one()


async def _update(life: Life, act: Act) -> Act | None:
    changes: Mapping[str, Any] = (
        {"content": text(act.word)},
        {"content": text(act.word % 2)},
        {"importance": 1 + act.word % 10},
        {"metadata": _metadata(act.word)},
        {"valid_from": None, "valid_to": act.at - BACKS[1]},
        {"valid_from": act.past - BACKS[act.word % 5], "valid_to": None},
    )[act.pick % 6]
    past = {"known_at": act.past} if act.kind == "update past" else {}
    memory = await life.mind.update_memory(life.user, life.id(act.target), **changes, **past, origin=act.origin)
    return act if memory.recorded_at == act.at else None


async def _delete(life: Life, act: Act) -> Act:
    await life.mind.delete_memory(life.user, life.id(act.target), origin=act.origin)
    return act


async def _revert(life: Life, act: Act) -> Act:
    versions = await life.mind.history(life.user, life.id(act.target))
    version = versions[act.word % len(versions)].version
    await life.mind.revert(life.user, life.id(act.target), version, origin=act.origin)
    return act


async def _set(life: Life, act: Act) -> Act:
    namespace, value = NAMESPACES[act.pick % 2], VALUES[act.word % len(VALUES)]
    await life.mind.kv.set(namespace, life.user, WORDS[act.pick % 3], value, origin=act.origin)
    return act


async def _unset(life: Life, act: Act) -> Act:
    await life.mind.kv.delete(NAMESPACES[act.pick % 2], life.user, WORDS[act.pick % 3], origin=act.origin)
    return act


async def _close(life: Life, act: Act) -> Act:
    await life.mind.conversations.close_session(life.user, act.session)
    return act


async def _reverse(life: Life, act: Act) -> Act:
    nm, user = life.mind, life.user
    match act.kind:
        case "rollback":
            reversal = await nm.rollback(user, act.past)
        case "undo writer":
            reversal = await nm.undo(user, origin=act.origin, recorded_since=act.past if act.word % 2 else None)
        case "undo since":
            reversal = await nm.undo(user, recorded_since=act.past)
        case _:
            reversal = await nm.undo(user, origin=life.id(act.target))
    life.ids[act.name] = reversal.origin
    return act


_ACTS: Mapping[str, Callable[[Life, Act], Awaitable[Act | None]]] = {
    "say": _say, "import": _say, "again": _again, "learn": _learn,
    "remember": _remember, "remember past": _remember, "update": _update,
    "update past": _update, "delete": _delete, "revert": _revert, "set": _set, "unset": _unset, "close": _close,
    "rollback": _reverse, "undo writer": _reverse, "undo since": _reverse, "undo reversal": _reverse,
    **law_graph.ACTS, **law_digest.ACTS, **law_files.ACTS,
}  # fmt: skip


# ---------------------------------------------------------------- answers

_HIDDEN = frozenset({"record_id", "edge_id", "seq"})
"""What names a row rather than a thing; and `seq`, the order of arrival, in which the future leaves gaps."""

_BOOKKEEPING = frozenset(
    {"version", "known_from", "known_to", "recorded_at", "updated_at", "origin", "created_at", "closed_at"}
)
"""What a row that was restored has anew."""


async def answers(on: Any, life: Life, memories: Iterable[str], moment: datetime, *, content_only: bool = False) -> Any:
    """What every read says about a life, comparable between lives: names for ids, no order where order is by id.

    `on` is the mind or a view of it, `memories` the names to ask for, `moment` the latest time `diff` is asked about.
    `content_only` leaves out versions and times of recording.
    """
    hidden = _HIDDEN | _BOOKKEEPING if content_only else _HIDDEN
    if life.learns:
        hidden |= {"version"}  # what is learned late finds its place between two versions, or after one
    names, user, tea = life.names, life.user, "porto tea anna"

    def show(value: Any) -> Any:
        return _shown(value, names, hidden)

    async def recall(query: str, **options: Any) -> Any:
        found = await on.recall(user, query, limit=1_000, explain=True, **options)
        return _recalled(found, names, exact=NOWHERE in query)

    async def search(query: str, **options: Any) -> Any:
        return _hits(await on.search(user, query, limit=1_000, explain=True, **options), names, NOWHERE in query)

    async def listed(**options: Any) -> Any:
        return _unordered(show(item) for item in (await on.list_memories(user, limit=1_000, **options)).items)

    async def ranged(start: datetime, end: datetime) -> Any:
        found = await on.get_memories_by_time_range(user, start, max(end, start + BACKS[1]), limit=1_000)
        return _unordered(map(show, found))  # of equal times the ids decide

    async def recent() -> Any:
        return _unordered(map(show, await on.get_recent_memories(user, days=3, limit=1_000)))

    async def timeline() -> Any:
        return [show(period) for period in await on.memory_timeline(user, granularity="day")]

    async def sessions() -> Any:
        return [show(session) for session in await on.conversations.list_sessions(user)]

    async def messages(session_id: str) -> Any:
        return [show(message) for message in await on.conversations.get_session_messages(user, session_id)]

    async def memory(name: str) -> Any:
        return show(await on.get_memory(user, life.ids[name])) if name in life.ids else None

    async def history(name: str) -> Any:
        try:
            return [show(version) for version in await on.history(user, life.ids[name])] if name in life.ids else []
        except NotFoundError:
            return []

    async def entries(namespace: str) -> Any:
        return [show(entry) for entry in await on.kv.list(namespace, user)]

    async def entry(namespace: str, key: str) -> Any:
        past = [] if content_only else await on.kv.history(namespace, user, key)
        return [show(await on.kv.get(namespace, user, key, "nothing")), *map(show, past)]

    async def diff(since: datetime) -> Any:
        found = await on.diff(user, since, moment)
        changes = [*found.learned, *found.changed, *found.forgotten]
        return _unordered([show(c.before), show(c.after)] for c in changes)

    async def stats() -> Any:
        return show(replace(await on.stats(user), background=None))  # which a view of the past has not

    async def profile(name: str, **options: Any) -> Any:
        found = show(await on.entity_profile(user, name, limit=1_000, **options))
        return {key: _unordered(value) if isinstance(value, list) else value for key, value in found.items()}

    async def graph(read: Awaitable[Any]) -> Any:
        found = await read
        return _unordered(map(show, found)) if isinstance(found, list | tuple) else show(found)

    filters = (F("metadata.topic") == "tea", F("importance") >= 5, F("session_id") == "s1", ~(F("metadata.flag") == 1))
    reads: dict[str, Awaitable[Any]] = {
        "recall": recall(NOWHERE),
        "recall by word": recall(tea),
        "recall of a time": recall(f"{NOWHERE} yesterday", timezone="Asia/Shanghai"),
        "recall what was true": recall(NOWHERE, valid_at=moment - BACKS[2]),
        "recall facts only": recall(tea, memory_types=["fact"], include_conversations=False),
        **{f"recall where {number}": recall(NOWHERE, where=where) for number, where in enumerate(filters)},
        "search": search(NOWHERE),
        "search of a time": search(f"{NOWHERE} two weeks ago"),
        "search by word": search(tea, where=filters[3]),
        "search what was true": search(tea, valid_at=moment),
        "list": listed(),
        "range": ranged(START, moment - BACKS[2]),
        "recent": recent(),
        "timeline": timeline(),
        **{f"profile of {name}": profile(name) for name in ("Anna", "tea 1", "porto tea")},
        "profile of what was true": profile("tea", valid_at=moment - BACKS[2]),
        "list where": listed(where=filters[0]),
        "sessions": sessions(),
        **{f"messages {session}": messages(session) for session in SESSIONS},
        **{f"memory {name}": memory(name) for name in memories},
        **{f"entries {namespace}": entries(namespace) for namespace in NAMESPACES},
        **{f"entry {space} {key}": entry(space, key) for space in NAMESPACES for key in WORDS[:3]},
    }
    of_graph = law_graph.reads(on, user, moment, content_only=content_only)
    reads |= {f"graph: {name}": graph(read) for name, read in of_graph.items()}
    reads |= {name: graph(read) for name, read in law_digest.reads(on, user, moment).items()}
    of_files = law_files.reads(on, life, NOWHERE, content_only=content_only)
    reads |= {f"files: {name}": graph(read) for name, read in of_files.items()}
    if not content_only:
        reads |= {f"history {name}": history(name) for name in memories}
        reads |= {f"diff since {back}": diff(moment - back) for back in BACKS[2:]}
        reads["stats"] = stats()  # which says when all became known
        reads |= {"recall known since": recall(NOWHERE, where=F("known_from") > moment - BACKS[3])}
    return await gathered(reads)


async def gathered(reads: Mapping[str, Awaitable[Any]], at_once: int = 6) -> dict[str, Any]:
    gate = asyncio.Semaphore(at_once)

    async def one(read: Awaitable[Any]) -> Any:
        async with gate:
            return await read

    return dict(zip(reads, await asyncio.gather(*map(one, reads.values())), strict=True))


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """The reads that answer differently, in words; empty when all agree."""
    return "\n".join(
        f"{name}: {line}" for name in left if left[name] != right[name] for line in _difference(left[name], right[name])
    )


def _difference(left: Any, right: Any) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
        return [f"{key}: {line}" for key in keys for line in _difference(left.get(key), right.get(key))]
    if isinstance(left, list) and isinstance(right, list):
        only = [(item, "left") for item in left if item not in right] + [(i, "right") for i in right if i not in left]
        return [f"only {side}: {item}" for item, side in only] or [f"order or number: {left} / {right}"]
    return [f"{left} / {right}"]


def _shown(value: Any, names: Mapping[str, str], hidden: frozenset[str]) -> Any:
    match value:
        case Value():
            return _shown(value.to_dict(), names, hidden)
        case Mapping():
            shown = {key: _shown(item, names, hidden) for key, item in value.items() if key not in hidden}
            return shown | {"sources": _unordered(shown["sources"])} if "sources" in shown else shown
        case list() | tuple():
            return [_shown(item, names, hidden) for item in value]
        case str():
            return names.get(value, value)
        case float():
            return round(value, 6)
        case bool():
            return f"bool {value}"  # True is not 1, whatever Python says
        case _:
            return value


def _unordered(items: Iterable[Any]) -> list[Any]:
    return sorted(items, key=repr)


def _recalled(found: Any, names: Mapping[str, str], exact: bool) -> Any:
    """With `exact`, every score. Else what does not depend on the statistics of the other users' words."""
    merged = [(fold(hit.content), sorted(hit.sources), round(hit.score, 6) if exact else None) for hit in found.merged]
    return {
        "memories": _hits(found.vector_results, names, exact),
        "messages": _hits(found.conversation_results, names, exact),
        "merged": _unordered(merged),
        "profile": _shown(found.user_profile, names, frozenset()),
    }


def _hits(hits: Sequence[Any], names: Mapping[str, str], exact: bool) -> Any:
    shown = []
    for hit in hits:
        thing = hit.memory if hasattr(hit, "memory") else hit.message
        why = hit.explanation
        name = names[thing.memory_id if hasattr(hit, "memory") else thing.message_id]
        scores = [why.vector_score, why.parts["recency"], *([hit.score] if exact else [])]
        shown.append((name, thing.content, why.keyword_rank is not None, [s and round(s, 6) for s in scores]))
    return _unordered(shown)
