"""How good the YAMNet teacher is: a probe per fold of leave one speaker out, and what it costs.

    python benchmarks/yamnet_teacher.py [--data DATA] [--corpus EMO-DB] [--yamnet PATH]

Nothing is cached: every recording is read and encoded. Memory is this process' peak.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from light_sernet_kd import audio, evaluation
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.data import protocols
from light_sernet_kd.encoders import embedding_cache, yamnet
from light_sernet_kd.teachers import probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")),
        help="holds the corpora and models/ (LIGHT_SERNET_KD_DATA, else data)",
    )
    parser.add_argument("--corpus", default="EMO-DB")
    parser.add_argument("--yamnet", default="", help="the TFLite file, if it is not in DATA/models")
    parser.add_argument("--pooling", default="mean", choices=("mean", "mean+std"))
    options = parser.parse_args()

    corpus = load(options.corpus, options.data)
    utterances, classes = corpus.utterances, corpus.classes
    path = yamnet.path_of(options.yamnet, options.data)
    started = time.perf_counter()
    fingerprints = {utterance.id: audio.fingerprint(utterance.path) for utterance in utterances}
    with tempfile.TemporaryDirectory() as cache:
        encoder = yamnet.encoder(path, pooling=options.pooling)
        rows = embedding_cache.embed(utterances, fingerprints, encoder, cache=Path(cache)).stacked()
    encoded = time.perf_counter()
    folds = protocols.make_folds("loso", utterances, fingerprints, seed=0)
    labels = np.array([classes.index(utterance.emotion) for utterance in utterances])
    print(
        f"{corpus.name}: {len(utterances)} utterances, embeddings {rows.shape[1]} wide, "
        f"{1e3 * (encoded - started) / len(utterances):.1f} ms per utterance"
    )
    for cross_fit in (True, False):
        started = time.perf_counter()
        options = probe.ProbeOptions(cross_fit=cross_fit)
        teacher = probe.probe_teacher(
            rows, utterances, classes, folds, card={"made_by": "probe on YAMNet"}, options=options
        )
        seconds = time.perf_counter() - started
        test, train = np.zeros((len(folds), 2)), np.zeros((len(folds), 2))
        pooled = np.zeros(len(utterances), int)
        for number, fold in enumerate(folds):
            for found, indices in ((test, list(fold.test)), (train, list(fold.train))):
                logits = teacher.logits[number][indices]
                score = evaluation.scores(labels[indices], logits.argmax(axis=1), classes)
                found[number] = 100 * score.ua, evaluation.log_loss(labels[indices], logits)
            pooled[list(fold.test)] = teacher.logits[number][list(fold.test)].argmax(axis=1)
        whole = evaluation.scores(labels, pooled, classes)
        if cross_fit:
            by_speaker = (f"{fold.name} {ua:.1f}" for fold, ua in zip(folds, test[:, 0], strict=True))
            print(f"UA by test speaker: {', '.join(by_speaker)}")
            (ua, log_loss), sd = test.mean(axis=0), test[:, 0].std(ddof=1)
            print(
                f"test, mean of folds: UA {ua:.1f} % (sd {sd:.1f}), log loss {log_loss:.2f}. "
                f"All test utterances: UA {100 * whole.ua:.1f} %, WA {100 * whole.wa:.1f} %"
            )
        ua, log_loss = train.mean(axis=0)
        print(
            f"{'' if cross_fit else 'not '}cross-fitted: on training UA {ua:.1f} %, log loss {log_loss:.2f}; "
            f"{seconds:.1f} s for {len(folds)} probes"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
