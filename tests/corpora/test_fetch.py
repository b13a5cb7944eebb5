"""Fetching a corpus from a server on this machine: whole, resumed, wrong, dangerous, absent."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import re
import shutil
import stat
import threading
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from light_sernet_kd.cli import main
from light_sernet_kd.corpora import emodb, fetch, registry
from light_sernet_kd.errors import UserError

NAMES = [f"{speaker}a0{n}{letter}b.wav" for speaker in ("03", "08") for n in (1, 2) for letter in "WLEAFTN"]


def archived(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


# Incompressible, so that the archive is of some size.
RECORDINGS = {name: hashlib.shake_256(name.encode()).digest(20_000) for name in NAMES}
ARCHIVE = archived({"erkennung.txt": b"x", **{f"wav/{name}": data for name, data in RECORDINGS.items()}})


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `cuts` are the numbers of bytes after which connections break off, in order."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = ARCHIVE
        self.cuts: list[int] = []
        self.honours_range = True
        self.shift = 0  # of the range it sends from the one asked for
        self.requests: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/corpus.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        content = self.server.content
        if self.path != "/corpus.zip":
            self.send_error(404)
            return
        start = 0
        if wanted and self.server.honours_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) + self.server.shift
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        with contextlib.suppress(OSError):
            self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    offer(monkeypatch, server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def digest(recordings: dict[str, bytes]) -> str:
    lines = sorted(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in recordings.items())
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def offer(monkeypatch, url: str | None, **changes) -> None:
    """EMO-DB as if it were found at `url`."""
    changes = {"archive": url, "content_hash": digest(RECORDINGS), **changes}
    monkeypatch.setattr(emodb, "ORIGIN", dataclasses.replace(emodb.ORIGIN, **changes))


def refusal(data: Path) -> str:
    """Fetches, is refused, and leaves nothing under the corpus's name."""
    with pytest.raises(UserError) as caught:
        fetch.fetch("EMO-DB", data)
    assert not (data / "EMO-DB").exists()
    assert not list(data.glob(".*")), "no half-unpacked folder"
    return str(caught.value)


def test_a_corpus_is_downloaded_checked_and_unpacked(server, tmp_path):
    said, seen = [], []
    data = tmp_path / "new" / "data"
    target = fetch.fetch("emo-db", data, say=said.append, progress=lambda *state: seen.append(state))
    assert target == data / "EMO-DB"
    assert {path.name: path.read_bytes() for path in (target / "wav").iterdir()} == RECORDINGS
    assert len(registry.load("EMO-DB", data).utterances) == len(NAMES)
    assert [path.name for path in data.iterdir()] == ["EMO-DB"], "the archive is gone"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(data.stat().st_mode)
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert "Licence: CC0" in said[0]


def test_the_command_prints_where_the_corpus_is(server, tmp_path, capsys):
    assert main(["fetch", "EMO-DB", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"EMO-DB is in {tmp_path / 'EMO-DB'}.")


def test_a_corpus_that_is_there_is_left_alone(server, tmp_path):
    mine = tmp_path / "EMO-DB" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    said = []
    assert fetch.fetch("EMO-DB", tmp_path, say=said.append) is None
    assert "left as it is" in said[0]
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]
    assert server.requests == []


def test_an_empty_folder_is_filled(server, tmp_path):
    (tmp_path / "EMO-DB").mkdir()
    assert fetch.fetch("EMO-DB", tmp_path, say=lambda _: None) == tmp_path / "EMO-DB"


def test_a_connection_that_is_cut_is_taken_up_where_it_broke_off(server, tmp_path):
    server.cuts = [100_000, 50_000]  # six and three chunks of 16 KiB, and some
    fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert server.requests == [None, "bytes=98304-", "bytes=147456-"]
    assert len(registry.load("EMO-DB", tmp_path).utterances) == len(NAMES)


def test_when_the_server_goes_away_the_next_command_goes_on(server, tmp_path):
    server.cuts = [100_000, 0]
    message = refusal(tmp_path)
    part = tmp_path / "EMO-DB.zip.part"
    assert "98,304 bytes" in message
    assert message.endswith("the same command goes on from there.")
    assert part.read_bytes() == ARCHIVE[:98_304]
    server.requests.clear()
    fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert server.requests == ["bytes=98304-"]
    assert not part.exists()


@pytest.mark.parametrize(("honours_range", "shift"), [(False, 0), (True, -7), (True, 7)])
def test_a_server_that_does_not_go_on_sends_all_anew(server, tmp_path, monkeypatch, honours_range, shift):
    server.honours_range, server.shift = honours_range, shift
    # a ZIP reader would forgive bytes before the archive, the hash does not
    offer(monkeypatch, server.url, archive_hash="sha256:" + hashlib.sha256(ARCHIVE).hexdigest())
    (tmp_path / "EMO-DB.zip.part").write_bytes(b"x" * 1000)
    fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert len(registry.load("EMO-DB", tmp_path).utterances) == len(NAMES)


