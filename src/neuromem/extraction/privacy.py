"""What must not be inferred of a person: their personality (Big Five, MBTI, …) and their values.

Models are told not to; what they return of the kind is dropped here and counted. What a user says of themselves word
for word may stay in a memory, as a quotation, and never in the profile or the graph. The EU AI Act's Article 5 is where
the rule comes from.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, cast

from memground.text import fold
from neuromem.extraction.items import Extracted, Extraction, ProfileUpdate
from neuromem.types import Dropped, Episode, Fact, ItemKind, Triple

type Inferred = Literal["personality", "values"]

# Chinese has no word boundaries and Latin words stand right beside it, so `\b` would miss "她是INTJ".
_START, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_VERY = r"(?:\w+ ){0,3}?"

_TYPE_CODE = rf"{_START}[EI][NS][FT][JP](?:-[AT])?{_END}"
_PERSONALITY = (
    rf"{_TYPE_CODE}|big[ _-]?five|big 5 (?:personality|traits?|scores?)|five[- ]factor (?:model|personality)|"
    r"MBTI|myers[- ]briggs|enneagram|keirsey|16 ?personalities|"
    rf"{_START}(?:personality|temperament)(?::| (?:type|traits?|profile|test|score|assessment|is|seems|leans))|"
    rf"{_START}(?:has|have|had) (?:an? )?{_VERY}(?:personality|temperament){_END}|"
    rf"{_START}character traits?{_END}|"
    rf"{_START}(?:neuroticism|conscientiousness|agreeableness|extra?version|extroversion|introversion){_END}|"
    rf"{_START}openness (?:to experience|score|trait)|(?:high|low|scores?|scored) (?:in|on) openness|"
    rf"{_START}(?:introvert|extrovert|extravert|ambivert)(?:s|ed|ish)?{_END}|"
    rf"{_START}(?:is|are|am|seems?|appears?|being|as|rather|very|highly) {_VERY}"
    rf"(?:conscientious|neurotic|agreeable){_END}|"
    r"(?:a|an|dark) (?:narcissist|psychopath|machiavellian)|"
    r"大五人格|五大人格|大五(?:模型|性格|特质)|五因素模型|九型人格|迈尔斯[-—·]?布里格斯|"
    r"(?:人格|性格|气质)(?:类型|特质|特征|特点|测试|评估|画像|分析|倾向|维度|得分)|"
    r"性格(?:很|比较|非常|十分|偏|较|有点|有些|开朗|温和|沉稳|急躁|活泼|孤僻|随和|敏感)|"
    r"神经质|尽责性|宜人性|外倾性|内倾性|外向性|内向性|开放性(?:得分|较?高|较?低|人格)|"
    r"(?:^|性格|性情|比较|较为?|很|非常|十分|偏|属于|是个?|有点|有些|天生)(?:内向|外向)(?![国海外后前])"
)
_INSTRUMENT = rf"{_START}(?:DISC|OCEAN) (?:profile|type|style|test|score|scores|traits?|model|assessment|personality)"
_VIRTUE = (
    r"(?:honesty|integrity|freedom|liberty|loyalty|family|tradition|independence|equality|justice|fairness|security|"
    r"achievement|power|benevolence|conformity|autonomy|hard work|authenticity|kindness|respect|faith|privacy|"
    r"stability|community|harmony)"
)
_SIDE = (
    r"(?:left|right)[- ](?:wing|leaning)(?:er)?|conservative|liberal|progressive|socialist|communist|libertarian|"
    r"anarchist|centrist|nationalist|populist"
)
_VALUES = (
    rf"{_START}(?:core|personal|moral|ethical|family|traditional|religious|political|cultural|human|life|basic) "
    rf"values{_END}|values? system|moral (?:foundations?|compass|beliefs?)|schwartz values|"
    rf"(?:her|his|their|my|your|user's) (?:own )?(?:values|world ?view|ideology|belief system){_END}"
    r"(?! of| (?:\d|(?:is|are|was|were|came) (?:\d|back|normal|fine|ok|good|bad|high|low|elevated)))|"
    rf"{_START}values {_VERY}{_VIRTUE}{_END}|"
    rf"{_START}politic(?:al|ally|s) (?:orientation|leanings?|views?|beliefs?|ideology|affiliation|stance|alignment|"
    rf"preference|identity|conservative|liberal|progressive|left|right|cent(?:er|re))|politics (?:is|are|leans?){_END}|"
    rf"{_START}(?:is|are|am|leans?|seems?|appears?|identif\w+ as|probably|likely) {_VERY}(?:{_SIDE})"
    r"(?=$|[.,;:!?'\"”’)]| (?:and|but|in politics|politically|person|voter|views?|by)\b)|"
    r"religious(?:ly)? (?:orientation|leanings?|views?|beliefs?|affiliation|stance|identity|conservative|devout)|"
    r"价值观|价值取向|人生观|世界观|道德观|"
    r"政治(?:倾向|立场|观点|取向|信仰|态度|派别|光谱)|宗教(?:信仰|倾向|立场|取向|观)|(?:偏|属于|是)(?:左翼|右翼|左派|右派|保守派|自由派)|"
    r"(?:重视|看重|崇尚|推崇|信奉)(?:诚实|诚信|自由|忠诚|独立|传统|家庭|公平|正义|平等|责任|稳定|和谐|努力|奋斗)"
)

_TEXTS: tuple[tuple[Inferred, re.Pattern[str]], ...] = (
    # The instruments are written in capitals; "disc" and "ocean" are words.
    ("personality", re.compile(_INSTRUMENT)),
    ("personality", re.compile(_PERSONALITY, re.IGNORECASE)),
    ("values", re.compile(_VALUES, re.IGNORECASE)),
)

# Of keys, relations, types and categories: their words, joined by underscores.
_LABELS: tuple[tuple[Inferred, re.Pattern[str]], ...] = (
    (
        "personality",
        re.compile(
            r"(?:^|_)(?:personality|personalities|temperament|mbti|myers_briggs|enneagram|big_?(?:five|5)|five_factor|"
            r"neuroticism|conscientiousness|agreeableness|extra?version|extroversion|introversion|openness|introvert|"
            r"extrovert|extravert|ambivert|(?:ocean|disc)_(?:type|profile|score|scores|traits?|style|model))(?:_|$)|"
            r"^(?:disc|ocean|traits?|characters?_(?:type|traits?)|(?:user|character|personal)_traits?)$|"
            r"人格|性格|气质类型|神经质|尽责性|宜人性|外向性|内向性|九型"
        ),
    ),
    (
        "values",
        re.compile(
            r"^(?:values|beliefs?|morals|ethics)$|(?:^|_)(?:core|personal|moral|ethical|family|traditional|life|human|"
            r"cultural|user|inferred|my|own)_(?:values?|beliefs?)(?:_|$)|(?:^|_)(?:value_system|values_(?:and|or)|"
            r"ideology|ideologies|world_?views?|politics|political|politically|religion|religions|religious|faith|"
            r"believes_in|has_values?|has_beliefs?)(?:_|$)|价值观|价值取向|人生观|世界观|信仰|政治|宗教"
        ),
    ),
)
_QUOTED = re.compile(r"[\"“„「『«‘]([^\"“”„「」『』«»‘’]{3,})[\"”“」』»’]|'([^']{3,})'")


def inferred_in_text(text: str) -> Inferred | None:
    """Which of the two a sentence speaks of, if any."""
    plain = unicodedata.normalize("NFKC", text)
    return next((kind for kind, pattern in _TEXTS if pattern.search(plain)), None)


def inferred_in_label(label: str) -> Inferred | None:
    """Which of the two a key of the profile, a relation, a type or a category names, if any."""
    # personalityType, personality-type and "Personality type" are one label.
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", label)
    joined = "_".join(re.findall(r"[^\W_]+", words.lower()))
    return next((kind for kind, pattern in _LABELS if pattern.search(joined)), None)


def without_inferences(found: Extraction, said: Sequence[str] = ()) -> Extraction:
    """The same without what infers personality or values. `said`: the user's own words, to tell a quotation by."""
    spoken = [fold(text) for text in said]
    counted: dict[tuple[ItemKind, Inferred], int] = {}

    def kept[T: (Fact, Episode, Triple, ProfileUpdate)](
        kind: ItemKind, items: Iterable[Extracted[T]]
    ) -> tuple[Extracted[T], ...]:
        rest: list[Extracted[T]] = []
        for item in items:
            inferred = _inferred(item.item, spoken)
            if inferred is None:
                rest.append(replace(item, item=_named_harmlessly(item.item)))
            else:
                counted[kind, inferred] = counted.get((kind, inferred), 0) + 1
        return tuple(rest)

    clean = replace(
        found,
        facts=kept("fact", found.facts),
        episodes=kept("episode", found.episodes),
        triples=kept("triple", found.triples),
        profile_updates=kept("profile", found.profile_updates),
    )
    dropped = tuple(Dropped(kind, inferred, count) for (kind, inferred), count in counted.items())
    return replace(clean, dropped=found.dropped + dropped)


