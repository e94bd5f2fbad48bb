"""What a faultless extraction of a dialogue might find, made by rules: no model, and the same every time.

Every sentence that states something becomes a fact in the third person with its turn as source; what somebody names
becomes a relation.
"""

import re
from collections.abc import Mapping

from neuromem import Fact, Message, Triple

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FEWEST_WORDS = 4
_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*)")
_THIRD: Mapping[str, str] = {
    "i'm": "{0} is", "i've": "{0} has", "i'll": "{0} will", "i'd": "{0} would", "i am": "{0} is", "i have": "{0} has",
    "i was": "{0} was",
    "i": "{0}", "my": "{0}'s", "me": "{0}", "mine": "{0}'s", "myself": "{0}", "we": "{0} and others",
    "our": "{0}'s", "you": "{1}", "your": "{1}'s", "you're": "{1} is",
}  # fmt: skip
_PERSON = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _THIRD), key=len, reverse=True)) + r")\b", re.IGNORECASE)


def facts(message: Message, other: str) -> list[Fact]:
    """The statements of a turn, said of its speaker; `other` is who is spoken to."""
    speaker = message.speaker or message.role
    said = [s.strip() for s in _SENTENCE.split(message.content)]
    told = [s for s in said if not s.endswith("?") and len(s.split()) >= _FEWEST_WORDS]
    return [Fact(_third_person(sentence, speaker, other)) for sentence in told]


def triples(message: Message) -> list[Triple]:
    """Speaker and what a turn names."""
    speaker = message.speaker or message.role
    names = dict.fromkeys(_NAME.findall(message.content))
    return [Triple(speaker, "talks_about", name, subject_type="person") for name in names if name != speaker]


def _third_person(sentence: str, speaker: str, other: str) -> str:
    def said_of(match: re.Match[str]) -> str:
        return _THIRD[match[1].lower()].format(speaker, other)

    rewritten = _PERSON.sub(said_of, sentence.replace("’", "'"))
    return rewritten if speaker in rewritten else f"{speaker}: {rewritten}"
