"""Results at a second place, which any store of fsspec may be: `--mirror s3://bucket/folder`.

A run is made in its local folder, under its lock. What is finished there, folds and whole runs, is sent to
the address, and what is finished there alone is fetched first, so that another machine goes on. Beside the
files of a run the address has

    mirror.json     path → SHA-256 of each file that was sent whole; written after the files it names

A file counts with that hash alone. So what was cut short is sent or made anew, and of two machines that send
the same run the second one stops.
"""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from light_sernet_kd.config import Settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError, first_line, installed, quoted
from light_sernet_kd.experiment.cluster.node import finished_files
from light_sernet_kd.files import atomic, locked, parse_json, sha256
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.reporting.text import pluralise

INDEX = "mirror.json"
# Files of a fold's folder that are of no use once its student is trained, as `Step` names them.
_PASSING = re.compile(
    r"(student|generation-\d+|teacher(-[\w-]+)?)-(checkpoint(-\d+)?\.npz|member\.(npz|npy|weights\.npz))"
    r"|generation-\d+\.npz"
)
_DONE = ("fold.json", "final.json")
# Seconds between looks for what is finished, and after an attempt that failed.
_LOOK_SECONDS, _WAIT_SECONDS = 2.0, 30.0


# The files of a folder that belong to its mirror, and whether that is all that the folder will have.
Files = Callable[[Path], tuple[list[Path], bool]]


