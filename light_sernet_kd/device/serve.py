"""A page on 127.0.0.1 that runs an exported student inside the browser; the corpus `demo` is something else.

The browser gets the page (the folder `page`), the exported files and LiteRT's web runtime from this process,
and is told by a Content-Security-Policy to ask nobody else. Recordings never leave it.
"""

import contextlib
import io
import json
import logging
import os
import socket
import sys
import tarfile
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from light_sernet_kd import runner
from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.corpora.fetch import Progress, download
from light_sernet_kd.device import site
from light_sernet_kd.device.whole import default_hop
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.dimensions import DIMENSIONS
from light_sernet_kd.reporting import names, palette
from light_sernet_kd.reporting.text import concordance

_log = logging.getLogger("light_sernet_kd")

RUNTIME_NAME = "litert-web"
RUNTIME_VERSION = "2.5.3"
RUNTIME_URL = f"https://registry.npmjs.org/@litertjs/core/-/core-{RUNTIME_VERSION}.tgz"
RUNTIME_HASH = "sha256:a97660833e9e7e1063c95e12016718881240b14f7438728a2f62785e912d30fd"
PORT = 8237
REQUEST_SECONDS = 10.0  # from a connection's beginning to its answer's last byte
MOST_CONNECTIONS = 32  # a browser opens six

_PAGE = Path(__file__).with_name("page")
# In the archive, and under /litert/. Of the builds, browsers without relaxed SIMD take `compat`.
_RUNTIME_FILES = {
    "package/dist/index.js": "core.js",
    **{
        f"package/wasm/litert_wasm_{build}.{kind}": f"wasm/litert_wasm_{build}.{kind}"
        for build in ("internal", "compat_internal")
        for kind in ("js", "wasm")
    },
}
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".wav": "audio/wav",
}
# The page begins with the first of these that is there.
_PRECISIONS = ("int8", *(name for name in PRECISIONS if name != "int8"))
# Address → its kind and content; nothing else is served.
Files = Mapping[str, tuple[str, bytes]]


def fetch_runtime(*, progress: Progress | None = None) -> Path:
    """LiteRT's web runtime as npm publishes it, in the user's cache; downloaded where it is not there yet.

    Raises:
        UserError: it cannot be downloaded, or is not what it should be; says where to put it by hand.
    """
    import pooch

    folder = Path(pooch.os_cache("light-sernet-kd"))
    target = folder / f"{RUNTIME_NAME}-{RUNTIME_VERSION}.tgz"
    return download(
        RUNTIME_URL,
        RUNTIME_HASH,
        target,
        remedy=f"Or get it elsewhere and put it there as {target}.",
        forbidden=f"{folder} may not be written: name another place with XDG_CACHE_HOME.",
        progress=progress,
    )


