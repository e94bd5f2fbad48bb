"""S3Storage: files in a bucket of any server that speaks S3."""

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from memground.errors import ConfigurationError, InvalidInputError, NotFoundError, ProviderError, UnavailableError
from memground.extras import missing_package
from memground.text import check_text, show
from neuromem.providers.object_keys import check_content, check_key, check_seconds, new_key
from neuromem.providers.storage import ObjectStorage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AT_ONCE = 8
_EXCERPT = 200
_FIRST_REGION = "us-east-1"
"""The region a bucket is made in when none is named, and the only one that must not be named then."""
_MISSING = {"NoSuchKey", "NotFound", "404"}
_NO_BUCKET = {"NoSuchBucket", "404", "NotFound"}
_LATER = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ServiceUnavailable", "InternalError", "Throttling"}
_OURS_ALREADY = {"BucketAlreadyOwnedByYou", "OperationAborted"}


class S3Storage(ObjectStorage):
    """A bucket of AWS S3, MinIO, Huawei OBS or another server that speaks S3, with signature version 4.

    `endpoint`: the server's address (default: AWS). `access_key`, `secret_key`: both, or neither, which leaves it to
    boto3 to find some (environment, ``~/.aws``, the machine's role). `addressing`: "path" puts the bucket behind the
    server's name, "virtual" before it; default: virtual for AWS, path where an `endpoint` is given, which MinIO wants;
    OBS wants "virtual". `timeout`: seconds to connect, and for each silence of the server; `max_retries`: how many
    attempts may follow a first that failed for a reason that may pass.

    Raises ``ConfigurationError`` when boto3 is missing. Calls run in threads of its own; close it when done.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        *,
        bucket: str = "neuromem",
        region: str | None = None,
        addressing: Literal["path", "virtual"] | None = None,
        timeout: float = 30,
        max_retries: int = 3,
    ) -> None:
        _check_endpoint(endpoint)
        if (access_key is None) != (secret_key is None):
            raise InvalidInputError("access_key and secret_key belong together; pass both, or neither")
        for key, what in ((access_key, "access_key"), (secret_key, "secret_key")):
            if key is not None and (not isinstance(key, str) or not key.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(f"{what} is empty or no text")  # never shown, whatever it is
        if addressing not in (None, "path", "virtual"):
            raise InvalidInputError(f"addressing={show(addressing)} is not accepted; pass 'path' or 'virtual'")
        if not isinstance(timeout, int | float) or not 0 < timeout <= 3600:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"timeout={show(timeout)} is not accepted; pass seconds, more than 0")
        if type(max_retries) is not int or not 0 <= max_retries <= 20:
            raise InvalidInputError(f"max_retries={show(max_retries)} is not accepted; pass a whole number up to 20")
        self.endpoint = endpoint
        self.bucket = check_text(bucket, "bucket", limit=63)
        self._keys = (access_key, secret_key)
        self._region = region
        self._addressing: Literal["path", "virtual"] = addressing or ("path" if endpoint else "virtual")
        self._timeout = timeout
        self._max_retries = max_retries
        self._opening = threading.Lock()
        self._client: S3Client | None = None
        self._threads = _threads()
        _boto3()

    def __repr__(self) -> str:
        return f"S3Storage({self.endpoint!r}, bucket={self.bucket!r})"

    async def init(self) -> None:
        """Makes the bucket if it is missing."""
        await self._run(self._make_bucket)

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        check_content(data, content_type)
        key = new_key(prefix, filename)
        await self._run(
            # As an attachment: a browser stores a page somebody uploaded, and does not run it.
            lambda client: client.put_object(
                Bucket=self.bucket, Key=key, Body=data, ContentType=content_type, ContentDisposition="attachment"
            )
        )
        return key

    async def download(self, object_key: str) -> bytes:
        key = check_key(object_key)
        return await self._run(lambda client: client.get_object(Bucket=self.bucket, Key=key)["Body"].read(), key)

    async def delete(self, object_key: str) -> None:
        key = check_key(object_key)
        with suppress(NotFoundError):
            await self._run(lambda client: client.delete_object(Bucket=self.bucket, Key=key), key)

    async def delete_prefix(self, prefix: str) -> None:
        def remove(client: "S3Client") -> None:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    client.delete_object(Bucket=self.bucket, Key=found["Key"])  # pyright: ignore[reportTypedDictNotRequiredAccess]

        check_key(prefix)
        await self._run(remove)

    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        """An address anybody can download the file from for `expires_in` seconds (at most a week); made without
        asking the server, so also for what it does not hold."""
        parameters = {"Bucket": self.bucket, "Key": check_key(object_key)}
        seconds = check_seconds(expires_in)
        return await self._run(
            lambda client: client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        )

    async def close(self) -> None:
        """Release connections and threads. A later call opens them again."""
        client, self._client = self._client, None
        threads, self._threads = self._threads, _threads()
        await asyncio.to_thread(threads.shutdown)
        if client is not None:
            client.close()

    async def _run[T](self, call: "Callable[[S3Client], T]", key: str | None = None) -> T:
        def run() -> T:
            with self._naming_failures(key):
                return call(self._opened())

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _opened(self) -> "S3Client":
        with self._opening:
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> "S3Client":
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": self._addressing},
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            retries={"mode": "standard", "total_max_attempts": self._max_retries + 1},
            max_pool_connections=_AT_ONCE,
            # What boto3 does otherwise since 2025 is known to AWS only; others refuse it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        access_key, secret_key = self._keys
        session = _boto3().session.Session()
        # Only AWS cares which it is, where a server is named.
        region = self._region or session.region_name or _FIRST_REGION
        return cast(
            "S3Client",
            session.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                region_name=region,
                config=config,
            ),
        )

    def _make_bucket(self, client: "S3Client") -> None:
        from botocore.exceptions import ClientError

        try:
            client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if _code(error) not in _NO_BUCKET:
                raise
            region = client.meta.region_name
            place: Any = {} if region == _FIRST_REGION else {"LocationConstraint": region}
            try:
                client.create_bucket(Bucket=self.bucket, **({"CreateBucketConfiguration": place} if place else {}))
            except ClientError as refusal:
                if _code(refusal) not in _OURS_ALREADY:  # somebody was faster
                    raise

    @contextmanager
    def _naming_failures(self, key: str | None) -> Generator[None]:
        """The errors of boto3 as ours. Messages name server and bucket, never a key that opens them."""
        from botocore import exceptions as failures

        server = f"the bucket {self.bucket} at {self.endpoint or 'AWS'}"
        try:
            yield
        except failures.ClientError as error:
            raise self._refusal(server, error, key) from None
        except (failures.NoCredentialsError, failures.PartialCredentialsError):
            raise ConfigurationError(
                f"there are no keys for {server}; pass access_key and secret_key, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from None
        except (failures.HTTPClientError, failures.ConnectionError, failures.IncompleteReadError, OSError) as error:
            raise UnavailableError(f"{server} cannot be reached: {self._without_keys(error)}") from None
        except (failures.BotoCoreError, ValueError) as error:
            raise ProviderError(f"{server} cannot be used: {self._without_keys(error)}") from None

    def _refusal(self, server: str, error: Any, key: str | None) -> Exception:
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = self._without_keys(error.response.get("Error", {}).get("Message") or code)
        if key is not None and code in _MISSING:
            return NotFoundError(f"no file is stored under object_key={show(key)}")
        if code == "NoSuchBucket":
            return ProviderError(f"{server} does not exist; call init() to make it")
        if code in _LATER or status >= 500 or status == 429:
            return UnavailableError(f"{server} cannot answer now ({code}): {said}")
        if status in (401, 403):
            return ProviderError(
                f"{server} refused ({code}): {said}; check access_key, secret_key, region and what they are allowed"
            )
        return ProviderError(f"{server} refused ({code}): {said}")

    def _without_keys(self, said: object) -> str:
        text = str(said)
        for key in self._keys:
            text = text.replace(key, "…") if key else text
        return text[:_EXCERPT]


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise missing_package("boto3", "s3") from None
    return boto3


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="neuromem-s3")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _check_endpoint(endpoint: object) -> None:
    if endpoint is None:
        return
    check_text(endpoint, "endpoint", limit=500)
    try:
        parts = urlsplit(str(endpoint))
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise InvalidInputError(
            f"endpoint={show(endpoint)} is no address of a server; pass one such as 'http://localhost:9000'"
        )
