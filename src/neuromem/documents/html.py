"""HTML into lines of text."""

import re
from importlib import import_module
from typing import Any

from memground.errors import InvalidInputError
from memground.extras import missing_package
from neuromem.documents.plain import clean, guessed_text, tidy, unicode_text

_DECLARED = re.compile(rb"""<(?:meta|\?xml)\b[^>]{0,200}?(?:charset|encoding)\s{0,9}=\s{0,9}["']?([\w-]{2,40})""", re.I)
_LOOKED_AT = 4096
_UNSEEN = {"head", "script", "style", "noscript", "template", "iframe", "object", "svg", "math", "textarea", "select"}
_HEADINGS = {f"h{level}": "\n\n" + "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS = {"p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "blockquote", "pre", "ul"}
_PARAGRAPHS |= {"ol", "dl", "table", "figure", "figcaption", "form", "fieldset", "address", "details", "body"}  # pyright: ignore[reportConstantRedefinition]
_LINES = {"tr", "dt", "dd", "caption", "legend", "summary", "option", "hr"}
_ENDS = re.compile(r"</(?:html|body)\s*+>", re.IGNORECASE)
"""What comes behind them is part of the page, too, but lxml drops it."""
_SPACES = re.compile(r"\s+")


def html_text(filename: str, data: bytes) -> tuple[str | None, str, tuple[str, ...]]:
    """Title, text and warnings. Headings become lines that begin with `#`, rows of tables one line each."""
    text, warnings = _decoded(filename, data)
    root = _parsed(filename, clean(text))
    if root is None:
        return None, "", warnings
    title = next((element.text for element in root.iter("title")), None)
    return title, tidy("".join(_pieces(root))), warnings


def _parsed(filename: str, text: str) -> Any:
    try:
        etree: Any = import_module("lxml.etree")  # has no type information
    except ImportError:
        raise missing_package("lxml", "files") from None
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(_ENDS.sub("", text).encode(), parser)
    except etree.XMLSyntaxError as error:
        if "Document is empty" in str(error):
            return None
        raise MemoryError from error  # the one reason why a page that may be anything cannot be read
    if any(entry.type_name == "ERR_NO_MEMORY" for entry in parser.error_log):
        raise MemoryError
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise InvalidInputError(f"{filename} nests elements deeper than any page people write; it is not read")
    return root


def _decoded(filename: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    if (text := unicode_text(data)) is not None:
        return text, ()
    if declared := _DECLARED.search(data[:_LOOKED_AT]):
        try:
            return data.decode(declared[1].decode(), "replace"), ()
        except (LookupError, ValueError):  # nobody's encoding, or none that fits
            pass
    text, warning = guessed_text(filename, data)
    return text, (warning,)


def _pieces(root: Any) -> list[str]:
    """The text in order, with line ends where elements begin and end."""
    etree: Any = import_module("lxml.etree")
    pieces: list[str] = ["\n"]
    unseen = preformatted = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        opens, tag = event == "start", element.tag
        unseen += (tag in _UNSEEN) * (1 if opens else -1)
        preformatted += (tag == "pre") * (1 if opens else -1)
        if unseen:
            continue
        text = (element.text if opens else element.tail) or ""
        for piece in (_edge(tag, opens, pieces[-1]), text if preformatted else _SPACES.sub(" ", text)):
            if not preformatted and piece.startswith(" ") and pieces[-1].endswith((" ", "\n")):
                pieces.append(piece[1:])
            else:
                pieces.append(piece)
            if not pieces[-1]:
                pieces.pop()
    return pieces


def _edge(tag: str, opens: bool, before: str) -> str:
    """What stands where an element begins or ends."""
    if tag in _HEADINGS:
        return _HEADINGS[tag] if opens else "\n\n"
    if tag in _PARAGRAPHS:
        return "\n\n"
    if tag in ("td", "th"):
        return " | " if opens and not before.endswith("\n") else ""
    if tag == "li":
        return "\n- " if opens else ""
    if tag == "br":
        return "\n" if opens else ""
    return "\n" if tag in _LINES and not before.endswith("\n") else ""
