"""Every storage keeps the same promises: one suite, run over a folder and over a real S3 gateway."""

import asyncio
import hashlib
import logging
import os
import stat
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dev.servers.s3 import S3Server

from neuromem import (
    ConfigurationError,
    InvalidInputError,
    LocalStorage,
    NotFoundError,
    ObjectStorage,
    ProviderError,
    S3Storage,
    UnavailableError,
)


def s3_storage(server: S3Server, **options: Any) -> S3Storage:
    options.setdefault("bucket", f"b{uuid.uuid4().hex[:12]}")
    options.setdefault("access_key", server.access_key)
    options.setdefault("secret_key", server.secret_key)
    return S3Storage(server.endpoint, **options)


def fetched(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read()


class Storages:
    """What holds for all of them; a subclass gives the `storage`, made ready by `init`."""

    async def test_what_was_uploaded_is_downloaded(self, storage: ObjectStorage) -> None:
        for data in (b"Anna keeps bees", b"", bytes(range(256)) * 100):
            key = await storage.upload("anna/files", "notes.txt", data, "text/plain")
            assert await storage.download(key) == data

    async def test_a_key_begins_with_its_prefix_and_ends_with_the_name(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna/files", "养蜂 notes (1).txt", b"x", "text/plain")
        assert key.startswith("anna/files/")
        assert key.endswith("/养蜂 notes (1).txt")
        assert await storage.download(key) == b"x"

    async def test_no_key_is_given_twice(self, storage: ObjectStorage) -> None:
        keys = await asyncio.gather(
            *(storage.upload("anna", "a.txt", str(number).encode(), "text/plain") for number in range(40))
        )
        assert len(set(keys)) == 40
        found = await asyncio.gather(*map(storage.download, keys))
        assert found == [str(number).encode() for number in range(40)]

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "..", "/", "C:\\x\\y.txt", ". .", "a" * 400, "ü" * 400, "%2e%2e"]
    )
    async def test_a_file_may_have_any_name(self, storage: ObjectStorage, name: str) -> None:
        key = await storage.upload("anna", name, b"x", "text/plain")
        assert key.count("/") == 2
        assert not {"", ".", ".."} & set(key.split("/"))
        assert len(key) <= 500
        assert await storage.download(key) == b"x"
        await storage.delete(key)

    async def test_what_is_under_a_prefix_is_removed_and_nothing_else(self, storage: ObjectStorage) -> None:
        gone = [await storage.upload(f"documents/aa{n % 2}", "a.txt", b"x", "text/plain") for n in range(4)]
        kept = await storage.upload("documents/ab", "a.txt", b"y", "text/plain")
        for _ in range(2):
            await storage.delete_prefix("documents/aa")
            await storage.delete_prefix("nothing/here")
        for key in gone:
            with pytest.raises(NotFoundError):
                await storage.download(key)
        assert await storage.download(kept) == b"y"
        for wrong in ("", "/", "..", "a/../b"):
            with pytest.raises(InvalidInputError):
                await storage.delete_prefix(wrong)

    async def test_deleting_removes_it_and_may_be_repeated(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        other = await storage.upload("anna", "a.txt", b"y", "text/plain")
        await storage.delete(key)
        await storage.delete(key)
        with pytest.raises(NotFoundError, match="no file is stored under object_key="):
            await storage.download(key)
        assert await storage.download(other) == b"y"

    async def test_what_was_never_there_is_not_found(self, storage: ObjectStorage) -> None:
        for key in (f"anna/{uuid.uuid4()}/a.txt", "anna", "never"):
            with pytest.raises(NotFoundError):
                await storage.download(key)
            await storage.delete(key)

    async def test_a_prefix_is_no_file(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        with pytest.raises(NotFoundError):
            await storage.download(key.rpartition("/")[0])

    @pytest.mark.parametrize(
        "key", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "", "a\\..\\b", "a\x00b", "x" * 501, 3]
    )
    async def test_keys_that_lead_elsewhere_are_refused(self, storage: ObjectStorage, key: Any) -> None:
        for call in (storage.download, storage.delete, storage.get_presigned_url):
            with pytest.raises(InvalidInputError, match="object_key"):
                await call(key)

    @pytest.mark.parametrize("prefix", ["", "..", "a/../b", "/a", "a/", "a\nb", "\ud800", None, "x" * 301])
    async def test_prefixes_that_lead_elsewhere_are_refused(self, storage: ObjectStorage, prefix: Any) -> None:
        with pytest.raises(InvalidInputError, match="prefix"):
            await storage.upload(prefix, "a.txt", b"x", "text/plain")

    async def test_what_cannot_be_stored_is_refused(self, storage: ObjectStorage) -> None:
        with pytest.raises(InvalidInputError, match="data must be bytes, got str"):
            await storage.upload("anna", "a.txt", "x", "text/plain")  # type: ignore[arg-type]
        for name in ("", "a\x00", "\ud800", None):
            with pytest.raises(InvalidInputError, match="filename"):
                await storage.upload("anna", name, b"x", "text/plain")  # type: ignore[arg-type]
        for content_type in ("", "text/plain\r\nX-Evil: 1", None):
            with pytest.raises(InvalidInputError, match="content_type"):
                await storage.upload("anna", "a.txt", b"x", content_type)  # type: ignore[arg-type]
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        for seconds in (0, -1, 604_801, 1.5, True):
            with pytest.raises(InvalidInputError, match="expires_in"):
                await storage.get_presigned_url(key, seconds)  # type: ignore[arg-type]

    async def test_twenty_megabytes_come_back_as_they_went(self, storage: ObjectStorage) -> None:
        data = os.urandom(1 << 20) * 20
        key = await storage.upload("anna", "big.bin", data, "application/octet-stream")
        assert hashlib.sha256(await storage.download(key)).digest() == hashlib.sha256(data).digest()
        await storage.delete(key)

    async def test_an_address_leads_to_the_file(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna", "养蜂 notes.txt", b"Anna keeps bees", "text/plain")
        assert await asyncio.to_thread(fetched, await storage.get_presigned_url(key)) == b"Anna keeps bees"

    async def test_init_may_be_called_again(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        await asyncio.gather(storage.init(), storage.init())
        assert await storage.download(key) == b"x"

    async def test_it_works_again_after_being_closed(self, storage: ObjectStorage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        await storage.close()
        assert await storage.download(key) == b"x"


class TestFolder(Storages):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[LocalStorage]:
        storage = LocalStorage(tmp_path / "files")
        await storage.init()
        yield storage
        await storage.close()

    async def test_nobody_else_may_read_it(self, storage: LocalStorage) -> None:
        await storage.upload("anna/files", "a.txt", b"x", "text/plain")
        paths = [storage.folder, *storage.folder.rglob("*")]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()}
        assert modes == {0o700}
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}

    async def test_nothing_remains_of_what_was_deleted(self, storage: LocalStorage) -> None:
        keys = [await storage.upload("anna/files", "a.txt", b"x", "text/plain") for _ in range(3)]
        for key in keys:
            await storage.delete(key)
        assert list(storage.folder.rglob("*")) == []
        assert storage.folder.is_dir()

    async def test_uploads_and_deletions_do_not_disturb_each_other(self, storage: LocalStorage) -> None:
        async def round_trip(number: int) -> None:
            key = await storage.upload("anna/files", "a.txt", str(number).encode(), "text/plain")
            assert await storage.download(key) == str(number).encode()
            await storage.delete(key)

        for _ in range(5):
            await asyncio.gather(*map(round_trip, range(40)))
        assert list(storage.folder.rglob("*")) == []

    async def test_links_are_not_followed(self, storage: LocalStorage, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.mkdir()
        (secret / "a.txt").write_bytes(b"secret")
        (storage.folder / "link").symlink_to(secret, target_is_directory=True)
        (storage.folder / "file.txt").symlink_to(secret / "a.txt")
        for key in ("link/a.txt", "file.txt"):
            with pytest.raises(NotFoundError):
                await storage.download(key)
        with pytest.raises(NotFoundError):
            await storage.delete("link/a.txt")
        with pytest.raises(NotFoundError):
            await storage.upload("link", "b.txt", b"x", "text/plain")
        assert [path.name for path in secret.iterdir()] == ["a.txt"]

    async def test_the_folder_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        storage = LocalStorage(tmp_path / "link")
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        assert await storage.download(key) == b"x"

    async def test_a_failed_write_leaves_nothing(self, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ProviderError, match="No space left on device"):
            await storage.upload("anna", "a.txt", b"x", "text/plain")
        assert [path for path in storage.folder.rglob("*") if path.is_file()] == []

    async def test_a_folder_that_cannot_be_one_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        storage = LocalStorage(tmp_path / "file")
        with pytest.raises(ProviderError, match="file"):
            await storage.init()
        with pytest.raises(ProviderError):
            await storage.upload("anna", "a.txt", b"x", "text/plain")
        for folder in ("", 3):
            with pytest.raises(InvalidInputError, match="folder="):
                LocalStorage(folder)  # type: ignore[arg-type]

    async def test_the_address_is_a_path_of_this_machine(self, storage: LocalStorage) -> None:
        key = await storage.upload("anna", "a b.txt", b"x", "text/plain")
        assert await storage.get_presigned_url(key) == f"file://{storage.folder}/{key.replace(' ', '%20')}"

    def test_where_files_are_unless_told(self) -> None:
        assert LocalStorage().folder == Path.home() / ".neuromem" / "files"
        assert repr(LocalStorage("/srv/x")) == "LocalStorage('/srv/x')"


class TestS3(Storages):
    @pytest.fixture
    async def storage(self, s3: S3Server) -> AsyncIterator[S3Storage]:
        storage = s3_storage(s3)
        await storage.init()
        yield storage
        await storage.close()

    @pytest.fixture
    def own(self) -> Iterator[S3Server]:
        """A server that a test may stop."""
        with S3Server() as server:
            yield server

    @pytest.mark.seed("2", "files are stored by boto3, through the interface of S3")
    @pytest.mark.seed("5.3", "S3Storage by boto3: MinIO, AWS S3, Huawei OBS")
    async def test_an_address_is_signed_by_version_4_and_names_its_end(self, storage: S3Storage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        address = urlsplit(await storage.get_presigned_url(key, 60))
        query = parse_qs(address.query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == ["60"]
        assert address.path == f"/{storage.bucket}/{key}"

    async def test_an_address_ends_when_it_says(self, storage: S3Storage) -> None:
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        address = await storage.get_presigned_url(key, 1)
        assert await asyncio.to_thread(fetched, address) == b"x"
        await asyncio.sleep(2.1)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            await asyncio.to_thread(fetched, address)

    async def test_an_address_is_for_one_file(self, storage: S3Storage) -> None:
        one = await storage.upload("anna", "a.txt", b"x", "text/plain")
        other = await storage.upload("anna", "a.txt", b"y", "text/plain")
        address = (await storage.get_presigned_url(one)).replace(one, other)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            await asyncio.to_thread(fetched, address)

    async def test_browsers_store_what_they_fetch_and_do_not_run_it(self, storage: S3Storage) -> None:
        key = await storage.upload("anna", "page.html", b"<script>steal()</script>", "text/html")
        with urllib.request.urlopen(await storage.get_presigned_url(key), timeout=10) as answer:
            assert answer.headers["content-type"] == "text/html"
            assert answer.headers["content-disposition"] == "attachment"

    async def test_the_three_services_are_addressed_as_they_want(self) -> None:
        """MinIO behind a path, AWS and OBS by the bucket's own name; signing asks no server."""
        keys = {"access_key": "k", "secret_key": "s", "bucket": "mine", "region": "eu-west-1"}
        storages = {
            "localhost:9000/mine": S3Storage("http://localhost:9000", **keys),
            "mine.s3.eu-west-1.amazonaws.com": S3Storage(**keys),
            "mine.obs.cn-north-4.myhuaweicloud.com": S3Storage(
                "https://obs.cn-north-4.myhuaweicloud.com", **keys, addressing="virtual"
            ),
        }
        for place, storage in storages.items():
            address = await storage.get_presigned_url("anna/a.txt")
            assert address.partition("://")[2].startswith(f"{place}/anna/a.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256")
            await storage.close()

    async def test_wrong_keys_are_an_error_that_says_so(self, s3: S3Server) -> None:
        hint = "check access_key, secret_key, region"
        for wrong, said in (
            ({"secret_key": "wrong-secret-81"}, hint),
            ({"access_key": "wrong-access-81"}, "access key"),
        ):
            storage = s3_storage(s3, **wrong)
            with pytest.raises(ProviderError, match=rf"refused \(\w+\).*{said}") as caught:
                await storage.upload("anna", "a.txt", b"x", "text/plain")
            with pytest.raises(ProviderError, match="refused"):
                await storage.init()
            assert not any(value in str(caught.value) for value in wrong.values())
            await storage.close()

    async def test_no_bucket_is_an_error_that_says_what_to_do(self, s3: S3Server) -> None:
        storage = s3_storage(s3, bucket="never-made")
        for call in (storage.upload("anna", "a.txt", b"x", "text/plain"), storage.download("a/b")):
            with pytest.raises(ProviderError, match=r"never-made .* does not exist; call init\(\)"):
                await call
        await storage.close()

    async def test_many_may_make_the_bucket_at_once(self, s3: S3Server) -> None:
        bucket = f"b{uuid.uuid4().hex[:12]}"
        storages = [s3_storage(s3, bucket=bucket) for _ in range(4)]
        await asyncio.gather(*(storage.init() for storage in storages))
        key = await storages[0].upload("anna", "a.txt", b"x", "text/plain")
        assert await storages[1].download(key) == b"x"
        for storage in storages:
            await storage.close()

    async def test_a_server_that_goes_is_unavailable(self, own: S3Server) -> None:
        storage = s3_storage(own, timeout=2, max_retries=1)
        await storage.init()
        key = await storage.upload("anna", "a.txt", b"x", "text/plain")
        big = os.urandom(1 << 20) * 20
        uploads = [asyncio.create_task(storage.upload("anna", "b.bin", big, "text/plain")) for _ in range(8)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(own.stop)
        results = await asyncio.gather(*uploads, return_exceptions=True)
        assert {type(result) for result in results} <= {str, UnavailableError}
        for call in (storage.download(key), storage.delete(key), storage.init()):
            with pytest.raises(UnavailableError, match=r"bucket .* cannot be reached"):
                await call
        assert "X-Amz-Signature" in await storage.get_presigned_url(key)
        await storage.close()

    async def test_a_server_that_was_never_there_is_unavailable(self) -> None:
        storage = S3Storage("http://127.0.0.1:1", "k", "s", timeout=1, max_retries=0)
        with pytest.raises(UnavailableError, match=r"http://127.0.0.1:1 cannot be reached"):
            await storage.init()
        await storage.close()

    async def test_secrets_are_never_shown(
        self, s3: S3Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.DEBUG)
        storage = s3_storage(s3)
        await storage.init()
        await storage.upload("anna", "a.txt", b"x", "text/plain")
        await storage.close()
        assert s3.secret_key not in caplog.text
        assert s3.secret_key not in repr(storage)
        assert s3.access_key not in repr(storage)

    async def test_without_keys_they_are_asked_for(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        storage = S3Storage("http://127.0.0.1:1")
        with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
            await storage.init()
        await storage.close()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"endpoint": "localhost:9000"}, "endpoint="),
            ({"endpoint": "ftp://x"}, "endpoint="),
            ({"endpoint": "http://"}, "endpoint="),
            ({"endpoint": "http://x:99999"}, "endpoint="),
            ({"endpoint": 3}, "endpoint"),
            ({"access_key": "k"}, "belong together"),
            ({"access_key": "", "secret_key": "s"}, "access_key is empty"),
            ({"bucket": ""}, "bucket"),
            ({"addressing": "sideways"}, "addressing='sideways'"),
            ({"timeout": 0}, "timeout=0"),
            ({"max_retries": -1}, "max_retries=-1"),
        ],
    )
    def test_what_cannot_be_a_storage_is_refused(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidInputError, match=said):
            S3Storage(**options)

    async def test_a_bucket_of_an_impossible_name_is_refused(self, s3: S3Server) -> None:
        storage = s3_storage(s3, bucket="No Such/Name")
        with pytest.raises(ProviderError, match="No Such/Name"):
            await storage.init()
        await storage.close()
