"""Nothing but our own files appears on the machine, and no library reports what it is used for."""

import os
import subprocess
import sys

from memground.embedding.install import default_model_dir
from support.embedded import short_tmp_dir

_EMBED = """
import asyncio, pathlib, sys
from memground.embedding import LocalEmbedding
asyncio.run(LocalEmbedding(pathlib.Path(sys.argv[1])).embed("hello"))
"""


def test_the_local_model_leaves_nothing_in_the_home_folder() -> None:
    """onnxruntime has telemetry that is on by default; where it runs, it keeps a device id under ~/.cache."""
    hiding = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hiding}
    with short_tmp_dir() as home:
        program = [sys.executable, "-c", _EMBED, str(default_model_dir())]
        subprocess.run(program, env={**environment, "HOME": str(home)}, check=True, timeout=60)
        assert list(home.rglob("*")) == []
