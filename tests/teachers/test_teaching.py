"""What `--teacher` and `teach --from` name, and what `--audio_encoder` does."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import soundfile

from light_sernet_kd import teachers
from light_sernet_kd.audio import fingerprint
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.config.checks import check_source
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.unlabelled import Clips, survey
from light_sernet_kd.encoders import yamnet
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import fit_temperature
from light_sernet_kd.registries.encoders import AUDIO_ENCODERS
from light_sernet_kd.registries.teachers import (
    TEACHER_SOURCES,
    trained_member,
)
from light_sernet_kd.teachers import sources
from light_sernet_kd.teachers.unlabelled import UnlabelledTask

STUDENTS = ("resnet18", "bert_vggish")


def test_the_digest_is_that_of_the_file_that_teaches(tmp_path):
    file = tmp_path / "teacher.npz"
    file.write_bytes(b"x")
    assert TEACHER_SOURCES["file"].digest(str(file), tmp_path) == fingerprint(file)
    assert TEACHER_SOURCES["yamnet"].digest(str(file), tmp_path) == fingerprint(file)
    with pytest.raises(UserError, match="no teacher file nowhere"):
        TEACHER_SOURCES["file"].digest("nowhere", tmp_path)
    with pytest.raises(UserError, match="no YAMNet in"):
        TEACHER_SOURCES["yamnet"].digest("", tmp_path)


def test_a_licence_for_research_alone_is_accepted_by_name():
    for source in ("opensmile", "opensmile=emobase"):
        with pytest.raises(UserError, match=f"^--teacher {source} has .*audEERING.*--allow research"):
            make_settings(distillation="KD", teacher=source)
        with pytest.raises(UserError, match=r"^--from opensmile has a licence of its own"):
            check_source("opensmile", Settings(), "--from")
        allowed = make_settings(distillation="KD", teacher=source, allow="research")
        assert allowed.digest() == dataclasses.replace(allowed, allow=None).digest()
    make_settings(distillation="KD", teacher="yamnet")
    with pytest.raises(UserError, match="unknown allow 'products'"):
        make_settings(allow="products")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("auto*5", r"auto\*5 holds only networks that the run trains: --teacher auto --teacher_count N"),
        ("yamnet+resnet18+auto", "a run trains one kind of teacher, resnet18 or auto: `teach --out FILE`"),
        ("yamnet+bert_vggish", "bert_vggish reads text and is mixed as a file"),
        ("yamnet+opensmile*2", "--teacher opensmile has a licence of its own"),
        ("yamnet*0+a.npz", r"the weight of yamnet in yamnet\*0\+a\.npz must be above 0"),
    ],
)
def test_what_cannot_be_mixed_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        make_settings(distillation="KD", teacher=spec)
    if not trained_member(spec):
        message = message.replace("--teacher ", "--from ")
    else:
        message = "is trained by the run of its student and not here: .*--from A.FILE"
    with pytest.raises(UserError, match=message):
        check_source(spec, Settings(), "--from")


def test_one_network_of_a_sum_is_trained_by_the_run():
    for spec, name, width in (
        ("auto", "light_sernet", 1.5), ("yamnet+auto*5", "light_sernet", 1.5), ("resnet18", "resnet18", 1),
        ("a.npz*2+resnet18+yamnet", "resnet18", 1), ("yamnet+a.npz", None, 1.5), ("yamnet", None, 1.5),
    ):  # fmt: skip
        settings = make_settings(distillation="KD", teacher=spec)
        assert (settings.trained_teacher, settings.trained_teacher_width) == (name, width)
    mixed = {"distillation": "KD", "teacher": "yamnet+auto*5"}
    assert make_settings(**mixed, teacher_count=3, standardise_speakers=True).teacher_count == 3
    with pytest.raises(UserError, match="--teacher_count is of a teacher that is trained here"):
        make_settings(distillation="KD", teacher="yamnet+a.npz", teacher_count=3)


def likelihood(logits, labels, temperature):
    """Negative log likelihood where 0.2 of an utterance's labels are spread over all classes."""
    share = 0.2 / (len(labels) + 0.2)
    targets = (1 - share) * np.eye(logits.shape[1])[labels] + share / logits.shape[1]
    return -(targets * scipy.special.log_softmax(logits / temperature, axis=1)).sum()


def of_one_fold(tmp_path, labels):
    """A selection of 60 utterances: 20 train, 20 validate and 20 test."""
    utterances = [Utterance(f"u{n}", tmp_path, "abc"[k], "s") for n, k in enumerate(labels)]
    folds = [Fold("one", tuple(range(20)), tuple(range(20, 40)), tuple(range(40, 60)))]
    return SimpleNamespace(
        utterances=utterances, classes=("a", "b", "c"), labels=labels, folds=folds,
        final_fold=Fold("all-speakers", tuple(range(60)), (), ()),
    )  # fmt: skip


