"""How servers are fetched: artifacts by Maven, wheels by pip. Both know by themselves where from."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>neuromem</groupId><artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""


def run(command: Sequence[str | Path]) -> str:
    """What a program printed. Raises `RuntimeError` with its last words when it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{Path(command[0]).name} failed ({done.returncode}):\n{said}")
    return done.stdout


def needs(programs: Sequence[str], packages: str) -> None:
    """Raises `RuntimeError` naming Debian's packages when one of the programs is not there."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not found; on Debian and Ubuntu run: apt-get install {packages}")


def java() -> Path:
    """The program java, wherever links lead. Raises `RuntimeError` when there is none."""
    needs(["java"], "openjdk-17-jdk-headless")
    return Path(str(shutil.which("java"))).resolve()


def maven_artifact(artifact: str, folder: Path) -> None:
    """Copies one artifact (`group:name:version[:packaging]`) into a folder."""
    _maven(f"{_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")


def maven_libraries(artifacts: Sequence[str], folder: Path) -> None:
    """Copies artifacts (`group:name:version`) and all they need to run into a folder."""
    tags = ("groupId", "artifactId", "version")
    lines = [
        "".join(f"<{tag}>{part}</{tag}>" for tag, part in zip(tags, artifact.split(":"), strict=True))
        for artifact in artifacts
    ]
    pom = folder / "pom.xml"
    pom.write_text(_POM.format(dependencies="".join(f"<dependency>{line}</dependency>" for line in lines)))
    _maven("-f", str(pom), f"{_PLUGIN}:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime")
    pom.unlink()


def _maven(*arguments: str) -> None:
    needs(["mvn", "javac"], "maven openjdk-17-jdk-headless")
    run(["mvn", "-q", "-B", *arguments])


def wheel(requirement: str, sha256: str, folder: Path) -> zipfile.ZipFile:
    """A wheel of exactly this hash, open; it is kept in the folder."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    run([*pip, "--only-binary=:all:", "--require-hashes", "--requirement", wanted, "--dest", folder])
    wanted.unlink()
    return zipfile.ZipFile(next(folder.glob("*.whl")))
