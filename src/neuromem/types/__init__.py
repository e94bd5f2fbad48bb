"""What neuromem takes and gives: frozen values, each with `.to_dict()` for JSON."""

from neuromem.types.answers import Explanation, Hit, MergedHit, MessageHit, RecallResult
from neuromem.types.conversations import DEFAULT_SESSION, Message, NewMessage, Session
from neuromem.types.counts import BackgroundStatus, Period, Reembedded, Stats
from neuromem.types.digest import DigestResult
from neuromem.types.emotion import DominantEmotion, EmotionPeriod, EmotionProfile, EmotionTrigger
from neuromem.types.entities import EntityProfile
from neuromem.types.erasing import Erased, ErasurePreview, ErasureReceipt
from neuromem.types.extraction import (
    NOTHING_STORED,
    Dropped,
    Emotion,
    Episode,
    ExtractionFailure,
    ExtractionResult,
    ExtractionStatus,
    Fact,
    ItemKind,
    Reason,
    Triple,
)
from neuromem.types.files import Document, FileHit, FileProgress
from neuromem.types.graph import GraphEdge, GraphFact, GraphNeighbor, GraphNode, GraphPath, StoredTriples
from neuromem.types.history import Change, Diff, Kind, Reversal
from neuromem.types.kv import PROFILE_NAMESPACE, KeyValue
from neuromem.types.memories import DEFAULT_IMPORTANCE, Memory, MemoryType, NewMemory
from neuromem.types.moving import ImportedUser
from neuromem.types.values import DEFAULT_ORIGIN, MemoryRef, Metadata, Page, Source, Value

__all__ = [
    "DEFAULT_IMPORTANCE",
    "DEFAULT_ORIGIN",
    "DEFAULT_SESSION",
    "NOTHING_STORED",
    "PROFILE_NAMESPACE",
    "BackgroundStatus",
    "Change",
    "Diff",
    "DigestResult",
    "Document",
    "DominantEmotion",
    "Dropped",
    "Emotion",
    "EmotionPeriod",
    "EmotionProfile",
    "EmotionTrigger",
    "EntityProfile",
    "Episode",
    "Erased",
    "ErasurePreview",
    "ErasureReceipt",
    "Explanation",
    "ExtractionFailure",
    "ExtractionResult",
    "ExtractionStatus",
    "Fact",
    "FileHit",
    "FileProgress",
    "GraphEdge",
    "GraphFact",
    "GraphNeighbor",
    "GraphNode",
    "GraphPath",
    "Hit",
    "ImportedUser",
    "ItemKind",
    "KeyValue",
    "Kind",
    "Memory",
    "MemoryRef",
    "MemoryType",
    "MergedHit",
    "Message",
    "MessageHit",
    "Metadata",
    "NewMemory",
    "NewMessage",
    "Page",
    "Period",
    "Reason",
    "RecallResult",
    "Reembedded",
    "Reversal",
    "Session",
    "Source",
    "Stats",
    "StoredTriples",
    "Triple",
    "Value",
]
