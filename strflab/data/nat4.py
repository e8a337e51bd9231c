"""NAT4: ferret auditory cortex hearing many natural sounds (Pennington & David 2023, doi:10.1371/journal.pcbi.1011110).

849 units of A1 and 398 of PEG, as published at https://doi.org/10.5281/zenodo.8044773: an archive an area, whose
`*.resp.csv` (T, N) and `*.stim.csv` (T, 18) are 100 Hz signals, `*.resp.json` names the units, `*.resp.epoch.csv` the
sounds (name, start and end in s), and `*.mask_est.csv` (T, 1) is 1 where a frame is for estimation. First come 18
validation sounds of 1.5 s, `STIM_00cat...`, the mean of 20 repeats, then 575 estimation sounds, one repeat each.
`*_pred_correlation.csv` says in `sig_auditory` which units answer to sound.

The SHA-256 of these files is not pinned: they were not at hand when this reader was written. It checks their structure
instead, all of it, and takes nothing but numbers and names from them. The single trials of the validation sounds are
in other files of the same record and are not read, so CCnorm and other scores that need repeats are NaN.

An archive is read once; the result is cached as one safetensors file and loaded from there.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np

from strflab.cache import cache_root
from strflab.data import fetch, parsed
from strflab.data.dataset import NeuralDataset
from strflab.data.simulate import simulate
from strflab.data.spectrogram import log_centres
from strflab.validation import boolean, choice

N_CELLS = {"A1": 849, "PEG": 398}
N_BANDS, N_VALIDATION, N_ESTIMATION, CLIP_FRAMES, DT_MS = 18, 18, 575, 150, 10.0
EDGES_HZ = (200.0, 20_000.0)  # an assumption: the files do not say what the bands are; only axes depend on it
MAX_BYTES = 16 << 30  # more than this in one archive is refused
PARTS = (".resp.csv", ".stim.csv", ".resp.json", ".resp.epoch.csv", ".mask_est.csv")
LINES = 1024  # of a table that are parsed at once
RECORD = "https://zenodo.org/records/8044773/files"
ARCHIVES = {area: f"{area}_NAT4_ozgf.fs100.ch18.tgz" for area in N_CELLS}
TABLES = {area: f"{area}_pred_correlation.csv" for area in N_CELLS}
REMOTE = fetch.Remote("nat4", {file: f"{RECORD}/{file}" for file in [*ARCHIVES.values(), *TABLES.values()]})
WHAT = "ferret auditory cortex: 849 units of A1, 398 of PEG, 593 natural sounds of 1.5 s, 18 of them repeated"
LICENCE = "CC-BY-4.0"
CITATION = "Pennington & David 2023, PLoS Computational Biology, doi:10.1371/journal.pcbi.1011110"
VERSION = 1  # of the parsed file: raise it when parsing changes


def load(area: Literal["A1", "PEG"] = "A1", normalized: bool = True) -> NeuralDataset:
    """Return NAT4: N = 849 or 398, 593 clips of 18 bands x 150 frames of 10 ms, R = 1.

    Parameters
    ----------
    area : {"A1", "PEG"}
        Primary or secondary auditory cortex.
    normalized : bool
        The paper's stimulus, ``log((x + 0.1) / 0.1)``, each band from 0 to 1 over the recording; False: as published.

    Clips with ``validation`` True in their table are means of 20 repeats. A unit without validation data, whose
    response is missing or zero in all of them, is NaN there. The table of units says whether a unit is `auditory`,
    None where that cannot be had. The bands' centres are assumed, see `EDGES_HZ`.

    Raises
    ------
    RecordingUnavailable
        If the files are neither here nor to be had.
    ValueError
        If an option is wrong, or a file is unsafe or not laid out as published.

    Source: Pennington & David 2023, doi:10.1371/journal.pcbi.1011110; https://doi.org/10.5281/zenodo.8044773.
    """
    choice("area", area, N_CELLS)
    boolean("normalized", normalized)
    arrays, neurons = _parsed(area)
    auditory = _auditory(area, [neuron["cell"] for neuron in neurons])
    stimulus, response = arrays["stimulus"], arrays["response"]  # (clips, F, T), (clips, N, T)
    validation = np.arange(len(stimulus)) < N_VALIDATION
    return NeuralDataset(
        list(normalize(stimulus) if normalized else stimulus),
        list(response[:, :, None]),
        DT_MS,
        log_centres(*EDGES_HZ, N_BANDS),
        neurons=[neuron | {"auditory": heard} for neuron, heard in zip(neurons, auditory, strict=True)],
        clips=[
            {"id": k, "sound": name, "validation": bool(validation[k])}
            for k, name in enumerate(json.loads(arrays["sounds"].tobytes()))
        ],
        name="nat4",
        licence=LICENCE,
        citation=CITATION,
        description=f"{WHAT}; {area}",
    )


def stand_in(area: Literal["A1", "PEG"] = "A1", normalized: bool = True) -> NeuralDataset:
    """Return a simulated set of 20 neurons with the bands and frames of NAT4 and some of its clips.

    >>> stand_in().n_bands
    18
    """
    choice("area", area, N_CELLS)
    return simulate(
        n_neurons=20, n_clips=60, seconds=1.5, dt_ms=DT_MS, n_repeats=1, frequencies=log_centres(*EDGES_HZ, N_BANDS)
    )


def is_here(area: str = "A1") -> bool:
    """Return whether `load(area)` needs no network."""
    folders = fetch.data_folders("nat4")
    return parsed_path(area).is_file() or any((folder / ARCHIVES[area]).is_file() for folder in folders)


def parsed_path(area: str) -> Path:
    """Return where the parsed recording of an area is cached."""
    return cache_root() / "parsed" / f"nat4-{area}-v{VERSION}.safetensors"


def normalize(stimulus: np.ndarray) -> np.ndarray:
    """Return ``log((x + 0.1) / 0.1)`` of a stimulus (clips, F, T), each band scaled to [0, 1] over all clips.

    >>> normalize(np.array([[[0.0, 0.9, 9.9]]])).round(2).tolist()
    [[[0.0, 0.5, 1.0]]]
    """
    level = np.log((stimulus + 0.1) / 0.1)
    low, high = (f(level, axis=(0, 2), keepdims=True) for f in (np.min, np.max))
    return (level - low) / np.where(high > low, high - low, 1)


def parse(archive: Path, area: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the arrays and the table of units of the published files of an area.

    The arrays are `stimulus` (clips, F, T), `response` (clips, N, T), validation clips first, and `sounds`, the
    clips' names as JSON in bytes.

    Parameters
    ----------
    archive : the area's .tgz
    area : "A1" or "PEG"

    Raises
    ------
    ValueError : a file is unsafe or not laid out as published; the message names it
    """
    found = read_archive(archive)
    cells = _cells(found[".resp.json"], f"{archive}: resp.json")
    n_frames = (N_VALIDATION + N_ESTIMATION) * CLIP_FRAMES
    shapes = {".resp.csv": (n_frames, N_CELLS[area]), ".stim.csv": (n_frames, N_BANDS), ".mask_est.csv": (n_frames, 1)}
    for part, shape in shapes.items():
        if found[part].shape != shape:
            raise ValueError(f"{archive}: {part[1:]} has the shape {found[part].shape}, expected {shape}")
    if len(cells) != N_CELLS[area]:
        raise ValueError(f"{archive}: resp.json names {len(cells)} units, expected {N_CELLS[area]}")
    clips = _clips(found[".resp.epoch.csv"], found[".mask_est.csv"][:, 0], archive)
    frames = np.array([start for _, start in clips])[:, None] + np.arange(CLIP_FRAMES)
    response = found[".resp.csv"][frames].transpose(0, 2, 1)
    first = response[:N_VALIDATION]
    first[:, (np.isnan(first) | (first == 0)).all((0, 2))] = np.nan
    arrays = {
        "stimulus": np.ascontiguousarray(found[".stim.csv"][frames].transpose(0, 2, 1)),
        "response": np.ascontiguousarray(response),
        "sounds": np.frombuffer(json.dumps([name for name, _ in clips]).encode(), np.uint8),
    }
    return arrays, [{"id": i, "cell": cell, "site": cell.split("-")[0], "area": area} for i, cell in enumerate(cells)]


