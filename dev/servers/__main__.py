"""Runs one server until standard input ends: `python -m dev.servers s3`."""

import sys

from dev.servers.s3 import S3Server

SERVERS = {"s3": S3Server}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in SERVERS:
        sys.exit(f"usage: python -m dev.servers {' | '.join(SERVERS)}")
    with SERVERS[sys.argv[1]]() as server:
        for name, value in server.settings().items():
            print(f"export {name}={value}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
