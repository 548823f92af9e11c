"""A small file system that fills up, for tests of commands that write."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def on_small_disk(folder: Path, size: str, script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a Python script in a process that sees a file system of this size at `folder`; skip if not allowed here."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a user mount a file system")
    folder.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    words = [sys.executable, "-W", "ignore", "-c", script, str(folder), *map(str, arguments)]
    command = ["unshare", "-rm", "sh", "-c", mount, str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, check=False)
