"""Notebooks as JSON: read, write, clean of what changes from run to run, and look at."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strflab.report import RECORD

Notebook = dict[str, Any]
IMAGES = ("image/png", "image/svg+xml", "image/jpeg")


def read(path: Path) -> Notebook:
    """Return a notebook.

    Parameters
    ----------
    path : of the .ipynb file
    """
    return json.loads(path.read_text("utf8"))


def write(path: Path, nb: Notebook) -> None:
    """Write a notebook as Jupyter does: one space of indent, a newline at the end.

    Parameters
    ----------
    path : of the .ipynb file
    nb : the notebook
    """
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf8")


def code_cells(nb: Notebook) -> list[dict[str, Any]]:
    """Return the cells that hold code.

    Parameters
    ----------
    nb : a notebook, as `read` returns it
    """
    return [cell for cell in nb["cells"] if cell["cell_type"] == "code"]


def sources(nb: Notebook) -> list[tuple[str, str]]:
    """Type and text of each cell.

    Parameters
    ----------
    nb : a notebook, as `read` returns it
    """
    return [(cell["cell_type"], "".join(cell["source"])) for cell in nb["cells"]]


def outputs(nb: Notebook) -> Iterator[dict[str, Any]]:
    """Yield every output of a notebook.

    Parameters
    ----------
    nb : an executed notebook
    """
    for cell in code_cells(nb):
        yield from cell["outputs"]


def clean(nb: Notebook) -> None:
    """Remove, in place, what a run adds that is not a result.

    The injected parameters, the times and states of cells, and the papermill record go; the cells are counted
    from one. Two runs that print the same are then the same file, but for the record in the metadata.

    Parameters
    ----------
    nb : a notebook, as `read` returns it
    """
    nb["cells"] = [c for c in nb["cells"] if "injected-parameters" not in c["metadata"].get("tags", [])]
    for cell in nb["cells"]:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell["metadata"].pop(key, None)
    for count, cell in enumerate(code_cells(nb), start=1):
        cell["execution_count"] = count
        for out in cell["outputs"]:
            if "execution_count" in out:
                out["execution_count"] = count
    nb["metadata"].pop("papermill", None)


def compress(nb: Notebook) -> None:
    """Write the images of a notebook, in place, in fewer bytes and with the same pixels.

    A figure comes with the opacity of each pixel, which is full everywhere, and compressed for speed.

    Parameters
    ----------
    nb : an executed notebook
    """
    for out in outputs(nb):
        if kept := out.get("data", {}).get("image/png"):
            out["data"]["image/png"] = base64.b64encode(_compressed(base64.b64decode("".join(kept)))).decode("ascii")


def _compressed(png: bytes) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        opaque = without_opacity(image)
        opaque.save(written, "PNG", optimize=True)
        return min(written.getvalue(), _unfiltered(opaque), png, key=len)


def _unfiltered(image: Any) -> bytes:
    """A PNG file whose rows are not predicted from their neighbours, which makes a drawing of lines smaller."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    row, pixels = image.width * len(image.mode), image.tobytes()
    rows = b"".join(b"\0" + pixels[i : i + row] for i in range(0, len(pixels), row))
    head = struct.pack(">IIBBBBB", *image.size, 8, 6 if image.mode == "RGBA" else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def without_opacity(image: Any) -> Any:
    """A Pillow image less its opacity, if that is full everywhere.

    Parameters
    ----------
    image : PIL.Image.Image
    """
    opaque = image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255)
    return image.convert("RGB") if opaque else image


def provenance(nb: Notebook) -> dict[str, Any]:
    """Return the record that `strflab.report.provenance` left in the outputs; empty when there is none.

    Parameters
    ----------
    nb : an executed notebook
    """
    found = [out["metadata"][RECORD] for out in outputs(nb) if RECORD in out.get("metadata", {})]
    return found[-1] if found else {}


def record(nb: Notebook) -> dict[str, Any]:
    """Return the record of the run that a notebook's outputs come from; empty when there is none.

    Parameters
    ----------
    nb : an executed notebook
    """
    return nb["metadata"].get(RECORD, {})


def figures(nb: Notebook) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG file of each figure, so that a page can show what a chapter drew.

    Parameters
    ----------
    nb : an executed notebook
    """
    for cell in code_cells(nb):
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        drawn = [out["data"]["image/png"] for out in cell["outputs"] if "image/png" in out.get("data", {})]
        if name and drawn:
            yield name, base64.b64decode("".join(drawn[0]))


def problems(nb: Notebook) -> list[str]:
    """Say what is wrong with the figures of an executed notebook: missing, unnumbered, or without words.

    A figure is a code cell whose metadata holds ``mystnb: {figure: {name, caption}, image: {alt}}``.

    Parameters
    ----------
    nb : an executed notebook
    """
    found = []
    names: set[str] = set()
    for count, cell in enumerate(code_cells(nb), start=1):
        if "remove-cell" in cell["metadata"].get("tags", []):
            continue
        myst = cell["metadata"].get("mystnb", {})
        figure, alt = myst.get("figure", {}), myst.get("image", {}).get("alt", "")
        drawn = sum(any(kind in out.get("data", {}) for kind in IMAGES) for out in cell["outputs"])
        where = f"code cell {count}"
        if any(out["output_type"] == "error" for out in cell["outputs"]):
            found.append(f"{where}: raised an error")
        if figure and not drawn:
            found.append(f"{where}: figure {figure.get('name')!r} holds no image")
        if drawn > 1:
            found.append(f"{where}: {drawn} images in one cell; one number and one caption fit one image")
        if drawn and not (figure.get("name") and figure.get("caption")):
            found.append(f"{where}: an image without a figure name and caption")
        if drawn and not alt.strip():
            found.append(f"{where}: an image without alt text")
        if figure.get("name") in names:
            found.append(f"{where}: figure name {figure['name']!r} comes twice")
        names.update({figure["name"]} if figure.get("name") else ())
    return found
