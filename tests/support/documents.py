"""Files for tests, made by the libraries that write them or byte by byte."""

import io
import zipfile
from collections.abc import Callable

import docx
from fpdf import FPDF
from fpdf.enums import EncryptionMethod

LOREM = "Bees make honey and the keeper takes a share of it. " * 12


def pdf(
    *pages: str,
    title: str | None = None,
    encrypt: str | None = None,
    method: EncryptionMethod = EncryptionMethod.RC4,
) -> bytes:
    """One page for each text; `encrypt`: the password that opens it."""
    document = FPDF()
    document.set_font("helvetica", size=11)
    if title:
        document.set_title(title)
    if encrypt is not None:
        document.set_encryption("owner", encrypt, encryption_method=method)
    for text in pages:
        document.add_page()
        document.multi_cell(0, text=text)
    return bytes(document.output())


def raw_pdf(*objects: str) -> bytes:
    """Objects numbered from 1, the first of them the catalog; with a correct cross-reference table."""
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return body + f"{end}startxref\n{len(body)}\n%%EOF\n".encode()


def word(build: Callable[..., None] | None = None) -> bytes:
    """A Word document; `build` is given python-docx's Document."""
    document = docx.Document()
    if build is None:
        document.add_paragraph("Anna keeps bees.")
    else:
        build(document)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def rezipped(archive: bytes, changes: dict[str, bytes | Callable[[bytes], bytes]]) -> bytes:
    """The archive with parts replaced, changed or added."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in dict.fromkeys([*old.namelist(), *changes]):
            change = changes.get(name)
            if isinstance(change, bytes):
                new.writestr(name, change)
            else:
                new.writestr(name, change(old.read(name)) if change else old.read(name))
    return file.getvalue()


def zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()
