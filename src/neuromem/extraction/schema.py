"""The JSON Schema of an extraction, for models that can be held to one (in the strict form OpenAI asks for)."""

from typing import Any


def of_object(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object with all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listing(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_TIME = {"type": ["string", "null"]}
_SOURCES = listing({"type": "integer"})
_EMOTION = {"anyOf": [of_object(valence=_NUMBER, arousal=_NUMBER, label=_TEXT), {"type": "null"}]}
_SAID = {"content": _TEXT, "category": _TEXT, "confidence": _NUMBER, "importance": {"type": "integer"}}
_FELT = {"emotion": _EMOTION, "entities": listing(_TEXT), "sources": _SOURCES}

EXTRACTION_SCHEMA: dict[str, Any] = {
    "title": "extraction",
    **of_object(
        facts=listing(of_object(**_SAID, valid_from=_TIME, valid_to=_TIME, **_FELT)),
        episodes=listing(of_object(**_SAID, happened_at=_TIME, **_FELT)),
        triples=listing(
            of_object(
                subject=_TEXT,
                subject_type=_TEXT,
                relation=_TEXT,
                object=_TEXT,
                object_type=_TEXT,
                confidence=_NUMBER,
                valid_from=_TIME,
                valid_to=_TIME,
                sources=_SOURCES,
            )
        ),
        profile_updates=listing(
            of_object(key=_TEXT, value={"anyOf": [_TEXT, _NUMBER, listing(_TEXT)]}, sources=_SOURCES)
        ),
    ),
}