@pytest.mark.parametrize("spec", ["{0}+{1}*3", "{0}*2+{1}+auto"])
def test_labels_of_training_utterances_alone_weigh_sources(tmp_path, spec):
    """A label of the test set changes no output; one of the training set changes its utterance's alone."""
    rng = np.random.default_rng(1)
    labels, ids = rng.integers(3, size=60), tuple(f"u{n}" for n in range(60))
    for name in "12":
        logits = (2 * np.eye(3)[labels] + rng.normal(size=(60, 3))).astype(np.float32)
        teachers.write(tmp_path / f"{name}.npz", teachers.Teacher(ids, ("a", "b", "c"), logits[None]))
    spec = spec.format(tmp_path / "1.npz", tmp_path / "2.npz")
    workplace = sources.Workplace(tmp_path, tmp_path, tmp_path)

    def made(labels, mixing="confidence"):
        selection = of_one_fold(tmp_path, labels)
        return sources.ensemble_teacher(
            spec, selection, Settings(export=False, teacher_mixing=mixing), workplace
        ).logits[0]

    before, plain = made(labels), made(labels, "mean")
    np.testing.assert_array_equal(before[20:], plain[20:])
    assert np.abs(before[:20] - plain[:20]).max(axis=1).min() > 0
    changed = labels.copy()
    changed[40:] = (changed[40:] + 1) % 3
    np.testing.assert_array_equal(made(changed), before)
    changed[7] = (changed[7] + 1) % 3
    assert np.flatnonzero((made(changed) != before).any(axis=1)).tolist() == [7]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("yamnet", "weighs several sources, such as --teacher opensmile.yamnet, and --teacher yamnet is one"),
        ("yamnet+a.npz+auto", "takes one source beside auto, which the run trains: `teach --out FILE`"),
    ],
)
def test_confidence_is_refused_where_it_has_no_sources_to_weigh(spec, why):
    with pytest.raises(UserError, match=f"--teacher_mixing confidence {why}"):
        make_settings(distillation="KD", teacher=spec, teacher_mixing="confidence")
    with pytest.raises(UserError, match="--teacher_mixing confidence needs a teacher: add -kd KD"):
        make_settings(teacher_mixing="confidence")
    for teacher in ("auto", "resnet18"):
        with pytest.raises(UserError, match=f"--teacher {teacher} is one: leave it out"):
            check_source(teacher, Settings(teacher_mixing="confidence"))


