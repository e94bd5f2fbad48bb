"""The commands of docs/how-to/import.md, in order, in a home of their own, and what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

from memground.embedding.install import default_model_dir
from support.embedded import short_tmp_dir

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "import.md"
_BLOCK = re.compile(r"^```bash\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def test_the_commands_do_what_the_document_says() -> None:
    """ "…" stands for anything on a line."""
    blocks = _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    with short_tmp_dir() as home:
        models = home / ".neuromem" / "models"
        models.parent.mkdir(mode=0o711)
        models.symlink_to(default_model_dir().parent, target_is_directory=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "HOME": str(home), "PATH": path}
        printed: list[str] = []
        for code, promised in blocks:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code],
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, code + done.stdout + done.stderr
            printed.append(done.stdout)
            if promised:
                pattern = ".*".join(map(re.escape, promised.split("…")))
                assert re.fullmatch(pattern, done.stdout), f"{promised}\nis promised, but printed was\n{done.stdout}"
    assert printed[1].index("Porto") < printed[1].index("Oslo")
