"""FileProcessor: files of every accepted kind become text; hostile ones become one clear error, within limits."""

import asyncio
import codecs
import contextlib
import io
import os
import time
import zlib
from typing import Any

import psutil
import pytest
from fpdf.enums import EncryptionMethod
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neuromem import ConfigurationError, FileLimits, InvalidInputError
from neuromem.documents import DocumentText, chunks
from neuromem.documents.reading import plain_document, read_document
from neuromem.services.file_processor import FileProcessor
from support.documents import LOREM, pdf, raw_pdf, rezipped, word, zipped

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


async def read(filename: str, data: bytes, **limits: Any) -> DocumentText:
    return await FileProcessor(FileLimits(**limits)).process(filename, data)


async def refusal(filename: str, data: bytes, **limits: Any) -> str:
    """The one clear line; whatever the file is, it does not take long."""
    begun = time.monotonic()
    with pytest.raises(InvalidInputError) as caught:
        await read(filename, data, **limits)
    assert time.monotonic() - begun < 60
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def children() -> set[int]:
    """Processes this one started; not their own, for a server beside it starts and ends some all the time."""
    return {child.pid for child in psutil.Process().children()}


class TestText:
    async def test_plain_text(self) -> None:
        document = await read("notes.txt", b"Anna keeps bees.\r\nShe lives in Porto.\r")
        assert (document.file_type, document.mime_type, document.title) == ("text", "text/plain", None)
        assert [(page.number, page.text) for page in document.pages] == [(1, "Anna keeps bees.\nShe lives in Porto.\n")]

    async def test_markdown_is_kept_and_its_heading_is_the_title(self) -> None:
        text = "Written in May.\n\n# Keeping *bees* #\n\n- one\n- two\n"
        document = await read("notes.MD", text.encode())
        assert (document.file_type, document.title, document.text) == ("markdown", "Keeping *bees*", text)

    @pytest.mark.parametrize(
        "encoding",
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-32-be-with-mark"],
    )
    async def test_any_encoding(self, encoding: str) -> None:
        text = "Les élèves étudient à la française, et le café déjà bu leur manque. " * 3
        data = codecs.BOM_UTF32_BE + text.encode("utf-32-be") if encoding.endswith("mark") else text.encode(encoding)
        document = await read("notes.txt", data)
        assert document.text == text
        assert bool(document.warnings) == (encoding == "cp1252")

    @pytest.mark.parametrize(
        ("encoding", "text"),
        [
            ("gb18030", "今天天气很好，我们去公园散步吧。"),
            ("big5", "今天天氣很好，我們去公園散步吧。"),
            ("shift_jis", "今日は天気がいいので、公園へ散歩に行きましょう。"),
            ("cp1251", "Привет, как дела? Сегодня хорошая погода, мы идём гулять в парк. "),
        ],
    )
    async def test_older_encodings_are_guessed_and_say_so(self, encoding: str, text: str) -> None:
        document = await read("notes.txt", (text * 5).encode(encoding))
        assert document.text == text * 5
        assert "was guessed to be" in document.warnings[0]

    async def test_it_takes_no_other_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        assert (await read("notes.md", "# Bees\n\n蜜蜂".encode())).title == "Bees"

    async def test_control_characters_go(self) -> None:
        assert (await read("log.txt", b"\xef\xbb\xbfone\x0ctwo\x0bthree\x7f and a lot more text" * 1)).text == (
            "one\ntwo\nthree and a lot more text"
        )

    @pytest.mark.parametrize("piece", [" #", "# ", "#", "\n", " ", "\t\n", "<!--", "<?xml ", "<", "\r", "-->", "\x0c"])
    async def test_no_text_keeps_the_program_busy(self, piece: str) -> None:
        data = f"# x{piece * (3_000_000 // len(piece))}y\n# x{piece * 1000}".encode()
        begun = time.process_time()
        for text in (data, data[2:], b"<html>" + data[:5000]):
            assert plain_document("a.md", text, FileLimits()) is not None or text.startswith(b"<html>")
        assert time.process_time() - begun < 5


