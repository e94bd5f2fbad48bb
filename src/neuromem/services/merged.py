"""What is found, as entries of the one ranking."""

from memground.postgres.prepared import Record
from neuromem.types import Explanation, GraphFact, Hit, MergedHit, MessageHit, Source


def from_memory(hit: Hit) -> MergedHit:
    """A memory."""
    m = hit.memory
    return MergedHit(
        content=m.content,
        score=hit.score,
        source="vector",
        sources=("vector",),
        id=m.memory_id,
        metadata=m.metadata,
        at=m.event_at,
        known_from=m.known_from,
        valid_from=m.valid_from,
        valid_to=m.valid_to,
        came_from=m.sources,
        explanation=hit.explanation,
    )


def from_message(hit: MessageHit) -> MergedHit:
    """A turn."""
    m = hit.message
    return MergedHit(
        content=m.content,
        score=hit.score,
        source="conversation",
        sources=("conversation",),
        id=m.message_id,
        metadata=m.metadata,
        at=m.timestamp,
        known_from=m.known_from,
        speaker=m.speaker,
        came_from=(Source("message", m.message_id),),
        explanation=hit.explanation,
    )


def from_fact(fact: GraphFact, score: float, why: Explanation) -> MergedHit:
    """A relation."""
    return MergedHit(
        content=fact.content,
        score=score,
        source="graph",
        sources=("graph",),
        id=fact.edge_id,
        metadata={},
        at=fact.valid_from or fact.known_from,
        known_from=fact.known_from,
        valid_from=fact.valid_from,
        valid_to=fact.valid_to,
        came_from=fact.sources,
        explanation=why,
    )


def from_profile(entry: Record, content: str, score: float, why: Explanation) -> MergedHit:
    """An entry of the profile."""
    return MergedHit(
        content=content,
        score=score,
        source="profile",
        sources=("profile",),
        id=str(entry["entry_id"]),
        metadata={},
        at=entry["known_from"],
        known_from=entry["known_from"],
        explanation=why,
    )
