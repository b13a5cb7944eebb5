"""Which emotions of a corpus are told apart: a task, as `--emotions` gives it.

`anger,neutral,excitement=happiness` keeps anger, neutral and happiness, with excitement counted as happiness.
Merges alone keep every emotion.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from light_sernet_kd.corpora.types import CANONICAL_EMOTIONS, Corpus, shares_among
from light_sernet_kd.errors import UserError, choose, nfc


@dataclass(frozen=True)
class Task:
    """Emotions to tell apart.

    Attributes:
        kept: their names; empty keeps all.
        merged: emotion → the kept emotion it is counted as.
    """

    kept: tuple[str, ...] = ()
    merged: Mapping[str, str] = field(default_factory=dict)


def parse(texts: Sequence[str]) -> Task:
    """The task that names and merges `from=to` describe; names are put in lower case.

    Raises:
        UserError: a merge that is not `from=to`, or merges that contradict each other or the names.
    """
    kept: list[str] = []
    merged: dict[str, str] = {}
    for text in texts:
        name, equals, target = (nfc(part.strip()).lower() for part in text.partition("="))
        if not name or (equals and (not target or "=" in target)):
            raise UserError(f"expected an emotion, or a merge such as excitement=happiness, found {text!r}.")
        if not equals:
            kept.append(name)
        elif name == target or merged.setdefault(name, target) != target:
            raise UserError(f"{text}: {name} cannot be counted as {merged.get(name, name)} and as {target}.")
    for name, target in merged.items():
        if name in kept:
            raise UserError(f"{name} cannot be kept and counted as {target}: leave out one of the two.")
        if target in merged:
            raise UserError(
                f"{name} is counted as {target}, which is counted as {merged[target]}: "
                f"say {name}={merged[target]}."
            )
    if kept:
        kept += merged.values()
    return Task(tuple(sorted(set(kept))), merged)


def check(task: Task, corpus: Corpus) -> Task:
    """The task, if every emotion it names occurs in the corpus (or, as the target of a merge, is canonical).

    Raises:
        UserError: names the first that does not, and lists the valid ones.
    """
    for name in [*task.merged, *(set(task.kept) - set(task.merged.values()))]:
        choose(f"emotion of {corpus.name}", name, corpus.classes)
    for name in task.merged.values():
        choose(f"emotion of {corpus.name}", name, dict.fromkeys([*corpus.classes, *CANONICAL_EMOTIONS]))
    return task


def restrict(corpus: Corpus, task: Task) -> Corpus:
    """The corpus with only the task's emotions; what is left out is counted, what is merged is stated.

    Soft labels are merged likewise. What they say of emotions outside the task is dropped, and the other
    shares are raised to a sum of 1; one of which nothing remains is None.

    Raises:
        UserError: no utterance remains.
    """
    if not task.kept and not task.merged:
        return corpus
    named = {name: task.merged.get(name, name) for name in corpus.classes}
    kept = {name for name in named.values() if not task.kept or name in task.kept}
    left_out = Counter(corpus.left_out)
    utterances = []
    for utterance in corpus.utterances:
        emotion = named[utterance.emotion]
        if emotion in kept:
            soft_label = shares_among(utterance.soft_label, kept, task.merged)
            utterances.append(dataclasses.replace(utterance, emotion=emotion, soft_label=soft_label))
        else:
            left_out[f"{emotion}, which is not in the task"] += 1
    if not utterances:
        raise UserError(f"{corpus.name} has no utterance with {' or '.join(task.kept)}.")
    merged = {name: target for name, target in task.merged.items() if name in named}
    return dataclasses.replace(
        corpus, utterances=tuple(utterances), left_out=dict(left_out), merged={**corpus.merged, **merged}
    )
