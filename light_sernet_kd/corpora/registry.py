"""The corpora by name, and how a name on the command line becomes a corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from light_sernet_kd.config import UserError, choose
from light_sernet_kd.corpora import Corpus, demo, emodb, manifest


@dataclass(frozen=True)
class Source:
    """How to read a corpus, and the parts that `-at` may choose from."""

    utterances: Callable[[Path], Corpus]
    audio_types: tuple[str, ...] = ("all",)


CORPORA: dict[str, Source] = {
    "EMO-DB": Source(emodb.utterances),
    "demo": Source(demo.utterances),
}


def load(name: str, data: Path, *, audio_type: str = "all") -> Corpus:
    """The corpus `name` in the folder `data`, or the manifest that `name` is the path of.

    Raises:
        UserError: no such corpus, or what its parser found wrong.
    """
    if Path(name).suffix.lower() in (".csv", ".tsv"):
        source, root = Source(manifest.utterances), Path(name)
    else:
        name = choose("corpus", name, (*CORPORA, "path/to/manifest.csv"))
        source, root = CORPORA[name], data / name
    if audio_type not in source.audio_types:
        raise UserError(f"{name} has no part {audio_type!r}; it has {', '.join(source.audio_types)}.")
    return source.utterances(root)


def why_absent(name: str, data: Path, *, audio_type: str = "all") -> str | None:
    """Why the corpus cannot be read here; None when it can."""
    try:
        load(name, data, audio_type=audio_type)
    except UserError as error:
        return str(error)
    return None
