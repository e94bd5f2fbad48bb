"""Files read into text. Knows no database: bytes in, pages of text and chunks of them out."""

from neuromem.documents.limits import FileLimits
from neuromem.documents.splitting import chunks
from neuromem.documents.text import DocumentChunk, DocumentPage, DocumentText

__all__ = ["DocumentChunk", "DocumentPage", "DocumentText", "FileLimits", "chunks"]
