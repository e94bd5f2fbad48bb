"""A server reached by TLS and a password, as a managed one is: PgBouncer ends the TLS, the embedded one has none."""

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.embedded import short_tmp_dir
from support.pgbouncer import pgbouncer


@dataclass(frozen=True)
class TlsServer:
    port: int
    certificate: Path
    """Made out to localhost and signed by itself."""
    other: Path
    """A certificate that has nothing to do with the server."""


@asynccontextmanager
async def tls_server(sockets: Path) -> AsyncGenerator[TlsServer]:
    """In front of the server whose socket lies in `sockets`: login `tenant`, password `s3cret`, nothing without TLS."""
    with short_tmp_dir() as folder:
        for name in ("server", "other"):
            certificate(folder, name)
        (folder / "users").write_text('"tenant" "s3cret"\n')
        settings = {
            "auth_type": "scram-sha-256",
            "auth_file": folder / "users",
            "client_tls_sslmode": "require",
            "client_tls_key_file": folder / "server.key",
            "client_tls_cert_file": folder / "server.crt",
        }
        async with pgbouncer(sockets, **settings) as running:
            yield TlsServer(running.port, folder / "server.crt", folder / "other.crt")


def certificate(folder: Path, name: str) -> None:
    made = f"-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.crt -days 2"
    owner = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *made.split(), *owner]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    (folder / f"{name}.key").chmod(0o644)  # the account the server runs as reads it, too