class TestHtml:
    PAGE = """<!DOCTYPE html><html><head><title> Keeping&nbsp;bees </title><style>p {color: red}</style></head>
    <body><script>steal("everything")</script><noscript>no</noscript><!-- hidden -->
    <h1>Bees</h1><p>Anna   keeps <b>bees</b>&mdash;on a
    hill.<br>In Porto.</p><h2>Honey</h2><ul><li>clover</li><li>heather</li></ul>
    <table><tr><th>Year</th><th>Jars</th></tr><tr><td>2023</td><td>41</td></tr></table>
    <pre>a
      b</pre></body></html>"""

    async def test_text_headings_lists_and_tables(self) -> None:
        document = await read("page.html", self.PAGE.encode())
        assert (document.file_type, document.mime_type, document.title) == ("html", "text/html", "Keeping bees")
        assert document.text == (
            "# Bees\n\nAnna keeps bees—on a hill.\nIn Porto.\n\n## Honey\n\n- clover\n- heather\n\n"
            "Year | Jars\n2023 | 41\n\na\n      b"
        )

    async def test_it_is_told_by_its_content(self) -> None:
        assert (await read("page.txt", self.PAGE.encode())).file_type == "html"
        assert (await read("page.htm", b"just text <b>here</b>")).text == "just text here"

    async def test_the_declared_encoding_counts(self) -> None:
        page = '<html><head><meta charset="{}"></head><body>安娜养蜂 café</body></html>'
        assert (await read("p.html", page.format("gb18030").encode("gb18030"))).text == "安娜养蜂 café"
        page = page.replace("安娜养蜂", "Les élèves étudient à la maison") + "<p>déjà vu, où, été, élève, garçon</p>"
        assert "garçon" in (await read("p.html", page.format("no-such").encode("cp1252"))).text

    async def test_broken_pages_are_read_as_far_as_they_go(self) -> None:
        page = b"<html><p>one<p>two<div><b>three</b></p></i></div></body></html>four"
        assert (await read("p.html", page)).text.split() == ["one", "two", "three", "four"]

    async def test_deep_pages_are_refused_or_read_whole(self) -> None:
        shallow = b"<html><body>" + b"<div>" * 500 + b"deep" + b"</div>" * 500 + b"after"
        assert (await read("p.html", shallow)).text == "deep\n\nafter"
        assert "nests elements deeper" in await refusal("p.html", b"<html>" + b"<div>" * 1_000_000 + b"deep")
        assert (await read("p.html", b"<html>" + b"<b><p>" * 100_000 + b"deep")).text == "deep"

    async def test_entities_do_not_grow_and_nothing_is_fetched(self) -> None:
        bomb = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))
        page = f'<?xml version="1.0"?><!DOCTYPE html [{bomb}<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        document = await read("p.xhtml", f"{page}<html><body>hello &a9; &x;</body></html>".encode())
        assert "hello" in document.text
        assert len(document.text) < 5000
        assert "root:" not in document.text

    async def test_halves_of_characters_are_replaced(self) -> None:
        assert "\ud800" not in (await read("p.html", b"<html>a&#xD800;b&#0;c&#x1F41D;</html>")).text