def read_archive(path: Path) -> dict[str, Any]:
    """Return what the files named in `PARTS` hold: a matrix (T, columns) each, or text; nothing is written to disk.

    Raises
    ------
    ValueError
        If any member has an absolute path or "..", or is neither a file nor a folder; if the archive unpacks to more
        than `MAX_BYTES`; if a file is missing, there twice, or damaged.
    """
    found: dict[str, Any] = {}
    total = 0
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or set(member.name) & set("\\:"):
                    raise ValueError(f"{path}: refused, {member.name!r} points outside the archive")
                if not (member.isreg() or member.isdir()):
                    raise ValueError(f"{path}: refused, {member.name!r} is a link or a device")
                total += member.size
                if total > MAX_BYTES:
                    raise ValueError(f"{path}: refused, it unpacks to more than {MAX_BYTES} bytes")
                part = next((part for part in PARTS if member.name.endswith(part)), None)
                if part is None or member.isdir():
                    continue
                if part in found:
                    raise ValueError(f"{path}: has two files that end in {part}")
                file = archive.extractfile(member)
                assert file is not None  # it is a regular file
                text = part in (".resp.json", ".resp.epoch.csv")
                found[part] = file.read() if text else read_matrix(file, f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and load again") from error
    if absent := [part for part in PARTS if part not in found]:
        raise ValueError(f"{path}: lacks the file that ends in {absent[0]}")
    return found


def read_matrix(file: IO[bytes], where: str) -> np.ndarray:
    """Return a table of numbers without a header as float32; an empty field is NaN, True and False are 1 and 0."""
    blocks: list[np.ndarray] = []
    lines = io.TextIOWrapper(file, "ascii", errors="replace")
    while block := [_spelt_out(line) for line in islice(lines, LINES)]:
        try:
            blocks.append(np.loadtxt(block, np.float32, delimiter=",", ndmin=2, comments=None))
        except ValueError as error:
            raise ValueError(f"{where}: must hold nothing but numbers ({error})") from None
    if not blocks or len({block.shape[1] for block in blocks}) != 1:
        raise ValueError(f"{where}: is empty, or its rows are of different lengths")
    return np.concatenate(blocks)


def read_auditory(path: Path, cells: list[str]) -> list[bool]:
    """Return for each unit whether it is auditory, from the column `sig_auditory`, whose rows are in the units' order.

    Where a column holds the units' names, they must be these.
    """
    with open(path, newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != len(cells) or "sig_auditory" not in rows[0]:
        raise ValueError(f"{path}: expected the column sig_auditory and {len(cells)} rows, got {len(rows)}")
    for column in rows[0]:
        named = [row[column] for row in rows]
        if set(named) & set(cells) and named != cells:
            raise ValueError(f"{path}: its units are not those of the archive, or not in their order")
    flags = {"true": True, "1": True, "false": False, "0": False}
    try:
        return [flags[row["sig_auditory"].strip().lower()] for row in rows]
    except KeyError as error:
        raise ValueError(f"{path}: sig_auditory must be True or False, not {error}") from None


def _spelt_out(line: str) -> str:
    line = line.rstrip("\r\n").replace("True", "1").replace("False", "0")
    if ",," in line or line[:1] in (",", "") or line[-1:] == ",":
        line = ",".join(field or "nan" for field in line.split(","))
    return line


def _cells(text: bytes, where: str) -> list[str]:
    """Names of the units; the signal must be at 100 Hz."""
    try:
        facts = json.loads(text)
        cells, rate = facts["chans"], float(facts["fs"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: expected the entries chans and fs ({type(error).__name__}: {error})") from None
    if rate != 1000 / DT_MS:
        raise ValueError(f"{where}: expected a signal at {1000 / DT_MS:g} Hz, got {rate:g}")
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        raise ValueError(f"{where}: chans must be a list of names")
    return cells


def _clips(text: bytes, for_estimation: np.ndarray, archive: Path) -> list[tuple[str, int]]:
    """Name and first frame of each sound in the order of time, validation sounds first."""
    where = f"{archive}: resp.epoch.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(text.decode("utf8"))))
        heard = [(r["name"], float(r["start"]), float(r["end"])) for r in rows if r["name"].startswith("STIM_")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: expected the columns name, start and end ({error})") from None
    clips = [(name, round(start * 1000 / DT_MS), round(end * 1000 / DT_MS)) for name, start, end in heard]
    clips.sort(key=lambda clip: clip[1])
    validation = [name.startswith("STIM_00") for name, *_ in clips]
    n_found = sum(validation), len(clips) - sum(validation)
    if n_found != (N_VALIDATION, N_ESTIMATION):
        raise ValueError(
            f"{where}: expected {N_VALIDATION} validation and {N_ESTIMATION} estimation sounds, got {n_found}"
        )
    for k, (name, start, end) in enumerate(clips):
        if (start, end) != (k * CLIP_FRAMES, (k + 1) * CLIP_FRAMES) or validation[k] != (k < N_VALIDATION):
            raise ValueError(f"{where}: {name!r} is not where it should be, in frames {start} to {end}")
    if not np.array_equal(for_estimation != 0, np.repeat(~np.array(validation), CLIP_FRAMES)):
        raise ValueError(f"{archive}: mask_est.csv does not say the same as the names of the sounds")
    return [(name, start) for name, start, _ in clips]


def _auditory(area: str, cells: list[str]) -> list[bool] | list[None]:
    """Whether each unit is auditory; None where the table that says so cannot be had."""
    try:
        return read_auditory(fetch.fetch_unpinned(REMOTE, TABLES[area]), cells)
    except fetch.RecordingUnavailable:
        return [None] * len(cells)


def _parsed(area: str) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return what `parse` returns, from the cache if it is there and whole."""
    return parsed.kept(parsed_path(area), lambda: parse(fetch.fetch_unpinned(REMOTE, ARCHIVES[area]), area))