@pytest.mark.parametrize("surplus", [b"", b"x"])
def test_a_part_that_is_whole_is_used_and_one_that_is_too_long_is_not(server, tmp_path, surplus):
    (tmp_path / "EMO-DB.zip.part").write_bytes(ARCHIVE + surplus)
    fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert server.requests == [f"bytes={len(ARCHIVE + surplus)}-", *([None] if surplus else [])]


def test_a_folder_that_may_not_be_written_is_one_line(server, tmp_path, monkeypatch, capsys):
    def forbidden(*_, **__):
        raise PermissionError("no errno, as pooch's")

    monkeypatch.setattr("pooch.retrieve", forbidden)
    assert main(["fetch", "EMO-DB", "--data", str(tmp_path)]) == 2
    assert f"{tmp_path} may not be written" in capsys.readouterr().err


def test_another_hash_than_the_publishers_is_refused(server, tmp_path, monkeypatch):
    offer(monkeypatch, server.url, archive_hash="md5:" + hashlib.md5(ARCHIVE + b"x").hexdigest())
    assert "(the hash is another)" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []
    offer(monkeypatch, server.url, archive_hash="md5:" + hashlib.md5(ARCHIVE).hexdigest())
    assert fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)


def test_other_recordings_than_the_known_ones_are_refused(server, tmp_path):
    server.content = archived({f"wav/{name}": data for name, data in RECORDINGS.items() if name != NAMES[0]})
    message = refusal(tmp_path)
    assert "are not those of EMO-DB as this program knows them" in message
    assert digest(RECORDINGS) in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../outside.wav", "wav/../../outside.wav", "/outside.wav", "C:/outside.wav", "..\\outside.wav"]
)
def test_a_member_that_would_leave_the_folder_is_refused(server, tmp_path, name):
    server.content = archived({"wav/a.wav": b"a", name: b"evil"})
    data = tmp_path / "data"
    assert refusal(data).endswith("which leaves the folder: nothing is unpacked.")
    assert list(tmp_path.rglob("*outside*")) == []