class TestPdf:
    async def test_pages_and_title(self) -> None:
        document = await read("bees.pdf", pdf("Anna keeps bees.", "She lives in Porto.", title="Bees"))
        assert (document.file_type, document.mime_type, document.title) == ("pdf", "application/pdf", "Bees")
        assert [(page.number, page.text) for page in document.pages] == [
            (1, "Anna keeps bees."), (2, "She lives in Porto."),
        ]  # fmt: skip

    async def test_two_hundred_pages_show_progress(self) -> None:
        told: list[tuple[int, int]] = []
        data = pdf(*(f"Page {number}. {LOREM}" for number in range(1, 201)))
        document = await FileProcessor().process("book.pdf", data, progress=lambda *seen: told.append(seen))
        assert told == [(number, 200) for number in range(1, 201)]
        assert document.pages[199].text.startswith("Page 200.")
        assert {chunk.page for chunk in chunks(document)} == set(range(1, 201))

    async def test_it_is_told_by_its_content(self) -> None:
        assert (await read("notes.txt", pdf("Anna keeps bees."))).file_type == "pdf"

    async def test_too_many_pages_are_refused(self) -> None:
        data = pdf(*["x"] * 60)
        assert "has 60 pages; at most 50 are read (FileLimits(pages=…) allows more)" in await refusal(
            "long.pdf", data, pages=50
        )

    async def test_ten_thousand_pages_are_refused(self) -> None:
        kids = " ".join(f"{number} 0 R" for number in range(3, 10_003))
        pages = ["<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"] * 10_000
        catalog = "<< /Type /Catalog /Pages 2 0 R >>"
        data = raw_pdf(catalog, f"<< /Type /Pages /Count 10000 /Kids [{kids}] >>", *pages)
        assert "has 10,000 pages; at most 2,000 are read" in await refusal("long.pdf", data)

    async def test_pages_that_contain_themselves_are_refused(self) -> None:
        pages = "<< /Type /Pages /Count 1 /Kids [2 0 R] >>"
        await refusal("loop.pdf", raw_pdf("<< /Type /Catalog /Pages 2 0 R >>", pages))
        await refusal("loop.pdf", raw_pdf("<< /Type /Catalog /Pages 1 0 R /Kids [1 0 R] >>"))
        await refusal("loop.pdf", raw_pdf("<< /Type /Catalog /Pages 2 0 R >>", "2 0 R"))

    async def test_objects_without_end_are_refused(self) -> None:
        await refusal("deep.pdf", raw_pdf("<< /Type /Catalog /Pages " + "[" * 100_000 + "]" * 100_000 + " >>"))
        await refusal("deep.pdf", raw_pdf("<< /Type /Catalog /Pages 2 0 R >>", "<< /A " * 50_000))

    async def test_a_page_that_unpacks_to_gigabytes_is_refused(self) -> None:
        packed = zlib.compress(b"BT (bees) Tj ET " * 20_000_000, 9).decode("latin-1")
        data = raw_pdf(
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
            f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n{packed}\nendstream",
        )
        await refusal("bomb.pdf", data, seconds=20)

    @pytest.mark.parametrize("method", EncryptionMethod)
    async def test_a_password_is_asked_for_by_nobody(self, method: EncryptionMethod) -> None:
        data = pdf("Anna keeps bees.", encrypt="bee", method=method)
        assert "encrypted with a password; save it without one" in await refusal("secret.pdf", data)

    @pytest.mark.parametrize("method", EncryptionMethod)
    async def test_an_empty_password_keeps_nobody_out(self, method: EncryptionMethod) -> None:
        data = pdf("Anna keeps bees.", encrypt="", method=method)
        assert (await read("open.pdf", data, memory=100_000_000)).text == "Anna keeps bees."

    async def test_without_the_package_for_aes_it_is_named(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for package in ("cryptography", "Crypto"):
            (tmp_path / f"{package}.py").write_text("raise ImportError")
        monkeypatch.syspath_prepend(tmp_path)
        data = pdf("Anna keeps bees.", encrypt="", method=EncryptionMethod.AES_256)
        with pytest.raises(
            ConfigurationError, match=r"package cryptography is not installed.*neuromem-omnimem\[files\]"
        ):
            await read("open.pdf", data)
        assert (await read("open.pdf", pdf("Anna keeps bees.", encrypt=""))).text == "Anna keeps bees."

    async def test_pictures_of_text_are_refused(self) -> None:
        assert "no text in them; are they pictures?" in await refusal("scan.pdf", pdf("", ""))

    async def test_cut_files_are_refused(self) -> None:
        data = pdf("Anna keeps bees.", LOREM)
        for length in (9, 100, len(data) // 3):
            assert "broken PDF" in await refusal("cut.pdf", data[:length])

    async def test_a_broken_page_is_named_and_the_others_are_read(self) -> None:
        data = raw_pdf(
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Count 2 /Kids [3 0 R 4 0 R] >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Resources << /Font << /F 5 0 R >> >> /Contents 6 0 R >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Resources << /Font << /F 5 0 R >> >> /Contents 7 0 R >>",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            "<< /Length 33 >>\nstream\nBT /F 9 Tf (Anna keeps bees) Tj ET\nendstream",
            "<< /Length 4 /Filter /NoSuchFilter >>\nstream\nbees\nendstream",
        )
        document = await read("half.pdf", data)
        assert document.pages[0].text == "Anna keeps bees"
        assert document.pages[1].text == ""
        assert document.warnings[0].startswith("page 2 cannot be read")


class TestWord:
    async def test_paragraphs_headings_and_tables_in_order(self) -> None:
        def build(document: Any) -> None:
            document.add_heading("Keeping bees", 0)
            document.add_paragraph("Anna keeps bees.")
            document.add_heading("Honey", 2)
            table = document.add_table(2, 2)
            for cell, text in zip(
                (c for row in table.rows for c in row.cells), ("Year", "Jars", "2023", "41"), strict=True
            ):
                cell.text = text
            document.add_paragraph("Sold in\tPorto.")

        document = await read("bees.docx", word(build))
        assert (document.file_type, document.title) == ("docx", "Keeping bees")
        assert document.mime_type == "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        assert (
            document.text
            == "# Keeping bees\n\nAnna keeps bees.\n\n## Honey\n\nYear | Jars\n2023 | 41\n\nSold in\tPorto."
        )

    async def test_insertions_and_form_fields_are_read_and_deletions_are_not(self) -> None:
        def edited(xml: bytes) -> bytes:
            run = "<w:r><w:t>{}</w:t></w:r>"
            more = (
                f"<w:p><w:ins>{run.format('inserted')}</w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
                f"<w:sdt><w:sdtContent>{run.format(' field')}</w:sdtContent></w:sdt></w:p>"
                f"<w:sdt><w:sdtContent><w:p>{run.format('block')}</w:p></w:sdtContent></w:sdt>"
            )
            return xml.replace(b"<w:sectPr", more.encode() + b"<w:sectPr", 1)

        document = await read("bees.docx", rezipped(word(), {"word/document.xml": edited}))
        assert document.text == "Anna keeps bees.\n\ninserted field\n\nblock"

    async def test_an_archive_that_grows_is_refused(self) -> None:
        bomb = rezipped(word(), {"word/media/big.bin": b"\x00" * 300_000_000})
        assert len(bomb) < 1_000_000
        said = await refusal("bomb.docx", bomb)
        assert "would unpack to 300," in said
        assert "FileLimits(expanded=…)" in said

    async def test_a_document_that_grows_within_the_limit_is_refused_by_memory(self) -> None:
        large = b"<w:p/>" * 30_000_000
        bomb = rezipped(word(), {"word/document.xml": lambda xml: xml.replace(b"<w:sectPr", large + b"<w:sectPr", 1)})
        assert "bytes of memory" in await refusal("bomb.docx", bomb, memory=400_000_000)

    async def test_entities_are_refused(self) -> None:
        bomb = (
            b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b SYSTEM "file:///etc/passwd">]><d>&a;&b;</d>'
        )
        for part in (bomb, bomb.decode().encode("utf-16")):
            assert "defines a document type" in await refusal("x.docx", rezipped(word(), {"word/document.xml": part}))

    async def test_macros_are_refused(self) -> None:
        def enabled(types: bytes) -> bytes:
            return types.replace(
                b"vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
                b"vnd.ms-word.document.macroEnabled.main+xml",
            )

        assert "holds macros" in await refusal("m.docm", rezipped(word(), {"[Content_Types].xml": enabled}))
        assert "holds macros" in await refusal("m.docx", rezipped(word(), {"word/vbaProject.bin": b"x"}))

    async def test_encrypted_documents_are_refused(self) -> None:
        ole = (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 504 + "EncryptedPackage".encode("utf-16-le") + b"\x00" * 512
        )
        assert "encrypted with a password" in await refusal("secret.docx", ole)
        marked = bytearray(zipped({"[Content_Types].xml": b"x"}))
        marked[6] |= 1
        marked[marked.index(b"PK\x01\x02") + 8] |= 1
        assert "encrypted with a password" in await refusal("secret.docx", bytes(marked))

    async def test_cut_and_hollow_documents_are_refused(self) -> None:
        whole = word()
        for data in (whole[:-30], whole[: len(whole) // 2], b"PK\x03\x04", b"PK\x05\x06" + b"\x00" * 18):
            await refusal("cut.docx", data)
        assert "broken Word document" in await refusal("x.docx", rezipped(whole, {"word/document.xml": b"<w:"}))

    async def test_an_archive_of_very_many_files_is_refused(self) -> None:
        assert "11,000 files" in await refusal("x.docx", zipped({f"{number}": b"" for number in range(11_000)}))


class TestWhatIsNotAccepted:
    @pytest.mark.parametrize(
        ("filename", "data", "said"),
        [
            ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(30), "Portable Network Graphics"),
            ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(30), "JPEG"),
            ("a.exe", b"MZ\x90\x00" + bytes(200), "Windows"),
            ("a", b"\x7fELF\x02\x01\x01" + bytes(60), "ELF"),
            ("a.rtf", b"{\\rtf1 Anna keeps bees}", "RTF"),
            ("a.ps", b"%!PS-Adobe-3.0\n(bees) show", "PostScript|EPS"),
            ("a.gz", b"\x1f\x8b\x08\x00" + bytes(20), "GZIP"),
            ("a.doc", OLE + bytes(600), "old Office format"),
            ("a.zip", zipped({"a.txt": b"Anna keeps bees."}), "a zip archive"),
            ("a.xlsx", zipped({"[Content_Types].xml": b"spreadsheetml.sheet.main+xml"}), "an Excel workbook"),
            ("a.pptx", zipped({"[Content_Types].xml": b"presentationml.main+xml"}), "a PowerPoint presentation"),
            ("a.odt", zipped({"mimetype": b"application/vnd.oasis.opendocument.text"}), "an OpenDocument text"),
            ("a.epub", zipped({"mimetype": b"application/epub+zip"}), "an EPUB book"),
            ("a.txt", b"one\x00two" * 50, "neither text nor a document"),
            ("a.txt", bytes(1000), "seems to be"),
            ("a.txt", bytes(range(1, 32)) * 9, "neither text nor a document"),
            ("a.txt", b"\xff\xfe\x00\xd8\x00\xd8", "UTF-16"),
            ("a.pdf", b"Anna keeps bees.", "is no PDF, though it is called one, but plain text"),
            ("a.pdf", word(), "is no PDF, though it is called one"),
            ("a.docx", pdf("x"), "is no Word document, though it is called one, but a PDF"),
            ("a.docx", b"<html>x</html>", "is no Word document, though it is called one, but HTML"),
            ("a.txt", b"", "a.txt is empty"),
            ("a.txt", b" \n\t", "holds no text"),
            ("a.html", b"<html><script>x()</script></html>", "holds no text"),
        ],
    )  # fmt: skip
    async def test_it_is_named(self, filename: str, data: bytes, said: str) -> None:
        message = await refusal(filename, data)
        assert message.startswith(filename)
        assert any(part in message for part in said.split("|")), message

    @pytest.mark.parametrize(
        ("filename", "data", "limits", "said"),
        [
            ("a.txt", b"bees" * 30, {"bytes": 100}, "has 120 bytes; at most 100 are read (FileLimits(bytes=…)"),
            ("a.txt", b"bees" * 30, {"characters": 100}, "has 120 characters of text; at most 100"),
            ("a.html", b"<html>" + b"bees" * 30, {"characters": 100}, "has 120 characters of text; at most 100"),
            ("a.pdf", pdf(LOREM, LOREM), {"characters": 700}, "at most 700 are read (FileLimits(characters=…)"),
            ("a.docx", word(), {"expanded": 1000}, "at most 1,000 are read (FileLimits(expanded=…)"),
            ("a.pdf", pdf("x"), {"seconds": 0.01}, "could not be read within 0.01 seconds (FileLimits(seconds=…)"),
        ],
    )
    async def test_limits_are_named(self, filename: str, data: bytes, limits: dict[str, Any], said: str) -> None:
        assert said in await refusal(filename, data, **limits)

    @pytest.mark.parametrize("filename", ["", "a\x00", "\ud800", "a" * 501, None, 3])
    async def test_names_that_are_none(self, filename: Any) -> None:
        with pytest.raises(InvalidInputError, match="filename"):
            await FileProcessor().process(filename, b"x")

    async def test_arguments_of_another_kind(self) -> None:
        for data in ("text", None, bytearray(b"x"), io.BytesIO(b"x")):
            with pytest.raises(InvalidInputError, match="data must be bytes"):
                await FileProcessor().process("a.txt", data)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="progress must be a function"):
            await FileProcessor().process("a.txt", b"x", progress=3)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="limits must be a FileLimits"):
            FileProcessor({"bytes": 3})  # type: ignore[arg-type]
        for wrong in ({"bytes": 0}, {"pages": 1.5}, {"seconds": -1}, {"memory": True}, {"seconds": float("nan")}):
            with pytest.raises(InvalidInputError, match=rf"FileLimits.{next(iter(wrong))}="):
                FileLimits(**wrong)


