"""Names have one form, and stand in texts as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.names import MOST_SPANS, names_in, normal_name, plain, spans, term
from neuromem import GraphRules, InvalidInputError, Triple
from neuromem.relations import SELF, names_asked, normal_triple

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=60)


@pytest.mark.parametrize(
    "written",
    [
        "New York",
        "new_york",
        " NEW  YORK ",
        "New-York",
        "Ｎｅｗ　Ｙｏｒｋ",
        '"New York"',
        "New\u2011York.",
        "New\tYo\u200brk",
    ],
)
def test_a_name_has_one_form_however_it_is_written(written: str) -> None:
    assert normal_name(written) == "new york"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("C++", "c++"),
        ("C#", "c#"),
        ("O'Brien", "o'brien"),
        ("李雷", "李雷"),
        ("「李雷」", "李雷"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("TP-1364", "tp 1364"),
        ("ann@example.org", "ann@example.org"),
        ("ＡＢＣ株式会社", "abc株式会社"),
        ("?!", "?!"),
        ("../../etc/passwd", "etc/passwd"),
        ("'; DROP TABLE graph_nodes; --", "drop table graph nodes"),
    ],
)
def test_normal_names(written: str, normal: str) -> None:
    assert normal_name(written) == normal


@given(texts)
def test_the_normal_form_is_its_own_normal_form(text: str) -> None:
    try:
        normal = normal_name(text)
    except InvalidInputError:
        return
    assert normal_name(normal) == normal
    assert names_in(text, [normal]) == {normal} or normal not in plain(text)


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("lives in", "lives_in"),
        ("livesIn", "lives_in"),
        ("LIVES-IN", "lives_in"),
        ("  works at:", "works_at"),
        ("住在", "住在"),
        ("a/b", "a_b"),
        ("काम करता है", "काम_करता_है"),
    ],
)
def test_relations_and_types_are_one_word(written: str, word: str) -> None:
    assert term(written, "relation") == word
    assert term(word, "relation") == word


@pytest.mark.parametrize("written", ["", "  ", "->", "a\x00b", "\ud800", 5, None, "x" * 101])
def test_what_is_no_relation_is_refused(written: object) -> None:
    with pytest.raises(InvalidInputError, match="relation"):
        term(written, "relation")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ann is planning a trip", {"ann"}),
        ("planning", set()),
        ("New_York's mayor", {"new york"}),
        ("a new yorker", set()),
        ("我认识李雷和韩梅梅", {"李雷"}),
        ("我住在New York市", {"new york"}),
        ("she writes C++, not C", {"c++"}),
        ("c++11", {"c++"}),
        ("Joanna", set()),
        ("", set()),
    ],
)
def test_names_stand_in_texts_as_words(text: str, found: set[str]) -> None:
    assert names_in(text, ["ann", "new york", "李雷", "c++"]) == found


@given(
    st.lists(
        st.sampled_from(["Ann", "Müller", "is", "at", "上海", "南京", "C++", "new", "york", "'", ",", ".", "-"]),
        max_size=8,
    ).map(" ".join)
)
def test_what_a_text_holds_is_among_its_spans(text: str) -> None:
    names = ["ann", "müller", "上海", "南京", "c++", "new york", "ann müller", "上海 南京"]
    assert names_in(text, names) <= set(spans(text))


def test_a_long_text_gives_a_bounded_number_of_spans() -> None:
    assert len(spans("word another " * 5_000)) <= MOST_SPANS
    assert len(spans(" ".join(map(str, range(5_000))))) == MOST_SPANS
    assert spans("") == spans(" . , ") == []


def test_who_says_i_speaks_of_the_user() -> None:
    assert SELF in names_asked("Where do I live?")
    assert SELF in names_asked("我住在哪里？")
    assert SELF not in names_asked("Where is it in Iowa?")


@pytest.mark.parametrize(
    "triple",
    [
        Triple("", "likes", "tea"),
        Triple("Anna", "", "tea"),
        Triple("Anna", "likes", "\u200b"),
        Triple("Anna", "likes", "x" * 256),
        Triple("Anna", "likes", "tea", confidence=1.5),
        Triple("Anna", "likes", "tea", confidence=float("nan")),
        Triple("Anna", "likes", "tea", subject_type="!"),
        ("Anna", "likes", "tea"),
    ],
)
def test_a_bad_triple_is_refused(triple: object) -> None:
    with pytest.raises(InvalidInputError):
        normal_triple(triple)  # type: ignore[arg-type]


def test_rules_name_relations_in_their_normal_form() -> None:
    assert GraphRules(frozenset({"Lives In", "worksAt"})).single_valued == {"lives_in", "works_at"}
    assert {"lives_in", "works_at", "married_to"} <= GraphRules().single_valued
    with pytest.raises(InvalidInputError):
        GraphRules(frozenset({"?"}))
