"""Checks that .dockerignore includes the whole workspace: without one of its members, `docker build` fails.

Copies the files that Docker would send to the builder to an empty folder, and runs cargo on the workspace there.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from docker.utils.build import exclude_paths

ROOT = pathlib.Path(__file__).resolve().parent.parent
CARGO = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]


def patterns():
    lines = (line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def main():
    with tempfile.TemporaryDirectory() as context:
        for path in sorted(exclude_paths(str(ROOT), patterns())):
            source, target = ROOT / path, pathlib.Path(context, path)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        read = subprocess.run(CARGO, cwd=context, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if read.returncode != 0:
        sys.exit(f".dockerignore: the included files are not a whole workspace. Include this too:\n{read.stderr}")


if __name__ == "__main__":
    main()
