"""What a text file is: plain, Markdown or HTML."""

import re
from pathlib import PurePath
from typing import Literal

_HTML = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+|<!--(?:(?!-->).)*+-->\s*+)*+<(?:!doctype\s++html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_NAMES = {".html", ".htm", ".xhtml", ".shtml"}
_MARKDOWN_NAMES = {".md", ".markdown", ".mdown", ".mkd"}
_LOOKED_AT = 4096


def suffix(filename: str) -> str:
    return PurePath(filename).suffix.lower()


def kind_of_text(filename: str, text: str) -> Literal["text", "markdown", "html"]:
    """By content where that can tell; Markdown is a text whose name says so."""
    if suffix(filename) in _HTML_NAMES or _HTML.match(text[:_LOOKED_AT]):
        return "html"
    return "markdown" if suffix(filename) in _MARKDOWN_NAMES else "text"
