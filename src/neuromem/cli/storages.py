"""Which storage --storage names. Keys come from the environment, where boto3 looks for them."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from memground.errors import InvalidInputError

if TYPE_CHECKING:
    from neuromem.providers.storage import ObjectStorage

_OPTIONS = ("endpoint", "region", "addressing")


def open_storage(name: str) -> "ObjectStorage":
    """`s3://BUCKET?endpoint=URL&region=NAME&addressing=path`, or a folder."""
    if name.startswith("s3://"):
        from neuromem.providers.s3_storage import S3Storage

        parts = urlsplit(name)
        options = dict(parse_qsl(parts.query))
        if not parts.netloc or parts.path.strip("/") or not options.keys() <= set(_OPTIONS):
            raise InvalidInputError(
                f"--storage {name!r} names no bucket; pass s3://BUCKET, with ?{'=…&'.join(_OPTIONS)}=… where it is not "
                "AWS's"
            )
        return S3Storage(bucket=parts.netloc, **options)  # pyright: ignore[reportArgumentType]  # it checks them
    if "://" in name:
        raise InvalidInputError(f"--storage {name!r} names no storage; accepted: a folder, or s3://BUCKET")
    from neuromem.providers.local_storage import LocalStorage

    return LocalStorage(Path(name))
