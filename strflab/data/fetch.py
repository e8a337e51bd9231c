"""Where recordings are found, and how they get there: download (resumable, checked, atomic) and safe extraction.

A recording `name` is looked for in `$STRFLAB_DATA/<name>`, then in `<cache>/<name>`. What is in neither is fetched
into the first of the two that can be written. Every file is checked against the SHA-256 list committed beside this
module. Environment variables:

    STRFLAB_DATA      folder of recordings, laid out as published; may be read-only
    STRFLAB_CACHE     cache root, in place of the user's cache folder (`strflab.cache`)
    STRFLAB_OFFLINE   1: never try the network
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from strflab.cache import cache_root
from strflab.progress import progress_bar

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
CHUNK = 1 << 20  # bytes


class RecordingUnavailable(OSError):
    """A recording is neither on this machine nor to be had from the network; the message says what to do."""


@dataclass(frozen=True)
class Remote:
    """Where the published files of a recording are.

    `files` maps a file of the recording to its address; `archives` maps a zip's name to its address, the files of
    the list that no address has of its own are extracted from them.
    """

    name: str
    files: Mapping[str, str]
    archives: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = 1 << 30  # more than this in one archive is refused

    @property
    def pinned(self) -> bool:
        return _hash_list(self.name).is_file()

    @property
    def hashes(self) -> dict[str, str]:
        return read_hashes(self.name)


def _pooch() -> Any:
    """Import pooch, silent about notebook widgets that its own bars would like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pooch
    return pooch


def data_folders(name: str) -> list[Path]:
    """Return the folders in which recording `name` is looked for, in order."""
    shared = os.environ.get("STRFLAB_DATA")
    return ([Path(shared).expanduser() / name] if shared else []) + [cache_root() / name]


def read_hashes(name: str) -> dict[str, str]:
    """Return the committed list of recording `name`: path -> SHA-256 in hexadecimal."""
    lines = _hash_list(name).read_text().splitlines()
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}


def _hash_list(name: str) -> Path:
    return Path(__file__).parent / f"{name}.sha256"


