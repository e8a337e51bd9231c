"""Downloads and archives, against a server on this machine: whole and right, or nothing."""

from __future__ import annotations

import hashlib
import http.server
import stat
import threading
import zipfile

import pytest

from strflab import data
from strflab.data import fetch

CONTENT = {"a.txt": b"alpha" * 100, "spikes/b.bin": bytes(range(256)) * 2000, "spikes/c.txt": b""}
HASHES = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `server.files`, with byte ranges; cut the reply after `server.cut` bytes, once, if set."""

    def do_HEAD(self):
        self.send_response(405)
        self.end_headers()

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start, etag = 0, f'"{hashlib.md5(content).hexdigest()}"'
        if (wanted := self.headers.get("Range")) and self.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", etag)
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(content[start : None if cut is None else start + cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.cut = {}, [], None
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A data folder and a cache of the test's own, and a network."""
    monkeypatch.setenv("STRFLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STRFLAB_OFFLINE", "0")
    monkeypatch.setattr(fetch, "read_hashes", lambda name: dict(HASHES))
    return tmp_path


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def zip_of(path, members):
    """Write a zip of {name or ZipInfo: content}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for member, content in members.items():
            zipped.writestr(member, content)
    return path


def remote_of(server, tmp_path, members=None, **options):
    """A recording of one file and one zip on the server."""
    archive = zip_of(tmp_path / "made.zip", members or {"b.bin": CONTENT["spikes/b.bin"], "c.txt": b"", "extra": b"x"})
    server.files = {"/1": CONTENT["a.txt"], "/2": archive.read_bytes()}
    return fetch.Remote("toy", {"a.txt": f"{server.url}/1"}, {"spikes.zip": f"{server.url}/2"}, **options)


def test_fetches_files_and_archives_into_the_data_folder(server, folders):
    folder = fetch.fetch(remote_of(server, folders))
    assert folder == folders / "data" / "toy"
    assert files_below(folder) == sorted(CONTENT)  # no zip, no part, no member that was not asked for
    assert {path: (folder / path).read_bytes() for path in CONTENT} == CONTENT
    fetch.fetch(remote_of(server, folders))
    assert len(server.requests) == 2  # the second time nothing was asked of the server


def test_a_read_only_data_folder_sends_files_to_the_cache(server, folders, monkeypatch):
    (folders / "data").write_text("a file, so that no folder can be made there")
    assert fetch.fetch(remote_of(server, folders)) == folders / "cache" / "toy"


def test_the_data_folder_is_looked_at_first_then_the_cache(folders):
    for root in ("cache", "data"):
        for path, content in CONTENT.items():
            (folders / root / "toy" / path).parent.mkdir(parents=True, exist_ok=True)
            (folders / root / "toy" / path).write_bytes(content)
    assert fetch.locate("toy", HASHES) == folders / "data" / "toy"
    (folders / "data" / "toy" / "a.txt").unlink()
    assert fetch.locate("toy", HASHES) == folders / "cache" / "toy"
    (folders / "cache" / "toy" / "a.txt").unlink()
    assert fetch.locate("toy", HASHES) is None


def test_an_interrupted_download_is_resumed(server, folders):
    server.files["/b"], server.cut = CONTENT["spikes/b.bin"], 300_000
    target = folders / "b.bin"
    with pytest.raises(OSError, match=r"(?i)incomplete|closed|broken"):
        fetch.download(f"{server.url}/b", target, HASHES["spikes/b.bin"])
    assert not target.exists()
    fetch.download(f"{server.url}/b", target, HASHES["spikes/b.bin"])
    (_, first), (_, second) = server.requests
    assert first is None
    assert 200_000 < int(second.removeprefix("bytes=").rstrip("-")) <= 300_000
    assert target.read_bytes() == CONTENT["spikes/b.bin"]
    assert files_below(folders) == ["b.bin"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, folders):
    server.files["/b"], server.cut = b"old" * 200_000, 300_000
    with pytest.raises(OSError, match=r"(?i)incomplete|closed|broken"):
        fetch.download(f"{server.url}/b", folders / "b.bin", None)
    server.files["/b"] = CONTENT["spikes/b.bin"]
    fetch.download(f"{server.url}/b", folders / "b.bin", HASHES["spikes/b.bin"])
    assert (folders / "b.bin").read_bytes() == CONTENT["spikes/b.bin"]


def test_a_wrong_download_leaves_nothing_and_says_what_to_do(server, folders):
    server.files["/a"] = b"an error page"
    with pytest.raises(ValueError, match=r"did not give the published a\.txt.*Nothing was kept.*put it at"):
        fetch.download(f"{server.url}/a", folders / "a.txt", HASHES["a.txt"])
    assert files_below(folders) == []


def test_a_missing_file_on_the_server_is_unavailable(server, folders):
    remote = remote_of(server, folders)
    del server.files["/1"]
    with pytest.raises(data.RecordingUnavailable, match="404"):
        fetch.fetch(remote)


def test_without_a_network_the_error_says_what_to_do(folders):
    remote = fetch.Remote("toy", {"a.txt": "http://127.0.0.1:9/1"})
    with pytest.raises(data.RecordingUnavailable, match=r"does not answer.*load\(\"toy\"\).*STRFLAB_DATA.*simulated"):
        fetch.fetch(remote)
    assert issubclass(data.RecordingUnavailable, OSError)


def test_offline_nothing_is_tried(server, folders, monkeypatch):
    monkeypatch.setenv("STRFLAB_OFFLINE", "1")
    with pytest.raises(data.RecordingUnavailable, match="STRFLAB_OFFLINE is set"):
        fetch.fetch(remote_of(server, folders))
    assert server.requests == []
    assert files_below(folders) == ["made.zip"]


def test_a_changed_file_is_named_with_what_to_do(folders):
    (folders / "a.txt").write_bytes(b"alphb")
    with pytest.raises(ValueError, match=r"a\.txt is not the published file: .* expected .*Delete it"):
        fetch.verify(folders, {"a.txt": HASHES["a.txt"]})


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../evil.txt", "points outside"),
        ("spikes/../../evil.txt", "points outside"),
        ("/evil.txt", "points outside"),
        ("..\\evil.txt", "points outside"),
        ("C:/evil.txt", "points outside"),
        (link("spikes/c.txt"), "link or a device"),
        (link("elsewhere"), "link or a device"),
    ],
)
def test_an_unsafe_archive_is_refused_whole(server, folders, member, message):
    good = {path: content for path, content in CONTENT.items() if path != getattr(member, "filename", "")}
    remote = remote_of(server, folders, members={**good, member: b"../../outside"})
    with pytest.raises(ValueError, match=message):
        fetch.fetch(remote)
    assert files_below(folders) == ["data/toy/a.txt", "made.zip"]


def test_an_archive_that_is_too_large_is_refused(folders):
    archive = zip_of(folders / "bomb.zip", {"a.txt": b"0" * 2_000_000})
    with pytest.raises(ValueError, match="unpacks to 2000000 bytes, more than 1000000"):
        fetch.extract(archive, folders / "out", {"a.txt": HASHES["a.txt"]}, max_bytes=1_000_000)
    assert files_below(folders) == ["bomb.zip"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.txt": CONTENT["a.txt"]}, "lacks 2 of 3 files, first spikes/b.bin"),
        (CONTENT | {"spikes/b.bin": b"other"}, r"b\.bin is not the published file"),
    ],
)
def test_extraction_is_all_or_nothing(folders, members, message):
    with pytest.raises(ValueError, match=message):
        fetch.extract(zip_of(folders / "some.zip", members), folders / "out", HASHES, 1 << 20)
    assert files_below(folders) == ["some.zip"]


def test_a_damaged_archive_is_named(folders):
    archive = zip_of(folders / "some.zip", CONTENT)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"some\.zip is damaged"):
        fetch.extract(archive, folders / "out", HASHES, 1 << 20)


def test_an_archive_put_there_by_hand_is_used_and_kept(server, folders):
    remote = remote_of(server, folders)
    (folders / "data" / "toy").mkdir(parents=True)
    (folders / "made.zip").rename(folders / "data" / "toy" / "spikes.zip")
    fetch.fetch(remote)
    assert [path for path, _ in server.requests] == ["/1"]
    assert (folders / "data" / "toy" / "spikes.zip").is_file()


def test_the_committed_lists_name_every_file(monkeypatch):
    monkeypatch.undo()
    zebra, ns1 = fetch.read_hashes("zebra_finch"), fetch.read_hashes("ns1")
    assert (len(zebra), len(ns1)) == (40, 140)
    assert sum(path.endswith(".data.mat") for path in ns1) == 119
    assert all(len(digest) == 64 for digest in [*zebra.values(), *ns1.values()])
    assert set(data.zebra_finch.REMOTE.files) == set(zebra)