class Store:
    """A folder at an address of fsspec.

    Raises:
        UserError: no such kind of store, a package of it is not installed, or it fails; each in one line.
    """

    def __init__(self, url: str):
        kind, _, place = url.partition("://")
        self.url = f"{kind}://{place.rstrip('/')}"
        if "://" not in url:
            raise UserError(
                f"--mirror takes an address such as s3://bucket/results, found {url}: a folder is named "
                f"{Path(url).resolve().as_uri()}."
            )
        with installed("fsspec", "--mirror"):
            import fsspec
        try:
            self.system, self.root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise UserError(f"--mirror {url}: {_remedy(url, error)}") from None
        except Exception as error:  # each store has kinds of its own, here and below
            raise UserError(f"--mirror {url}: {first_line(error)}.") from None
        # Where a path begins with a bucket, it has no slash before it; one of Windows has a drive.
        self.has_folders = self.root.startswith("/") or kind == "file"
        if not self.root.strip("/"):
            raise UserError(f"--mirror {url} names no folder: s3://bucket/results has one.")

    def check(self) -> None:
        """Write and remove a file, so that what cannot be written ends before any training."""
        name = f".check-{os.getpid()}"
        with self._told("cannot be written"):
            self._make_folder(self._path(name))
            self.system.pipe_file(self._path(name), b"-")
            self.system.rm_file(self._path(name))

    def names(self, pattern: str) -> list[str]:
        """What fits a pattern, relative to the address."""
        with self._told("cannot be read"):
            self.system.invalidate_cache()
            paths = self.system.glob(self._path(pattern))
        return [str(PurePosixPath(each).relative_to(PurePosixPath(self.root))) for each in paths]

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None where there is none."""
        with self._told("cannot be read"):
            try:
                return bytes(self.system.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file: whole or not at all, where the store moves files."""
        path = self._path(name)
        beside = f"{path}.part"
        with self._told("cannot be written"):
            self._make_folder(path)
            self.system.pipe_file(beside, content)
            self.system.mv(beside, path)

    def put(self, source: Path, name: str) -> None:
        with self._told("cannot be written"):
            self._make_folder(self._path(name))
            self.system.put_file(str(source), self._path(name))

    def get(self, name: str, target: Path) -> bool:
        """Whether the file is there, and then in `target`."""
        with self._told("cannot be read"):
            try:
                self.system.get_file(self._path(name), str(target))
            except FileNotFoundError:
                return False
        return True

    def remove(self, names: Iterable[str]) -> None:
        with self._told("cannot be written"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self.system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _make_folder(self, path: str) -> None:
        # A store of objects has none, and would make a bucket of a misspelt name.
        if self.has_folders:
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise UserError(f"the mirror {self.url} {what}: {first_line(error)}.") from None


def _remedy(url: str, error: ImportError) -> str:
    """What to install for a store, as its entry in fsspec says."""
    from fsspec.registry import known_implementations

    entry = known_implementations.get(url.partition("://")[0], {})
    package = str(entry.get("class", "fsspec")).partition(".")[0]
    if package == "fsspec":  # which has the store, and not what that needs
        return f"{first_line(error)}."
    install = f"{quoted(sys.executable)} -m pip install {package}"
    return f"this store needs {package}, which is not installed: {install}"


# Which files


def run_files(run: Path) -> tuple[list[Path], bool]:
    """Of a run: all where it is finished, metrics.json last, else those of finished folds."""
    metrics = RunFolder(run).metrics
    if metrics.exists():
        files = sorted(path for path in run.rglob("*") if _is_kept(path, run))
        return [path for path in files if path != metrics] + [metrics], True
    return [path for path in dict.fromkeys(finished_files(run)) if _is_kept(path, run)], False


def grid_files(folder: Path) -> tuple[list[Path], bool]:
    """Of a grid: those beside the folders of its runs."""
    return sorted(path for path in folder.glob("*") if path.is_file() and _is_kept(path, folder)), True


def _is_kept(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts)
    is_passing = len(parts) == 2 and parts[0].startswith("fold-") and _PASSING.fullmatch(parts[1])
    return not hidden and not is_passing and path.is_file()


# A folder and its mirror


@dataclass
class Mirrored:
    """A local folder, and where its finished files are sent.

    Attributes:
        name: of the folder at the address.
        files: which of its files belong there.
        there: the content of the index as this process knows it; None where there was none.
        hashes: path → SHA-256, as the index has them.
        damaged: what is at the address and not what was sent.
        is_whole: of a run, all of it was there when it was last looked at.
    """

    store: Store
    folder: Path
    name: str
    files: Files = run_files
    there: bytes | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    is_whole: bool = False
    _known: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def fetch(self) -> int:
        """Fetch what is finished at the address and not here, also files that are gone here; how many files.

        Raises:
            UserError: another run is there; or the store fails.
        """
        self.there = self.store.read(self._at(INDEX))
        if self.there is None:
            return 0
        self.hashes = self._hashes(self.there)
        config = self.folder / "config.json"
        if config.exists() and not self._is_same_run(config):
            raise UserError(
                f"{self.folder} and {self.store.url}/{self.name} hold different runs: give another --mirror "
                "or --run, or move one of them away."
            )
        lacking = [name for name in self.hashes if not (self.folder / name).exists()]
        count, last = 0, RunFolder(self.folder).metrics.name
        for done in [name for name in self.hashes if PurePosixPath(name).name in _DONE]:
            place, is_here = f"{PurePosixPath(done).parent}/", done not in lacking
            among = lacking if is_here else self.hashes
            files = [name for name in among if name.startswith(place) and name != done]
            if not config.exists():
                if config.name not in self.hashes:  # it is damaged there: the run begins anew
                    break
                files.insert(0, config.name)
            count += self._fetched(files if is_here else [*files, done])
        if self.files is not run_files or not self.damaged:
            left = [name for name in lacking if not (self.folder / name).exists()]
            count += self._fetched(sorted(left, key=lambda name: name == last))
        return count

    def _is_same_run(self, config: Path) -> bool:
        """Whether the config.json here tells of the run at the address."""
        name = config.name
        if self.hashes.get(name, (digest := sha256(config))) == digest:
            return True
        there = self.store.read(self._at(name)) if name in self.hashes else None
        try:
            both = [parse_json(each) for each in (there or b"", config.read_bytes())]
            # A setting such as --enrolment is added to a run that is trained.
            mine, theirs = ({**each, "settings": Settings.decisive(each["settings"])} for each in both)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        return mine == theirs

    def _fetched(self, names: Sequence[str]) -> int:
        """Fetch these files in this order, up to one that is damaged; how many."""
        for number, name in enumerate(names):
            try:
                with atomic(self.folder / name) as temporary:
                    if not self.store.get(self._at(name), temporary) or (
                        sha256(temporary) != self.hashes[name]
                    ):
                        raise _DamagedError
                    facts = temporary.stat()
            except _DamagedError:
                self.damaged.append(name)
                del self.hashes[name]  # so that it is sent when it is here
                return number
            self._known[name] = (facts.st_mtime_ns, facts.st_size, self.hashes[name])
        return len(names)

    def send(self) -> bool:
        """Send what is finished here and not at the address; whether there was anything.

        Raises:
            UserError: the store fails, or another machine sends the same run.
        """
        paths, is_all = self.files(self.folder) if self.folder.is_dir() else ([], False)
        hashes = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                hashes[path.relative_to(self.folder).as_posix()] = self._hash(path)
        changed = [name for name, digest in hashes.items() if self.hashes.get(name) != digest]
        # `fetch` got all that was deleted here before, so these are what the run removed.
        gone = [name for name in self.hashes if name not in hashes] if is_all else []
        if changed or gone:
            self._check_alone()
            sent = dict(self.hashes)
            for name in changed:
                self.store.put(self.folder / name, self._at(name))
                sent[name] = hashes[name]
            self.store.remove(map(self._at, gone))
            self._write_index({name: digest for name, digest in sent.items() if name not in gone})
        self.is_whole = is_all and self.files is run_files and not changed and not gone
        return bool(changed or gone)

    def _check_alone(self) -> None:
        if self.store.read(self._at(INDEX)) != self.there:
            raise UserError(
                f"another machine has sent {self.name} to {self.store.url} since this command began: what is "
                "finished here stays here. End one of them; the same command then goes on."
            )

    def _write_index(self, hashes: dict[str, str]) -> None:
        content = json.dumps({"files": hashes}, indent=1, sort_keys=True).encode()
        self.store.write(self._at(INDEX), content)
        self.there, self.hashes = content, hashes

    def _hashes(self, content: bytes) -> dict[str, str]:
        try:
            digests = parse_json(content)["files"]
            # names that would lead out of the folder are no names of ours
            if all(_is_inside(name) and isinstance(digest, str) for name, digest in digests.items()):
                return dict(digests)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise UserError(
            f"{self.store.url}/{self._at(INDEX)} is damaged: remove it there, and what is here is sent anew."
        )

    def _hash(self, path: Path) -> str:
        name, facts = path.relative_to(self.folder).as_posix(), path.stat()
        known = self._known.get(name)
        if known is None or known[:2] != (facts.st_mtime_ns, facts.st_size):
            known = (facts.st_mtime_ns, facts.st_size, sha256(path))
            self._known[name] = known
        return known[2]

    def _at(self, name: str) -> str:
        return f"{self.name}/{name}"


class _DamagedError(Exception):
    """A file at the address is not what was sent."""


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in name and ":" not in parts[0]


# While runs are made


@contextlib.contextmanager
def mirrored_run(url: str | None, runs: Sequence[Path], display: Display) -> Iterator[None]:
    """Within, these runs have a mirror at `url`, each under its folder's name; without a URL nothing is done.

    Raises:
        UserError: the address is none or fails, at the start or, when the runs are made, at the end.
    """
    if url is None:
        yield
        return
    store = Store(url)
    store.check()
    folders = [Mirrored(store, run, run.name) for run in runs]
    for each in folders:
        with RunFolder(each.folder).lock():
            _fetch(each, display)
    with _sending(folders, display):
        yield


@contextlib.contextmanager
def mirrored_grid(url: str | None, folder: Path, runs: Sequence[str], display: Display) -> Iterator[None]:
    """Within, a grid has a mirror, as `mirrored_run`: its runs, and beside them what it writes itself."""
    if url is None:
        yield
        return
    store = Store(url)
    store.check()
    mirrored = Mirrored(store, folder, folder.name, grid_files)
    folders = [Mirrored(store, folder / run, f"{folder.name}/{run}") for run in runs]
    there = set(store.names(f"{folder.name}/*/{INDEX}"))
    with locked(folder):
        _fetch(mirrored, display)
        for each in folders:
            if f"{each.name}/{INDEX}" in there:
                with RunFolder(each.folder).lock():
                    _fetch(each, display)
    with _sending([*folders, mirrored], display):
        yield


def _fetch(each: Mirrored, display: Display) -> None:
    if count := each.fetch():
        display.say(f"Fetched {pluralise(count, 'file')} of {each.name} from {each.store.url}.")
    if each.damaged:
        display.warn(
            f"{each.store.url}/{each.name}/{each.damaged[0]} is not what was sent: that step is done anew."
        )


@contextlib.contextmanager
def _sending(folders: Sequence[Mirrored], display: Display) -> Iterator[None]:
    """Send what is finished while the body runs, and the rest at its end."""
    ended = threading.Event()

    def watch() -> None:
        fails = False
        while not ended.wait(_WAIT_SECONDS if fails else _LOOK_SECONDS):
            try:
                for each in folders:
                    if not (each.is_whole or ended.is_set()):
                        each.send()
                fails = False
            except UserError as error:
                if not fails:
                    display.warn(f"{error} The training goes on, and what is missing there is sent later.")
                fails = True

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except Exception:
        _end(watcher, ended)
        with contextlib.suppress(UserError):  # what ended the runs is what is told
            _send_all(folders)
        raise
    finally:
        _end(watcher, ended)
    _send_all(folders)


def _end(watcher: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    watcher.join()


def _send_all(folders: Sequence[Mirrored]) -> None:
    """Send all that is finished; of several that fail the first one's error is raised, after the others."""
    failed: UserError | None = None
    for each in folders:
        try:
            each.send()
        except UserError as error:
            failed = failed or error
    if failed:
        raise UserError(f"{failed} All results are here; the same command sends what is missing there.")