def locate(name: str, files: Iterable[str]) -> Path | None:
    """Return the first data folder that holds all `files`, or None. Contents are checked by `verify`."""
    files = list(files)
    for folder in data_folders(name):
        if all((folder / path).is_file() for path in files):
            return folder
    return None


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Check each file of `folder` against its SHA-256; ValueError with the path and what to do."""
    for path, expected in hashes.items():
        found = sha256(folder / path)
        if found != expected:
            raise ValueError(
                f"{folder / path} is not the published file: its SHA-256 is {found}, expected {expected}. "
                "It was damaged or changed. Delete it and load again, or restore it from a copy."
            )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(remote: Remote) -> Path:
    """Return a folder that holds the recording, fetching what is missing.

    Parameters
    ----------
    remote : Remote
        What to fetch.

    Raises
    ------
    RecordingUnavailable
        If files are missing and there is no network, or the server does not have them.
    ValueError
        If what arrived is not the published file, or an archive is unsafe.
    """
    hashes = remote.hashes
    if folder := locate(remote.name, hashes):
        return folder
    if os.environ.get("STRFLAB_OFFLINE", "") not in ("", "0"):
        raise unavailable(remote, "STRFLAB_OFFLINE is set")
    folder = _writable_folder(remote.name)
    missing = {path: digest for path, digest in hashes.items() if not (folder / path).is_file()}
    address = next(iter([*remote.files.values(), *remote.archives.values()]))
    if not _reachable(address):
        raise unavailable(remote, f"{address} does not answer")
    wanted = sorted(missing.keys() & remote.files.keys())
    try:
        for path in progress_bar(wanted, desc=f"fetching {remote.name}", unit="file"):
            download(remote.files[path], folder / path, missing.pop(path))
        for archive, url in remote.archives.items():
            if missing:
                _fetch_archive(url, folder, archive, missing, remote.max_bytes)
    except RecordingUnavailable:
        raise
    except OSError as error:  # requests' errors are OSErrors
        raise unavailable(remote, f"{type(error).__name__}: {error}") from error
    return folder


def fetch_unpinned(remote: Remote, path: str) -> Path:
    """Return a file of a recording whose SHA-256 is not known, fetching it if it is not here.

    What it holds is unchecked: its reader must refuse what is not laid out as published. Errors are those of `fetch`.
    """
    for folder in data_folders(remote.name):
        if (folder / path).is_file():
            return folder / path
    if os.environ.get("STRFLAB_OFFLINE", "") not in ("", "0"):
        raise unavailable(remote, "STRFLAB_OFFLINE is set")
    if not _reachable(remote.files[path]):
        raise unavailable(remote, f"{remote.files[path]} does not answer")
    target = _writable_folder(remote.name) / path
    try:
        return download(remote.files[path], target, None)
    except OSError as error:  # requests' errors are OSErrors
        raise unavailable(remote, f"{type(error).__name__}: {error}") from error


def unavailable(remote: Remote, why: str) -> RecordingUnavailable:
    """Return the error that says where `remote` was looked for and what to do."""
    folders = " nor ".join(str(folder) for folder in data_folders(remote.name))
    return RecordingUnavailable(
        f"the recording {remote.name!r} is not in {folders}, and cannot be fetched ({why}). "
        f'With a network, run strflab.data.load("{remote.name}") once; or set STRFLAB_DATA to a folder with '
        f'{remote.name}/ in it; or use strflab.data.load("simulated"), which needs neither.'
    )


def download(url: str, target: Path, known_hash: str | None) -> Path:
    """Fetch `url` to `target`: with a progress bar, checked, moved into place only when whole and right.

    An interrupted download leaves `<target>.part`, which the next call resumes; a wrong one leaves nothing.

    Raises
    ------
    ValueError
        If the SHA-256 is not `known_hash` (None: not checked).
    OSError
        If the server or the connection fails.
    """
    pooch = _pooch()

    def resume(address: str, output: str, _: object) -> None:
        part = target.with_name(target.name + ".part")
        _resume(address, part)
        shutil.move(part, output)

    target.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url, f"sha256:{known_hash}" if known_hash else None, target.name, target.parent, downloader=resume
        )
    except ValueError as error:
        raise ValueError(
            f"{url} did not give the published {target.name}: {error} Nothing was kept; try again later, or get "
            f"the file by hand and put it at {target}."
        ) from error
    return target


def extract(archive: Path, target: Path, hashes: Mapping[str, str], max_bytes: int) -> None:
    """Extract the files of `hashes` from a zip into `target`, all of them, checked, or none.

    A member is taken for `path` if it has that name, or that name below the folder named as the archive
    (`spikesandwav.zip` with `dataAC/...` for `spikesandwav/dataAC/...`). Other members are left alone.

    Raises
    ------
    ValueError
        If any member has an absolute path or "..", is a link, or lies outside the target; if the archive unpacks to
        more than `max_bytes`; if a file is missing, damaged, or not the published one.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _safe_members(zipped, archive, max_bytes)
            chosen = {
                path: member
                for path in hashes
                if (member := members.get(path) or members.get(path.removeprefix(archive.stem + "/")))
            }
            if absent := [path for path in hashes if path not in chosen]:
                raise ValueError(f"{archive} lacks {len(absent)} of {len(hashes)} files, first {absent[0]}")
            with tempfile.TemporaryDirectory(prefix=".extract-", dir=target) as name:
                staged = Path(name)
                for path, member in chosen.items():
                    (staged / path).parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(member) as source, open(staged / path, "wb") as copy:
                        shutil.copyfileobj(source, copy, CHUNK)  # zipfile stops at the declared size
                verify(staged, {path: hashes[path] for path in chosen})
                for path in chosen:
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(staged / path, target / path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is damaged ({error}): delete it and load again") from error


def _fetch_archive(url: str, folder: Path, archive: str, hashes: Mapping[str, str], max_bytes: int) -> None:
    """Download a zip and extract it; the zip stays only if it was there before."""
    zipped = folder / archive
    put_by_hand = zipped.is_file()
    try:
        extract(zipped if put_by_hand else download(url, zipped, None), folder, hashes, max_bytes)
    finally:
        if not put_by_hand:
            zipped.unlink(missing_ok=True)


def _safe_members(zipped: zipfile.ZipFile, archive: Path, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files of the archive by name; refuse the whole archive if one member is not safe."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in zipped.infolist():
        path = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or set(member.filename) & set("\\:"):
            raise ValueError(f"{archive}: refused, {member.filename!r} points outside the archive")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{archive}: refused, {member.filename!r} is a link or a device")
        if not member.is_dir():
            members[str(path)] = member
    total = sum(member.file_size for member in members.values())
    if total > max_bytes:
        raise ValueError(f"{archive}: refused, it unpacks to {total} bytes, more than {max_bytes}")
    return members


def _resume(url: str, part: Path) -> None:
    """Download `url` to `part`, from where it stopped if the server still has the same file."""
    import requests

    stamp = part.with_name(part.name + ".etag")
    start = part.stat().st_size if part.is_file() and stamp.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # byte ranges count the bytes as stored
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": stamp.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as reply:
        if reply.status_code == 416:  # the part is already as long as the file, or longer
            part.unlink()
            stamp.unlink()
            return _resume(url, part)
        reply.raise_for_status()
        resumed = reply.status_code == 206
        validator = reply.headers.get("ETag", "")
        if validator and not validator.startswith("W/"):
            stamp.write_text(validator)
        length = int(reply.headers.get("Content-Length", 0))
        offset = start if resumed else 0
        with (
            open(part, "ab" if resumed else "wb") as file,
            progress_bar(
                total=offset + length or None,
                initial=offset,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                leave=False,
                disable=0 < length < 4 * CHUNK,
            ) as bar,
        ):
            for block in reply.iter_content(CHUNK // 16):
                file.write(block)
                bar.update(len(block))
        if length and part.stat().st_size != offset + length:
            raise ConnectionError(f"{url}: connection closed after {part.stat().st_size} bytes")
    stamp.unlink(missing_ok=True)


def _reachable(url: str) -> bool:
    """Return whether the server answers within seconds; a name look-up alone may take much longer."""
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            requests.head(url, timeout=(CONNECT_SECONDS, CONNECT_SECONDS)).close()
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    return answered.is_set()


def _writable_folder(name: str) -> Path:
    """Return the first data folder of `name` that can be written, made if need be."""
    folders = data_folders(name)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise RecordingUnavailable(f"no folder to put {name!r} in can be written: {', '.join(map(str, folders))}")