def test_a_link_in_an_archive_is_refused(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("wav/link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "../../../etc/passwd")
    server.content = buffer.getvalue()
    assert refusal(tmp_path).endswith("which is a link or a device: nothing is unpacked.")


@pytest.mark.parametrize(
    "content", [b"<html>Sign in</html>", ARCHIVE[:-30], ARCHIVE[:5000] + b"\0" * 5000 + ARCHIVE[10_000:]]
)
def test_a_damaged_archive_is_refused_and_deleted(server, tmp_path, content):
    server.content = content
    assert "is damaged" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as file:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, place: int, value: int) -> bytes:
    """An archive of one member with another field in both its headers, `place` bytes into the local one."""
    changed = bytearray(content)
    for start in (0, content.index(b"PK\1\2") + 2):
        changed[start + place : start + place + 2] = value.to_bytes(2, "little")
    return bytes(changed)


ONE = zipped([("wav/a.wav", b"x" * 100)])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        *((patched(ONE, 8, number), f"is packed by {name}") for number, name in
          ((9, "Deflate64"), (93, "Zstandard"), (98, "PPMd"), (99, "AES"), (77, "method 77"))),
        (patched(ONE, 6, 1), "is locked by a password"),
        (zipped([("wav/" + "n" * 300 + ".wav", b"x")]), "a name of 304 bytes"),
        (zipped([("n/" * 600 + "a.wav", b"x")]), "a name of 1,205 bytes"),
        (zipped([("wav", b"x"), ("wav/x", b"x")]), "as a file and as a folder"),
        (zipped([("wav/x", b"x"), ("wav", b"x")]), "as a file and as a folder"),
        (zipped([("wav/x", b"x"), ("wav/x", b"y")]), "twice"),
        (zipped([("wav/a.wav", b"x"), ("wav/A.wav", b"y")]), "one name to some file systems"),
        (zipped([("wav/a.wav", b"x"), ("WAV/b.wav", b"y")]), "one name to some file systems"),
        (zipped([("wav/\u00e9.wav", b"x"), ("wav/e\u0301.wav", b"y")]), "one name to some file systems"),
        *((zipped([(f"wav/{name}", b"x")]), "not every system can write")
          for name in ("aux", "NUL.wav", "com1.txt", "a.wav.", "a ", "a?b", "a\nb")),
    ],
)  # fmt: skip
def test_an_archive_that_cannot_be_unpacked_is_one_line_and_is_not_kept(server, tmp_path, content, why):
    server.content = content
    message = refusal(tmp_path)
    assert why in message
    assert message.endswith(": nothing is unpacked.")
    assert len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    server.content = ARCHIVE
    assert fetch.fetch("EMO-DB", tmp_path, say=lambda _: None), "the next command downloads it anew"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bzip2_and_lzma_are_unpacked_and_damage_of_them_is_one_line(server, tmp_path, method):
    whole = zipped([("wav/", b""), *((f"wav/{name}", data) for name, data in RECORDINGS.items())], method)
    start = whole.index(b"wav/03a01Wb.wav") + len("wav/03a01Wb.wav")
    for place in (start + 2, start + 4, start + 10, start + 5000):
        server.content = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        message = refusal(tmp_path)
        assert "is damaged" in message
        assert len(message.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
    server.content = whole
    target = fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert {path.name: path.read_bytes() for path in (target / "wav").iterdir()} == RECORDINGS


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_to_more_than_it_says_needs_little_memory(server, tmp_path, method):
    bomb = zipped([("wav/a.wav", bytes(2**25))], method)
    size = bomb.index(b"PK\1\2") + 24
    server.content = bomb[:size] + (10**6).to_bytes(4, "little") + bomb[size + 4 :]
    tracemalloc.start()
    try:
        assert "is damaged" in refusal(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_archive_that_lists_fewer_members_than_it_says_is_damaged(server, tmp_path):
    content = bytearray(zipped([("wav/a.wav", b"x"), ("wav/b.wav", b"y")]))
    # the comment of the first swallows the second
    first, second, end = content.index(b"PK\1\2"), content.rindex(b"PK\1\2"), content.index(b"PK\5\6")
    content[first + 32 : first + 34] = (end - second).to_bytes(2, "little")
    server.content = bytes(content)
    assert "is damaged (its list of members is not whole)" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_says_it_unpacks_to_too_much_is_refused_with_the_limit(server, tmp_path):
    size = ONE.index(b"PK\1\2") + 24
    server.content = ONE[:size] + (2**32 - 2).to_bytes(4, "little") + ONE[size + 4 :]
    assert "unpacks to 4,295 MB from 0.0 MB; at most 1,000 MB are unpacked" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_gone_is_named(server, tmp_path, monkeypatch):
    offer(monkeypatch, server.url.replace("corpus", "gone"))
    message = refusal(tmp_path)
    assert "/gone.zip answers 404 Not Found. Or get it from http://emodb.bilderbar.info/docu/" in message
    assert str(tmp_path / "EMO-DB") in message


def test_no_server_is_a_line_with_the_remedy(server, tmp_path, monkeypatch, capsys):
    server.server_close()
    server.shutdown()
    assert main(["fetch", "EMO-DB", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{server.url} cannot be reached: check the connection" in error


def test_too_little_space_is_told_before_it_is_filled(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    assert refusal(tmp_path) == f"{tmp_path} has 0 MB free, but 1 MB are needed."
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line(server, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "EMO-DB.zip.part"))

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    assert main(["fetch", "EMO-DB", "--data", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["EMO-DB.zip"], "the download is kept, nothing half"
    monkeypatch.undo()
    offer(monkeypatch, server.url)
    server.requests.clear()
    fetch.fetch("EMO-DB", tmp_path, say=lambda _: None)
    assert server.requests == [], "and is not downloaded again"


@pytest.mark.parametrize(
    "name", [name for name, each in registry.CORPORA.items() if each.origin and not each.origin.archive]
)
def test_for_the_others_the_command_says_where_to_get_them_and_where_to_put_them(tmp_path, capsys, name):
    assert main(["fetch", name.lower(), "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    origin = registry.CORPORA[name].origin
    for text in (origin.page, origin.licence, origin.layout, str(tmp_path / name), origin.steps):
        assert text in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_made_here_or_unknown_is_told_apart(tmp_path, capsys):
    assert main(["fetch", "demo", "--data", str(tmp_path)]) == 0
    assert "needs no download" in capsys.readouterr().out
    assert main(["fetch", "EMODB", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "Did you mean EMO-DB?" in said
    # What is listed can be fetched, and all that can be.
    listed = said.partition("Valid: ")[2].strip().rstrip(".").split(", ")
    assert listed == [*(name for name, each in registry.CORPORA.items() if each.origin), "litert-web"]


def test_without_a_name_it_says_what_is_downloaded(capsys):
    assert main(["fetch"]) == 0
    rows = re.findall(r"^ (\S+) +(downloads it|says where)", capsys.readouterr().out, re.MULTILINE)
    shown = {name: does == "downloads it" for name, does in rows}
    known = {name: bool(each.origin.archive) for name, each in registry.CORPORA.items() if each.origin}
    assert shown == {**known, "litert-web": True}


def test_what_is_downloaded_is_checked():
    for source in registry.CORPORA.values():
        if source.origin and source.origin.archive:
            assert source.origin.archive_hash or source.origin.content_hash
            assert source.origin.archive.endswith(".zip")


def test_the_known_digest_of_emo_db_is_that_of_its_recordings(shared_data):
    recordings = (shared_data / "EMO-DB" / "wav").iterdir()
    assert f"sha256:{fetch.recordings_digest(recordings)}" == emodb.ORIGIN.content_hash
