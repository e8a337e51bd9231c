"""Draw the picture of the start page by running the code that it shows.

    python tools/start_figure.py

Writes book/_static/start.png. Run it when that code has changed.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main() -> None:
    code = BLOCK.findall((ROOT / "book" / "start.md").read_text("utf8"))[0]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(code, "book/start.md", "exec"), {"__name__": "__main__"})
        shutil.move("strfs.png", ROOT / "book" / "_static" / "start.png")


if __name__ == "__main__":
    main()
