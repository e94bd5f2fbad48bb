"""The JSON Schema of an extraction, for models that can be held to one (in the strict form OpenAI asks for)."""

from typing import Any


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_TIME = {"type": ["string", "null"]}
_SOURCES = _list({"type": "integer"})
_EMOTION = {"anyOf": [_object(valence=_NUMBER, arousal=_NUMBER, label=_TEXT), {"type": "null"}]}
_SAID = {"content": _TEXT, "category": _TEXT, "confidence": _NUMBER, "importance": {"type": "integer"}}
_FELT = {"emotion": _EMOTION, "entities": _list(_TEXT), "sources": _SOURCES}

EXTRACTION_SCHEMA: dict[str, Any] = {
    "title": "extraction",
    **_object(
        facts=_list(_object(**_SAID, valid_from=_TIME, valid_to=_TIME, **_FELT)),
        episodes=_list(_object(**_SAID, happened_at=_TIME, **_FELT)),
        triples=_list(
            _object(
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
        profile_updates=_list(_object(key=_TEXT, value={"anyOf": [_TEXT, _NUMBER, _list(_TEXT)]}, sources=_SOURCES)),
    ),
}
