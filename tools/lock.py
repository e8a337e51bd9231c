"""Write requirements.lock: every package that requirements.in needs, at the version installed here.

python tools/lock.py            write it (after installing requirements.in in a fresh environment)
python tools/lock.py --check    exit 1 when the file differs from what would be written
"""

from __future__ import annotations

import sys
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# torch pins its own CUDA libraries, and only its CUDA build has them: the lock serves both builds.
CUDA = ("nvidia-", "cuda-", "triton")


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Name and installed version of each package that `roots` need on this machine."""
    found: dict[str, str] = {}
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in roots]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        found[name] = version(name).partition("+")[0]
        for line in requires(name) or []:
            need = Requirement(line)
            wanted = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in {"", *extras})
            item = (canonicalize_name(need.name), frozenset(need.extras))
            if wanted and item not in seen and not item[0].startswith(CUDA):
                seen.add(item)
                todo.append(item)
    return found


def read(path: Path) -> list[Requirement]:
    """Requirements of a file, one a line."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf8").splitlines())
    return [Requirement(line) for line in lines if line]


def main() -> int:
    roots = read(ROOT / "requirements.in")
    found = closure(roots)
    for r in roots:
        if not r.specifier.contains(version(r.name), prereleases=True):
            print(f"{r} is asked for, {version(r.name)} is installed", file=sys.stderr)
            return 1
    text = "".join(f"{name}=={found[name]}\n" for name in sorted(found))
    lock = ROOT / "requirements.lock"
    if "--check" in sys.argv[1:]:
        return int(not lock.is_file() or lock.read_text("utf8") != text)
    lock.write_text(text, "utf8")
    print(f"{len(found)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