def test_members_are_equally_sure_before_they_are_averaged(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    ids = tuple(f"u{n}" for n in range(60))
    selection = of_one_fold(tmp_path, labels)
    folds, utterances = selection.folds, selection.utterances
    plain = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    card = {"made_by": "first", "licence": "for research", "train_speakers": {"one": ["s"]}}
    both = np.stack([plain, plain]).astype(np.float32)
    first = teachers.Teacher(ids, ("a", "b", "c"), both, ("one", "all-speakers"), card, np.ones((1, 60, 2)))
    # in another order, and ten times as sure
    other = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    sure = np.float32(10 * other)[None, ::-1][:, :, [2, 0, 1]]
    second = teachers.Teacher(ids[::-1], ("c", "a", "b"), sure, card={"made_by": "second"})
    teachers.write(tmp_path / "1.npz", first)
    teachers.write(tmp_path / "2.npz", second)
    spec = f"{tmp_path / '1.npz'}+{tmp_path / '2.npz'}*3"
    workplace = sources.Workplace(tmp_path, tmp_path, tmp_path)
    found = sources.teacher_of(spec, selection, Settings(), workplace)
    # Of all speakers nothing validates, and neither is cross-fitted: the temperature of the fold counts.
    for number, rows in enumerate((slice(20, 40), slice(20, 40))):
        expected = np.zeros((60, 3))
        for logits, weight in ((plain, 0.25), (10 * other, 0.75)):
            best = scipy.optimize.minimize_scalar(
                lambda log, of=logits, rows=rows: likelihood(of[rows], labels[rows], np.exp(log)),
                bounds=(-4, 4), method="bounded", options={"xatol": 1e-8},
            )  # fmt: skip
            expected += weight * logits / np.exp(best.x)
        np.testing.assert_allclose(found.logits[number], expected, atol=1e-3)
    assert found.folds == ("one", "all-speakers")
    assert found.card["licence"] == "for research"
    assert found.card["weights"] == [1, 3]
    assert found.card["train_speakers"] == {}  # of the second it is not known
    assert found.embeddings is None
    assert teachers.stamps(found, folds, utterances) == (teachers.STAMP_UNKNOWN,)
    digest = TEACHER_SOURCES["ensemble"].digest
    before = digest(spec, tmp_path)
    teachers.write(tmp_path / "2.npz", first)
    assert digest(spec, tmp_path) != before
    assert digest("opensmile+opensmile=emobase", tmp_path) is None


def test_a_temperature_is_of_what_the_teacher_was_not_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    selection = of_one_fold(tmp_path, labels)
    noise = 2 * rng.normal(size=(60, 3))
    noise[:20] = 0  # as a network that knows its training set by heart
    logits = np.tile((2 * np.eye(3)[labels] + noise).astype(np.float32), (3, 1, 1))
    ids, names = tuple(each.id for each in selection.utterances), ("one", "other", "all-speakers")
    one, everyone = selection.folds[0], selection.final_fold
    other = Fold("other", one.train, one.test, one.validation)
    tests_too = Fold("other", one.train, one.test, one.test)

    def temperatures(card, *folds):
        teacher = teachers.Teacher(ids, selection.classes, logits, names, card)
        return sources.temperatures_of(teacher, selection, folds)

    def of(rows):
        return pytest.approx(fit_temperature(logits[0, rows], labels[rows]))

    own = [fit_temperature(logits[0, list(fold.validation)], labels[list(fold.validation)])
           for fold in (one, other)]  # fmt: skip
    assert temperatures({}, one, other, everyone) == pytest.approx(
        {"one": own[0], "other": own[1], "all-speakers": np.mean(own)}
    )
    assert temperatures({}, tests_too, everyone) == {"other": 1, "all-speakers": 1}
    cross_fitted = temperatures({"parts": 5}, tests_too, everyone)
    assert cross_fitted == {"other": of(slice(20)), "all-speakers": of(slice(60))}


def test_a_clip_whose_numbers_cannot_be_kept_is_named(tmp_path):
    (tmp_path / "speech" / "two").mkdir(parents=True)
    tones = {"one.wav": 300, "two/loud.wav": 900}
    for name, hertz in tones.items():
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000) * np.hanning(16_000)
        soundfile.write(tmp_path / "speech" / name, tone, 16_000)
    task = UnlabelledTask(Clips(survey(tmp_path / "speech", 16_000)), tmp_path)
    assert len(task.clips) == 2

    def encode(waveforms):
        crossings = [(np.diff(np.sign(each)) != 0).sum() for each in waveforms]
        return [np.full((1, 2), np.nan if count > 1200 else count) for count in crossings]

    workplace = sources.Workplace(tmp_path, tmp_path / "cache", tmp_path, unlabelled=task)
    with pytest.raises(UserError, match=r"^tones gives numbers that are not finite in float32 .*") as caught:
        sources.clip_embeddings(Encoder("tones", {}, (2,), encode), task, workplace)
    named = tmp_path / "speech" / "two" / "loud.wav"
    assert str(caught.value).endswith(f"the unlabelled recording {named}: take it out of the folder.")


def test_speakers_are_standardised_for_probes_alone():
    assert make_settings(distillation="KD", teacher="yamnet", standardise_speakers=True).standardise_speakers
    with pytest.raises(UserError, match=r"is of probes on .*opensmile.*, not of --teacher mine\.npz"):
        make_settings(distillation="KD", teacher="mine.npz", standardise_speakers=True)
    for source, option in (("auto", "--teacher"), ("some/wavlm", "--from")):
        with pytest.raises(UserError, match=f"not of {option} {source}: leave it out"):
            check_source(source, Settings(standardise_speakers=True), option)
    with pytest.raises(UserError, match="needs a teacher: add -kd KD"):
        make_settings(standardise_speakers=True)


def test_a_teacher_file_is_read_as_it_is(tmp_path):
    table = tmp_path / "teacher.csv"
    table.write_text("id,anger,fear\na,1,2\n")
    read = sources.teacher_of(str(table), None, None, None)
    assert read.logits.tolist() == teachers.read(table).logits.tolist()
    with pytest.raises(ValueError, match="is trained by the run"):
        sources.teacher_of("auto", None, None, None)


def test_rows_of_yamnet_are_where_its_entry_says():
    entry = AUDIO_ENCODERS["yamnet"]
    window, hop = (round(16_000 * seconds) for seconds in (entry.window_seconds, entry.hop_seconds))
    assert [yamnet.window_count(window + extra) for extra in (0, 1, hop, hop + 1)] == [1, 2, 2, 3]