def students(run: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Card and content of each exported file by its name: of those in a run's folder, or of the one named.

    Raises:
        UserError: there is none, or one that is damaged or takes anything but audio.
    """
    paths = [run]
    if run.is_dir():
        # Those that know speakers answer for everyone else as the others do.
        named = (
            (run / f"student_{each}_enrolled.tflite", run / f"student_{each}.tflite") for each in _PRECISIONS
        )
        paths = [path for pair in named if (path := next(filter(Path.is_file, pair), None))]
        if not paths:
            raise UserError(
                f"no student_*.tflite in {run}: name the folder of a run that exported one, or a file."
            )
    students_by_name = {}
    for path in paths:
        try:
            _, card, labels = runner.open_file(path)
        except runner.RunnerError as error:
            raise UserError(str(error)) from None
        takes = card.get("inputs", [card["input"]])
        if "audio" not in takes and "text" not in card and "states" not in card:
            raise UserError(
                f"{path} takes {takes[0]}, not audio: export it with the front end inside (-m true)."
            )
        if takes != ["audio"]:
            raise UserError(f"{path} takes {', '.join(takes)}, and the page takes audio only: use predict.")
        students_by_name[path.name] = ({**card, "classes": [*labels]}, path.read_bytes())
    return students_by_name


def speaker_of(
    profile: Path, run: Path, students_by_name: Mapping[str, tuple[Mapping[str, Any], bytes]]
) -> runner.Profile:
    """The profile in a file, which every student of a run can use.

    Raises:
        UserError: it is damaged, or one of them cannot use it.
    """
    try:
        loaded = runner.Profile.load(profile)
        for name, (card, _) in students_by_name.items():
            path = run / name if run.is_dir() else run
            runner.require_profile(loaded, card, path, name=str(profile))
    except runner.RunnerError as error:
        raise UserError(str(error)) from None
    return loaded


def described(card: Mapping[str, Any], address: str, size: int) -> dict[str, Any]:
    """What the page must know of a file, and what it says about it."""
    return {
        "file": address,
        "size": f"{size / 1e6:.2f} MB",
        "precision": card["precision"],
        "labels": card["classes"],
        "samples": card["samples"],
        "sample_rate": card["sample_rate"],
        "padding": card["padding"],
        "unsure_below": runner.unsure_threshold(card),
        "silence_dbfs": runner.SILENCE_DBFS,
        "silence_hysteresis_db": runner.SILENCE_HYSTERESIS_DB,
        "steady_db": runner.STEADY_DB,
        "shortest_seconds": runner.SHORTEST_SECONDS,
        "level_range": {
            "rate": runner.LEVEL_RANGE_RATE,
            "block_seconds": runner.LEVEL_RANGE_BLOCK_SECONDS,
            "frame_blocks": runner.FRAME_BLOCKS,
            "hop_blocks": runner.FRAME_HOP_BLOCKS,
            "fewest_frames": runner.FEWEST_FRAMES,
        },
        "hop_seconds": default_hop(card["samples"], card["sample_rate"]),
        "smoothing_seconds": runner.SMOOTHING_SECONDS,
        "margin": runner.MARGIN,
        "patience": runner.PATIENCE,
        "corpus": card.get("corpus"),
        "synthetic": card.get("synthetic"),
        "card_stamps": [*card.get("stamps", ())],
        "stamps": site.of_model(card),
        "colours": {name: asdict(each) for name, each in palette.colours(card["classes"]).items()},
        "enrolled": card.get(runner.ENROLLED),
        "dimensions": _dimensions(card),
        "facts": _facts(card),
    }


def _dimensions(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Names, range and what the ends are called, of a file that gives dimensions."""
    told = card.get(runner.DIMENSIONS)
    if told is None:
        return None
    return {**told, "ends": {name: [DIMENSIONS[name].low, DIMENSIONS[name].high] for name in told["names"]}}


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Titles and texts, of what the card has."""
    facts = []
    if "student" in card:
        parameters = f", {card['parameters']:,} parameters" if "parameters" in card else ""
        facts.append(("Network", f"{names.student(card['student'])}{parameters}"))
    if "corpus" in card:
        day = f", {card['trained']}" if card.get("trained") else ""
        facts.append(("Trained on", f"{card['corpus']}{day}"))
    if "distillation" in card:
        facts.append(("Training", names.distillation(card["distillation"])))
    if "ua" in card:
        ends = [f"{100 * card[end]:.1f}" for end in ("ua_low", "ua_high") if end in card]
        between = f" [{', '.join(ends)}]" if len(ends) == 2 else ""
        under = f", {names.protocol(card['protocol'])}" if "protocol" in card else ""
        facts.append(("Unweighted accuracy (UA)", f"{100 * card['ua']:.1f} %{between}{under}"))
    elif runner.gives_classes(card):
        facts.append(("Unweighted accuracy (UA)", "the file does not say; see the run's report"))
    if runner.DIMENSIONS in card:
        low, high = card[runner.DIMENSIONS]["range"]
        facts += [
            (f"Concordance (CCC) of {name}", concordance(each)) for name, each in card.get("ccc", {}).items()
        ]
        facts.append(
            ("Tone", f"{', '.join(card[runner.DIMENSIONS]['names'])}, on a scale from {low:g} to {high:g}")
        )
    seconds = card["samples"] / card["sample_rate"]
    where = "at both ends" if card["padding"] == "both" else "at the end"
    facts.append(("Input", f"{seconds:g} s at {card['sample_rate']:,} Hz; shorter clips get zeros {where}"))
    if "front_end" in card and "input_type" in card:
        facts.append(("Front end", f"{names.input_type(card['input_type'])}, {card['front_end']}"))
    if "temperature" in card:
        facts.append(("Calibration temperature", f"{card['temperature']:.3g}, already in the probabilities"))
    for key, title in (
        ("corpus_licence", "Licence of the corpus"),
        ("teacher_licence", "Licence of the teacher"),
        ("started_from", "Began with the student of"),
        ("start_licence", "Licence of what it began with"),
        ("scored", "Whose scores these are"),
    ):
        if card.get(key):
            facts.append((title, str(card[key])))
    return facts


def files(
    students_by_name: Mapping[str, tuple[Mapping[str, Any], bytes]],
    runtime: Path,
    profile: runner.Profile | None = None,
) -> Files:
    """Everything that the page needs, by its address.

    Args:
        students_by_name: as `students` gives them.
        runtime: the archive that `fetch_runtime` gives.
        profile: what is known of the speaker, for the page to begin with.
    """
    known = {"mean": profile.mean.tolist(), "clips": profile.clips} if profile else None
    served = {f"/{path.name}": path.read_bytes() for path in _PAGE.iterdir() if path.suffix in _KINDS}
    served["/"] = served.pop("/index.html")
    descriptions = []
    for name, (card, content) in students_by_name.items():
        address = f"students/{card['precision']}.tflite"
        descriptions.append(described(card, address, len(content)) | {"name": name, "profile": known})
        served[f"/{address}"] = content
    examples, sounds = site.examples()
    served |= {f"/{address}": content for address, content in sounds.items()}
    served["/examples.json"] = json.dumps(examples).encode()
    served["/students.json"] = json.dumps(descriptions).encode()
    # Members are read, never unpacked: what the archive calls them is of no matter.
    with tarfile.open(runtime) as archive:
        for member in archive:
            if member.name in _RUNTIME_FILES and (content_of := archive.extractfile(member)):
                served[f"/litert/{_RUNTIME_FILES[member.name]}"] = content_of.read()
    return {
        address: (_KINDS[Path(address).suffix if address != "/" else ".html"], content)
        for address, content in served.items()
    }


def server(
    served: Files,
    port: int,
    *,
    request_seconds: float = REQUEST_SECONDS,
    most_connections: int = MOST_CONNECTIONS,
) -> ThreadingHTTPServer:
    """Serves these addresses on 127.0.0.1 and nothing else; port 0 is any that is free.

    Args:
        request_seconds: what a request and its answer may take together; then the connection is closed.
        most_connections: threads at a time; for one more, the connection is closed that has been sending its
            request for longest.

    Raises:
        UserError: the port is taken or not allowed.
    """
    try:
        return _Server(served, port, request_seconds, most_connections)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({error.strerror}): name another with --port, or 0 for any free one."
        ) from None


def demo(
    run: Path,
    *,
    port: int = PORT,
    profile: Path | None = None,
    out: Path | None = None,
    browser: bool = True,
    say: Callable[[str], None] = _log.info,
    bar: Callable[[], AbstractContextManager[Progress | None]] = contextlib.nullcontext,
) -> None:
    """Serve the page of a run's exported files, or of one file, until Ctrl-C; or write it as a folder.

    Args:
        run: a run's folder or a `.tflite` file.
        port: 0 for any that is free.
        profile: of a speaker, as `enroll` writes it; the page goes on with it, and the file stays as it is.
        out: a folder that gets the page, for any web server of files; nothing is served then.
        browser: open the user's browser there.
        bar: shows the web runtime's download: gives what takes its progress, as of `fetch.fetch`.

    Raises:
        UserError: no file that a page can use, no runtime, or the port is taken; or the profile is damaged
            or not of every one of the files; or the folder cannot be written.
    """
    if out and profile:
        raise UserError("--out writes a page for everyone: leave --profile out, which is of one speaker.")
    if not 0 <= port < 2**16:
        raise UserError(f"--port must be from 0 to {2**16 - 1}, found {port}.")
    students_by_name = students(run)
    speaker = speaker_of(profile, run, students_by_name) if profile else None
    with bar() as progress:
        runtime = fetch_runtime(progress=progress)
    served = files(students_by_name, runtime, speaker)
    if out:
        site.write(served, out)
        size = sum(len(content) for _, content in served.values()) / 1e6
        say(f"{out}: {len(served)} files, {size:.0f} MB. {out / 'README.txt'} says what they need.")
        return
    with server(served, port) as serving:
        url = f"http://127.0.0.1:{serving.server_port}/"
        say(f"{', '.join(students_by_name)} at {url} (Ctrl-C ends)")
        # Without a screen webbrowser starts one for the terminal, which shows nothing of this page.
        screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}
        if browser and screen:
            # A thread, because the browser may wait for the server before it lets go.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            serving.serve_forever()
        say("ended")


class _Server(ThreadingHTTPServer):
    # Elsewhere the address is free again at once; Windows would let two servers share it.
    allow_reuse_address = os.name != "nt"
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, served: Files, port: int, request_seconds: float, most_connections: int):
        super().__init__(("127.0.0.1", port), _Handler)
        self.served, self.request_seconds = served, request_seconds
        self._places = threading.Semaphore(most_connections)
        self._reading: dict[socket.socket, None] = {}  # those whose request is not whole, the oldest first
        self._lock = threading.Lock()
        # A page of another name that was made to point here must not read the answers (DNS rebinding).
        names = {"127.0.0.1", "localhost"}
        self.hosts = {f"{name}:{self.server_port}" for name in names}
        if self.server_port == 80:  # which browsers leave out
            self.hosts |= names
        _, page = served["/"]
        self.policy = "; ".join(f"{name} {value}" for name, value in site.policy(page).items())

    def process_request(self, request, client_address):
        while not self._places.acquire(timeout=0.05):
            self._close_the_oldest()
        with self._lock:
            self._reading[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.has_asked(request)
            self._places.release()

    def has_asked(self, request: socket.socket) -> None:
        """The connection's request is whole, or has come to nothing."""
        with self._lock:
            self._reading.pop(request, None)

    def _close_the_oldest(self) -> None:
        with self._lock:
            oldest = next(iter(self._reading), None)
            if oldest is not None:
                del self._reading[oldest]
                # Its thread, which waits for more, reads the end. Whoever it was may be gone.
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        # A browser that goes away in the middle of an answer is none of ours.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _UntilDeadline(io.RawIOBase):
    """What a socket receives until a point of time; a byte now and then does not put that off."""

    def __init__(self, connection: socket.socket, deadline: float):
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "light-sernet-kd"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._deadline = time.monotonic() + self.server.request_seconds
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, self._deadline))

    def do_GET(self) -> None:
        self.server.has_asked(self.connection)
        # An answer, too, is sent within what is left: sendall's limit is of the whole.
        self.connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"this server answers to 127.0.0.1 only\n")
            return
        # What was not put there by name is not there: no path leads anywhere.
        served_file = self.server.served.get(self.path.partition("?")[0])
        if served_file is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not here\n")
        else:
            self._answer(HTTPStatus.OK, *served_file)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store",  # another run may be behind the same port tomorrow
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