class TestTheProcess:
    async def test_it_is_gone_when_the_call_was_cancelled(self) -> None:
        before = children()
        data = pdf(*[LOREM] * 150)
        began = asyncio.Event()
        reading = asyncio.create_task(FileProcessor().process("a.pdf", data, progress=lambda *_: began.set()))
        await began.wait()
        assert children() - before
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert children() <= before

    async def test_it_is_gone_when_time_is_up(self) -> None:
        before = children()
        await refusal("a.pdf", pdf(*[LOREM] * 300), seconds=0.4)
        assert children() <= before

    async def test_it_is_gone_when_progress_raises(self) -> None:
        def broken(done: int, total: int) -> None:
            raise TimeoutError("mine")

        before = children()
        with pytest.raises(TimeoutError, match="mine"):
            await FileProcessor().process("a.pdf", pdf("x", "y"), progress=broken)
        assert children() <= before

    async def test_one_that_was_killed_is_an_error_of_the_file(self) -> None:
        before = children()

        def kill(done: int, total: int) -> None:
            for child in children() - before:
                os.kill(child, 9)

        with pytest.raises(InvalidInputError, match=r"what reads it was ended by signal 9"):
            await FileProcessor().process("a.pdf", pdf(*[LOREM] * 200), progress=kill)

    async def test_it_has_little_memory(self) -> None:
        page = b"<html>" + b"<p>x" * 3_000_000
        for memory in (100_000_000, 250_000_000, 400_000_000):
            assert "bytes of memory" in await refusal("a.html", page, memory=memory)

    async def test_many_files_at_once(self) -> None:
        files = [FileProcessor().process(f"{n}.pdf", pdf(f"Number {n}")) for n in range(8)]
        assert [document.text for document in await asyncio.gather(*files)] == [f"Number {n}" for n in range(8)]

    async def test_modules_beside_the_program_are_not_taken_for_libraries(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pypdf.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)
        assert (await read("a.pdf", pdf("Anna keeps bees."))).text == "Anna keeps bees."

    async def test_names_may_hold_anything(self) -> None:
        assert "'; rm -rf x.pdf is no PDF" in await refusal("'; rm -rf x.pdf", b"x")


def _is_clear(filename: str, data: bytes) -> None:
    limits = FileLimits(expanded=1_000_000, characters=1_000_000)
    try:
        document = read_document(filename, data, limits, lambda done, total: None)
    except InvalidInputError:
        return
    assert document.text.strip()
    text = document.text + "".join(document.warnings) + (document.title or "")
    assert "\x00" not in text
    text.encode()


STARTS = [
    b"",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"<html>",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
]
NAMES = st.sampled_from(["a", "a.txt", "a.md", "a.html", "a.pdf", "a.docx"])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, st.sampled_from(STARTS), st.binary(max_size=300))
@example("a", b"", b"+AAA-")
def test_random_bytes_are_text_or_a_clear_error(filename: str, start: bytes, data: bytes) -> None:
    _is_clear(filename, start + data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([pdf("Anna keeps bees.", "In Porto."), word(), TestHtml.PAGE.encode()]), st.data())
def test_damaged_files_are_text_or_a_clear_error(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))
    _is_clear("a", bytes(damaged))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, st.sampled_from(STARTS), st.binary(min_size=1, max_size=300))
async def test_random_bytes_in_a_process_of_their_own(filename: str, start: bytes, data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        assert (await FileProcessor().process(filename, start + data)).text.strip()
