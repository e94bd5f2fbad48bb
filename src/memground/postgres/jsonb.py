"""Values as the text of JSON that PostgreSQL gives back as they were."""

import json
import re
from decimal import Decimal
from typing import Any

_TEXT_OR_LARGE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\+\d+')


def written(value: Any) -> str:
    """JSON whose numbers stay what they are.

    `jsonb` keeps decimals: 1e+22 would come back as a whole number of 23 digits, and 1e+300 as one that is no float at
    all. Written out with a place after the point it is read as the float it was.
    """
    text = json.dumps(value)
    return _TEXT_OR_LARGE.sub(_written_out, text) if "e+" in text else text


def _written_out(found: re.Match[str]) -> str:
    part = found[0]
    return part if part.startswith('"') else f"{Decimal(part):f}.0"
