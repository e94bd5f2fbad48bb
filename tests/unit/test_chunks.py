"""Chunks: where text is cut."""

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memground.errors import InvalidInputError
from neuromem.documents import DocumentChunk, DocumentPage, DocumentText, chunks


def document(*pages: str) -> DocumentText:
    numbered = tuple(DocumentPage(number, text) for number, text in enumerate(pages, 1))
    return DocumentText("text", "text/plain", None, numbered)


def texts(text: str, characters: int = 100, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunks(document(text), characters=characters, overlap=overlap)]


def test_a_short_page_is_one_chunk() -> None:
    assert chunks(document("  Anna keeps bees.\n")) == (DocumentChunk("Anna keeps bees.", 1, 2, 18),)


def test_no_chunk_goes_over_pages_and_blank_pages_have_none() -> None:
    found = chunks(document("one", " \n ", "three"))
    assert [(chunk.page, chunk.text) for chunk in found] == [(1, "one"), (3, "three")]


def test_paragraphs_are_kept_whole() -> None:
    first, second = "a word " * 10, "b word " * 10
    assert texts(f"{first.strip()}\n\n{second.strip()}") == [first.strip(), second.strip()]


def test_a_heading_stays_with_what_it_is_over() -> None:
    text = f"{'a word ' * 9}\n\n## Bees\n\n{'b word ' * 12}"
    assert texts(text)[1].startswith("## Bees\n\nb word")


def test_sentences_are_kept_whole() -> None:
    text = "This is the first sentence of the text, not short. " * 4
    assert set(texts(text, 110)) == {("This is the first sentence of the text, not short. " * 2).strip()}


def test_chinese_sentences_are_kept_whole() -> None:
    sentence = "安娜在山坡上养蜜蜂，每年夏天都能收到许多蜂蜜。"
    for chunk in texts(sentence * 20, 60):
        assert chunk.startswith("安娜")
        assert chunk.endswith("。")


def test_words_are_cut_only_where_nothing_else_is_left() -> None:
    words = "nothing but words here without any mark at all " * 10
    assert set(" ".join(texts(words)).split()) == set(words.split())
    assert texts("x" * 250) == ["x" * 100, "x" * 100, "x" * 50]


def test_an_overlap_repeats_the_last_sentence() -> None:
    text = "".join(f"Sentence number {number:02} ends here. " for number in range(10))
    found = texts(text, 100, 40)
    assert len(found) > 4
    for before, after in itertools.pairwise(found):
        assert before.endswith(re.match(r"Sentence number \d\d ends here\.", after)[0])  # type: ignore[index]


def test_marks_are_not_taken_from_their_letters() -> None:
    assert all(not chunk.startswith("\u0301") for chunk in texts("xe\u0301" * 100, 100))


@pytest.mark.parametrize("options", [{"characters": 10}, {"characters": 1.5}, {"overlap": -1}, {"overlap": 501}])
def test_sizes_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match=rf"{next(iter(options))}="):
        chunks(document("x"), **options)


ODD = st.text(st.sampled_from(list("ab中。.!? \n\t#,，\u0301\u00a0”)")), max_size=600)


@settings(max_examples=300, deadline=None)
@given(st.lists(ODD, max_size=3), st.integers(20, 90), st.integers(0, 45))
def test_every_visible_character_is_in_a_chunk(pages: list[str], characters: int, overlap: int) -> None:
    whole = document(*pages)
    overlap = min(overlap, characters // 2)
    found = chunks(whole, characters=characters, overlap=overlap)
    assert found == chunks(whole, characters=characters, overlap=overlap)
    for page in whole.pages:
        mine = [chunk for chunk in found if chunk.page == page.number]
        covered = {place for chunk in mine for place in range(chunk.start, chunk.end)}
        assert covered >= {place for place, character in enumerate(page.text) if not character.isspace()}
        assert [chunk.start for chunk in mine] == sorted({chunk.start for chunk in mine})
        for before, after in itertools.pairwise(mine):
            assert before.end - after.start <= overlap
    for chunk in found:
        assert chunk.text == whole.pages[chunk.page - 1].text[chunk.start : chunk.end] == chunk.text.strip() != ""
        assert len(chunk.text) <= characters


@pytest.mark.parametrize("piece", ["a. ", "\n", ".", "x", "# a\n", "中", " \n", "!”"])
def test_large_texts_of_any_kind_take_little_time(piece: str) -> None:
    text = "x" + piece * (1_000_000 // len(piece)) + "x"
    begun = time.process_time()
    chunks(document(text))
    assert time.process_time() - begun < 10
