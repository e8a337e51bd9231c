"""Ask whether the package installs beside what Colab has, whose packages stand in a published pip freeze.

python tools/colab.py pins FREEZE     print what strflab needs, at Colab's versions, for pip install -r
python tools/colab.py check FREEZE    after that and `pip install .`: exit 1 when one of them was replaced;
                                      import every module and run the first example of the book
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def pins(freeze: str) -> dict[str, str]:
    """Name and version of each package that strflab needs directly and Colab has, without +cu126 and the like."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]["dependencies"]
    wanted = {canonicalize_name(Requirement(line).name) for line in needs}
    found = {}
    for line in freeze.splitlines():
        # torch==2.8.0+cu126, or torch @ https://.../torch-2.8.0%2Bcu126-cp312-...whl
        match = re.match(r"([\w.-]+)(?:==| @ \S*/[\w.]+-)([\w.]+)", unquote(line))
        if match and canonicalize_name(match[1]) in wanted:
            found[canonicalize_name(match[1])] = match[2]
    if "torch" not in found:
        raise SystemExit("no torch among Colab's packages: has the form of the list changed?")
    return found


def check(freeze: str) -> None:
    """Raise SystemExit when a package of Colab was replaced; let what does not import or run raise."""
    here = {name: version(name).partition("+")[0] for name in pins(freeze)}
    replaced = [f"{name} {pin} -> {here[name]}" for name, pin in pins(freeze).items() if here[name] != pin]
    if replaced:
        raise SystemExit(f"replaced: {', '.join(replaced)}")
    import strflab

    for module in pkgutil.walk_packages(strflab.__path__, "strflab."):
        if not module.name.startswith("strflab.book"):  # which needs the extra [book]
            importlib.import_module(module.name)
    page = (ROOT / "book" / "start.md").read_text("utf8")
    exec(page.split("```python\n")[1].split("```")[0], {})


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("pins", "check"):
        raise SystemExit(__doc__)
    text = Path(sys.argv[2]).read_text("utf8")
    if sys.argv[1] == "pins":
        print("\n".join(f"{name}=={pin}" for name, pin in pins(text).items()))
    else:
        check(text)
