"""Draw the figures of the guide "Your own recording" into book/_static/guides, by running the guide."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

BOOK = Path(__file__).parents[1] / "book"


def main() -> None:
    text = (BOOK / "guides" / "recording.md").read_text("utf8")
    out = BOOK / "_static" / "guides"
    out.mkdir(exist_ok=True)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            names: dict[str, object] = {}
            for code in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
                exec(code, names)
            for name in re.findall(r"_static/guides/(\w+\.png)", text):
                shutil.copy(name, out / name)
        finally:
            os.chdir(here)


if __name__ == "__main__":
    main()
