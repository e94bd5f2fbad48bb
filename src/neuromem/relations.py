"""What is known of relations between entities, as rules that can be set."""

from collections.abc import Iterable
from dataclasses import dataclass

from memground.names import normal_name, spans, term
from memground.text import show
from neuromem import checks
from neuromem.errors import InvalidInputError
from neuromem.types import Triple

SELF = "user"
"""The name of the person whose memory it is, in the graph."""

SINGLE_VALUED = frozenset(
    (  # noqa: SIM905 - reads better than quoted words
        "lives_in resides_in located_in based_in home_city current_city works_at works_for employed_by employer "
        "job_title occupation works_as married_to spouse spouse_of husband_of wife_of engaged_to dating "
        "in_relationship_with relationship_status marital_status age born_in born_on birthday birthplace "
        "date_of_birth name full_name nationality gender native_language studies_at enrolled_in "
        "居住在 住在 现居 工作于 就职于 任职于 职业 结婚 配偶 丈夫 妻子 年龄 出生于 出生地 生日 姓名 国籍 性别 就读于"
    ).split()
)
"""Relations of which one holds at a time: a new value ends the one before. All others keep every value."""

_FIRST_PERSON = frozenset({"i", "me", "my", "mine", "myself", "我", "我的", "我们"})


@dataclass(frozen=True)
class GraphRules:
    """How triples become edges. `single_valued`: relations (snake_case) of which one holds at a time."""

    single_valued: frozenset[str] = SINGLE_VALUED

    def __post_init__(self) -> None:
        object.__setattr__(self, "single_valued", frozenset(term(name, "single_valued") for name in self.single_valued))


def normal_triple(triple: Triple) -> Triple:
    """A triple with types and relation in snake_case, names as written, times in UTC; raises InvalidInputError."""
    if not isinstance(triple, Triple):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"a triple must be a Triple, got {type(triple).__name__} {show(triple)}")
    normal_name(triple.subject, "subject")
    normal_name(triple.object, "object")
    start, end = checks.validity(triple.valid_from, triple.valid_to)
    return Triple(
        subject=triple.subject.strip(),
        relation=term(triple.relation, "relation"),
        object=triple.object.strip(),
        subject_type=term(triple.subject_type, "subject_type"),
        object_type=term(triple.object_type, "object_type"),
        confidence=checks.share(triple.confidence, "confidence"),
        valid_from=start,
        valid_to=end,
    )


def names_asked(query: str) -> list[str]:
    """The names a question may speak of, in their normal form; who says "I" speaks of `SELF`."""
    found = spans(query)
    return found if _FIRST_PERSON.isdisjoint(found) else [*dict.fromkeys([SELF, *found])]


def normal_names(names: Iterable[str], what: str = "names") -> list[str]:
    """Names in their normal form, each once."""
    return [*dict.fromkeys(normal_name(name, what) for name in names)]