def _inferred(item: Fact | Episode | Triple | ProfileUpdate, spoken: Sequence[str]) -> Inferred | None:
    match item:
        case Fact() | Episode():
            inferred = inferred_in_label(item.category) or inferred_in_text(item.content)
            return None if inferred and _is_quotation(item.content, spoken) else inferred
        case Triple():
            labels = (item.relation, item.subject_type, item.object_type)
            found = _first(map(inferred_in_label, labels))
            verb: Inferred | None = "values" if item.relation.lower() in ("values", "value") else None
            return found or verb or inferred_in_text(item.subject) or inferred_in_text(item.object)
        case ProfileUpdate():
            return inferred_in_label(item.key) or _inferred_in_value(item.value)


def _named_harmlessly[T: (Fact, Episode, Triple, ProfileUpdate)](item: T) -> T:
    """Without entities such as "INTJ", which a quotation may have left, and feelings that are none."""
    if not isinstance(item, Fact | Episode):
        return item
    emotion = item.emotion
    if emotion is not None and emotion.label is not None and inferred_in_text(emotion.label):
        item = replace(item, emotion=replace(emotion, label=None))
    return replace(item, entities=tuple(name for name in item.entities if not inferred_in_text(name)))


def _inferred_in_value(value: object) -> Inferred | None:
    match value:
        case str():
            return inferred_in_text(value)
        case dict():
            parts: list[Inferred | None] = [
                inferred_in_label(str(key)) or _inferred_in_value(inner)
                for key, inner in cast("dict[object, object]", value).items()
            ]
            return _first(parts)
        case list():
            return _first(map(_inferred_in_value, cast("list[object]", value)))
        case _:
            return None


def _first(found: Iterable[Inferred | None]) -> Inferred | None:
    return next((inferred for inferred in found if inferred), None)


def _is_quotation(content: str, spoken: Sequence[str]) -> bool:
    """Whether all that is inferred in it stands inside quotation marks, in words the user really said."""
    quotes = [match[1] or match[2] for match in _QUOTED.finditer(content)]
    words = [quote for quote in quotes if any(fold(quote).strip(" .,!?。，！？…") in text for text in spoken)]
    rest = content
    for quote in words:
        rest = rest.replace(quote, "")
    return bool(words) and inferred_in_text(rest) is None
