"""Names of speakers, sessions and emotions: which are one, which look alike, which mean the same."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

from light_sernet_kd.errors import quoted

# What tables call the emotions that have another name here. Offered to the user, never merged unasked.
SYNONYMS = {
    **dict.fromkeys(("angry", "ang", "angriness", "mad"), "anger"),
    **dict.fromkeys(("bored", "bor"), "boredom"),
    **dict.fromkeys(("calmness", "cal"), "calm"),
    **dict.fromkeys(("disgusted", "dis", "disgusting", "disqust"), "disgust"),
    **dict.fromkeys(("excited", "exc"), "excitement"),
    **dict.fromkeys(("afraid", "fea", "fearful", "scared"), "fear"),
    **dict.fromkeys(("frustrated", "fru"), "frustration"),
    **dict.fromkeys(("hap", "happy", "joy", "joyful", "happyness"), "happiness"),
    **dict.fromkeys(("neu", "neutrality", "neutral state"), "neutral"),
    **dict.fromkeys(("sad", "sadly", "unhappy"), "sadness"),
    **dict.fromkeys(("sur", "surprised", "ps", "pleasant surprise", "pleasant_surprise"), "surprise"),
}  # fmt: skip
_MOST_LISTED = 5


def _key(name: str) -> str:
    """What two names have in common that differ in case, in spaces, or in characters without width only."""
    if not name.isascii():
        name = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(name.casefold().split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ in case or in spaces only, sorted."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(_key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def alike_notes(what: str, names: Iterable[str]) -> list[str]:
    """A line for the user on names that look like one and are counted as several.

    Args:
        what: one of them, such as speaker.
    """
    groups = alike(names)
    if not groups:
        return []
    shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:_MOST_LISTED])
    more = f"; and {len(groups) - _MOST_LISTED} more" if len(groups) > _MOST_LISTED else ""
    return [
        f"CHECK the {what} names {shown}{more}: they differ in case or spaces only and count as different "
        f"{what}s. If they are one, write them alike."
    ]


def joined_notes(what: str, written: Iterable[str], meant: Mapping[str, str]) -> list[str]:
    """A line for the user on different spellings that are read as one name.

    Args:
        written: as they stand in the table.
        meant: spelling → the name that it is read as.
    """
    groups: dict[str, set[str]] = {}
    for spelling in written:
        groups.setdefault(meant[spelling], set()).add(spelling)
    several = {name: sorted(group) for name, group in groups.items() if len(group) > 1}
    shown = "; ".join(
        f"{' and '.join(map(repr, group))} as {name}" for name, group in list(several.items())[:_MOST_LISTED]
    )
    more = f"; and {len(several) - _MOST_LISTED} more" if len(several) > _MOST_LISTED else ""
    note = f"{what} names that differ in case, outer space or Unicode form are read as one: {shown}{more}"
    return [note] if several else []


def offered(
    classes: Collection[str], others: Collection[str] = (), merged: Mapping[str, str] | None = None
) -> str:
    """The `--emotions` option that counts synonyms as what they mean; empty where there are none.

    Args:
        classes: of the corpus, or of the one that trains.
        others: of the corpus that tests; then only emotions that both have are kept.
        merged: merges that hold already, as emotion → emotion; they are kept.
    """
    words = sorted({*classes, *others})
    meant = {name: SYNONYMS.get(name, name) for name in words}
    kept = set(meant.values())
    if others:
        kept = {meant[name] for name in classes} & {meant[name] for name in others}
    merges = {name: target for name, target in meant.items() if name != target and target in kept}
    if not merges or len(kept) < 2:
        return ""
    before = {name: target for name, target in (merged or {}).items() if target in kept}
    merges = {**before, **merges}
    # a merge names its target; the others are named
    plain = sorted(name for name in kept if name in words and name not in merges.values())
    parts = [*plain, *(f"{name}={merges[name]}" for name in sorted(merges))]
    return f"--emotions {quoted(','.join(parts))}"


def synonym_notes(classes: Sequence[str]) -> list[str]:
    """A line that offers to merge the synonyms among the classes of one corpus."""
    option = offered(classes)
    if not option:
        return []
    meant = [f"{name} means {SYNONYMS[name]}" for name in sorted(classes) if name in SYNONYMS]
    twice = [
        [name for name in sorted(classes) if SYNONYMS.get(name, name) == target]
        for target in sorted({SYNONYMS[name] for name in classes if name in SYNONYMS})
    ]
    apart = [" and ".join(group) for group in twice if len(group) > 1]
    warning = f"CHECK {'; '.join(apart)}: synonyms count as different emotions. " if apart else ""
    return [f"{warning}Elsewhere {', '.join(meant[:_MOST_LISTED])}. To call them so: {option}"]
