"""Write the small intersphinx inventories of book/_inv: the external names that the pages refer to.

    python tools/inventory.py

Committed, so that the book builds without a network. Add a name here when a page refers to it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_inv"

# project: (version, [(name, role, address below the documentation's root; "$" stands for the name)])
NAMES = {
    "python": (
        "3",
        [
            ("ValueError", "exception", "library/exceptions.html#$"),
            ("object", "class", "library/functions.html#$"),
            ("tuple", "class", "library/stdtypes.html#$"),
            ("dict", "class", "library/stdtypes.html#$"),
            ("html.parser.HTMLParser", "class", "library/html.parser.html#$"),
        ],
    ),
    "torch": (
        "2.13",
        [
            ("torch.Tensor", "class", "tensors.html#$"),
            ("torch.device", "class", "tensor_attributes.html#$"),
            ("torch.nn.Module", "class", "generated/torch.nn.Module.html#$"),
            ("torch.nn.modules.module.Module", "class", "generated/torch.nn.Module.html#torch.nn.Module"),
        ],
    ),
    "numpy": (
        "2",
        [("numpy.ndarray", "class", "reference/generated/numpy.ndarray.html#$")],
    ),
    "matplotlib": (
        "3",
        [
            ("matplotlib.figure.Figure", "class", "api/_as_gen/matplotlib.figure.Figure.html#$"),
            ("matplotlib.axes.Axes", "class", "api/_as_gen/matplotlib.axes.Axes.html#$"),
        ],
    ),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for project, (version, names) in NAMES.items():
        head = (
            f"# Sphinx inventory version 2\n# Project: {project}\n# Version: {version}\n"
            "# The remainder of this file is compressed using zlib.\n"
        )
        body = "".join(f"{name} py:{role} 1 {address} -\n" for name, role, address in names)
        (FOLDER / f"{project}.inv").write_bytes(head.encode() + zlib.compress(body.encode(), 9))


if __name__ == "__main__":
    main()
