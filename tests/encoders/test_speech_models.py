"""Speech models of each family, tiny and random, through the real loading, caching and training."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from small_runs import check_answers, error_of, made_corpus

from light_sernet_kd import audio, cli, evaluation, teachers
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import protocols
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.encoders import embedding_cache
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers import probe

ABSENT = 'PyTorch and transformers are not installed: pip install "light-sernet-kd[ssl]"'
torch = pytest.importorskip("torch", reason=ABSENT)
transformers = pytest.importorskip("transformers", reason=ABSENT)

from light_sernet_kd.encoders import speech  # noqa: E402
from light_sernet_kd.teachers import speech_probe, speech_tuning  # noqa: E402

FAMILIES = {
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
}
KINDS = [(family, norm) for family in FAMILIES for norm in ("layer", "group")]
CLASSES = ("anger", "joy", "sadness")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(folder: Path, family: str, norm: str, **changes) -> str:
    """A random model with the normalisations of the large (`layer`) or base (`group`) models, as a folder."""
    config, network = FAMILIES[family]
    torch.manual_seed(0)
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 4),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
    }
    network(config(**settings)).save_pretrained(folder)
    extractor = {"do_normalize": norm == "layer", "return_attention_mask": norm == "layer"} | changes
    transformers.Wav2Vec2FeatureExtractor(**extractor).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[tuple[str, str], str]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(root / "-".join(kind), *kind) for kind in KINDS}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four speakers, eight tones each; an emotion is a frequency, and every length differs."""
    folder, utterances = tmp_path_factory.mktemp("wav"), []
    rng = np.random.default_rng(0)
    for speaker in range(4):
        for number in range(8):
            emotion = CLASSES[number % 3]
            hertz = {"anger": 300, "joy": 900, "sadness": 2500}[emotion] * (1 + 0.02 * speaker)
            samples = 3000 + 190 * number + 60 * speaker
            tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000)
            path = folder / f"{speaker}{number}.wav"
            soundfile.write(path, tone + 0.01 * rng.normal(size=samples), 16_000, subtype="FLOAT")
            utterances.append(Utterance(f"{speaker}{number}", path, emotion, f"s{speaker}"))
    fingerprints = {utterance.id: audio.fingerprint(utterance.path) for utterance in utterances}
    return utterances, fingerprints, protocols.make_folds("loso", utterances, fingerprints, seed=0)


def clips(*samples: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(scale=0.1, size=count).astype(np.float32) for count in samples]


# Encoding


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_layers_are_those_of_transformers_averaged_over_time(models, kind):
    model = speech.load(models[kind])
    extractor = transformers.AutoFeatureExtractor.from_pretrained(models[kind])
    network = transformers.AutoModel.from_pretrained(models[kind]).eval()
    (waveform,) = clips(7000)
    given = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        states = network(given, output_hidden_states=True).hidden_states
    (found,) = speech.layer_encoder(model, dtype="float32").encode([waveform])
    assert found.shape == (1, model.layers, model.width) == (1, 3, 32)
    expected = np.stack([layer[0].numpy().mean(axis=0) for layer in states])
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_an_utterance_is_the_same_alone_and_in_any_batch(models, kind):
    encoder = speech.layer_encoder(speech.load(models[kind]))
    waveforms = clips(16_000, 4000, 8000, 9000, 9000, 1, 60, 5001)
    together = list(encoder.encode(waveforms))
    for waveform, found in zip(waveforms, together, strict=True):
        np.testing.assert_allclose(found, next(iter(encoder.encode([waveform]))), atol=5e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_would_leak_into_models_with_a_group_norm(models, family):
    model = speech.load(models[family, "group"])
    assert not model.pads
    assert speech.load(models[family, "layer"]).pads
    padded = speech.layer_encoder(dataclasses.replace(model, pads=True))
    waveforms = clips(16_000, 4000)
    (_, beside), (alone,) = padded.encode(waveforms), padded.encode(waveforms[1:])
    assert np.abs(beside - alone).max() > 0.05


def test_equal_lengths_share_a_batch_and_no_batch_is_long(models):
    base, large = (speech.load(models["wavlm", norm]) for norm in ("group", "layer"))
    lengths = [900, 500, 900, 700, 500]
    assert list(speech.length_batches(lengths, base)) == [[1, 4], [3], [0, 2]]
    assert list(speech.length_batches(lengths, large)) == [[1, 4, 3, 0, 2]]
    minute = 60 * 16_000
    assert list(speech.length_batches([minute // 2] * 3 + [2 * minute, 100], large)) == [[4, 0], [1, 2], [3]]


@pytest.mark.parametrize("samples", [10, 49, 50, 400, 16_001])
def test_frames_are_counted_as_the_convolutions_make_them(models, samples):
    model = speech.load(models["hubert", "layer"])
    config = model.network.config
    count = speech.frame_counts(np.array([samples]), config.conv_kernel, config.conv_stride)[0]
    if samples < speech._shortest(config):
        assert count < 1
        return
    with torch.no_grad():
        made = model.network.feature_extractor(torch.zeros(1, samples))
    assert made.shape[-1] == count >= 1


def test_the_shortest_input_makes_one_frame(models):
    config = speech.load(models["hubert", "layer"]).network.config
    shortest = speech._shortest(config)
    count = [
        speech.frame_counts(np.array([n]), config.conv_kernel, config.conv_stride)[0]
        for n in (shortest - 1, shortest)
    ]
    assert count[1] == 1 > count[0]


def test_of_a_long_recording_the_middle_is_taken(models):
    (waveform,) = clips(10_000)
    encoder = speech.layer_encoder(speech.load(models["wavlm", "layer"], max_seconds=0.25))
    (whole,), (middle,) = encoder.encode([waveform]), encoder.encode([waveform[3000:7000]])
    np.testing.assert_allclose(whole, middle, atol=1e-6)


def test_layers_are_cached_and_known_by_weights_and_settings(models, corpus, tmp_path):
    utterances, fingerprints, _ = corpus
    model = speech.load(models["wavlm", "layer"])
    encoder = speech.layer_encoder(model)
    found = embedding_cache.embed(utterances, fingerprints, encoder, cache=tmp_path)
    refuse = dataclasses.replace(encoder, encode=lambda waveforms: pytest.fail("encoded again"))
    again = embedding_cache.embed(utterances, fingerprints, refuse, cache=tmp_path)
    np.testing.assert_array_equal(found.stacked(), again.stacked())
    assert found[0].dtype == np.float16
    assert found.stacked().shape == (32, 3, 32)

    others = [speech.load(source) for source in models.values()]
    others += [speech.load(models["wavlm", "layer"], max_seconds=3)]
    assert len({speech.layer_encoder(other).folder(tmp_path) for other in others}) == 7


def test_a_model_is_known_by_its_content_and_not_by_its_place(models, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(models["wavlm", "layer"], moved)
    original, copy = (speech.load(source) for source in (models["wavlm", "layer"], str(moved)))
    assert original.identity == copy.identity
    with torch.no_grad():
        copy.network.encoder.layers[1].attention.q_proj.weight[3, 4] += 1e-3
    copy.network.save_pretrained(moved)
    assert speech.load(str(moved)).digest != original.digest


# Loading


def test_an_absent_model_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"no speech model in .*absent: ") as caught:
        speech.load(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)


def test_another_family_is_refused(tmp_path):
    transformers.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a bert model; the known ones are wavlm, wav2vec2, hubert"):
        speech.load(str(tmp_path))


def test_another_rate_is_refused(tmp_path):
    with pytest.raises(UserError, match="takes audio at 8000 Hz"):
        speech.load(save(tmp_path, "wavlm", "layer", sampling_rate=8000))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(tmp_path, name):
    source = save(tmp_path, "wavlm", "layer")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="no speech model in"):
        speech.load(source)


def test_weights_that_are_missing_are_not_invented(tmp_path):
    from safetensors.torch import load_file, save_file

    source = save(tmp_path, "hubert", "layer")
    weights = load_file(tmp_path / "model.safetensors")
    for name in [name for name in weights if "layers.1.attention" in name]:
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 8 of its weights, e\.g\. encoder\.layers\.1\.attention"):
        speech.load(source)


def test_a_missing_package_is_named_with_its_remedy(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['transformers'] = None\n"
        "from light_sernet_kd.encoders import speech as speech_models\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n"
        "    speech_models.load('x')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("UserError speech models need PyTorch and transformers")
    assert 'pip install "light-sernet-kd[ssl]"' in done.stdout


# The probe


@pytest.fixture(scope="module")
def layers(models, corpus, tmp_path_factory) -> embedding_cache.Embeddings:
    utterances, fingerprints, _ = corpus
    encoder = speech.layer_encoder(speech.load(models["wavlm", "layer"]), dtype="float32")
    return embedding_cache.embed(utterances, fingerprints, encoder, cache=tmp_path_factory.mktemp("cache"))


def labels_of(utterances) -> np.ndarray:
    return np.array([CLASSES.index(utterance.emotion) for utterance in utterances])


def probed(layers, corpus, folds=None, seed=0, **settings) -> teachers.Teacher:
    utterances, _, all_folds = corpus
    task = speech_probe.TeacherTask(
        utterances, CLASSES, folds or all_folds[1:3], {"made_by": "tiny"}, seed=seed
    )
    return speech_probe.layer_probe_teacher(layers, task, **settings)


def test_a_probe_of_layers_learns_and_tells_what_it_did(layers, corpus, tmp_path):
    utterances, _, folds = corpus
    teacher = probed(layers, corpus)
    for number, fold in enumerate(folds[1:3]):
        test = list(fold.test)
        assert (teacher.logits[number][test].argmax(axis=1) == labels_of(utterances)[test]).mean() > 0.8
        told = teacher.card["probe"]["folds"][fold.name]
        assert sum(told["layer_weights"]) == pytest.approx(1, abs=1e-3)
        expected = np.einsum("l,nlw->nw", told["layer_weights"], layers.stacked())
        np.testing.assert_allclose(teacher.embeddings[number], expected, atol=2e-3)
    assert teachers.stamps(teacher, folds[1:3], utterances) == ()
    teachers.write(tmp_path / "t.npz", teacher)
    np.testing.assert_array_equal(teachers.read(tmp_path / "t.npz").embeddings, teacher.embeddings)


def test_the_epoch_of_the_probe_is_the_best_on_the_validation_set(layers, corpus):
    utterances, _, folds = corpus
    settings = speech_probe.ProbeSettings(epochs=6)
    best = probed(layers, corpus, folds[1:2], settings=settings, cross_fit=False)
    losses = []
    for epochs in range(1, 7):
        model = speech_probe.LayerProbe(
            layers,
            labels_of(utterances),
            np.array(folds[1].train),
            None,
            classes=3,
            epochs=epochs,
            seed=protocols.fold_seed(0, f"layer probe {folds[1].name}"),
            settings=settings,
        )
        logits = model.logits(layers, np.array(folds[1].validation))
        losses.append(evaluation.log_loss(labels_of(utterances)[list(folds[1].validation)], logits))
    chosen = best.card["probe"]["folds"][folds[1].name]["best_epoch"]
    assert chosen == 1 + int(np.argmin(losses))
    found = evaluation.log_loss(
        labels_of(utterances)[list(folds[1].validation)], best.logits[0][list(folds[1].validation)]
    )
    assert found == pytest.approx(min(losses), rel=1e-5)


def test_training_logits_of_a_layer_probe_are_from_probes_that_did_not_see_the_speaker(layers, corpus):
    utterances, _, folds = corpus
    fold, settings = folds[1], speech_probe.ProbeSettings(epochs=5)
    teacher = probed(layers, corpus, [fold], settings=settings)
    train = np.array(fold.train)
    for part in probe.held_out_parts(np.array([utterances[i].speaker for i in train])):
        alone = speech_probe.LayerProbe(
            layers,
            labels_of(utterances),
            train[~part],
            None,
            classes=3,
            epochs=teacher.card["probe"]["folds"][fold.name]["best_epoch"],
            seed=protocols.fold_seed(0, f"layer probe {fold.name}"),
            settings=settings,
        )
        np.testing.assert_allclose(
            teacher.logits[0][train[part]], alone.logits(layers, train[part]), rtol=1e-5, atol=1e-6
        )


def mislabelled(utterances, rows) -> list[Utterance]:
    return [
        dataclasses.replace(u, emotion=CLASSES[(CLASSES.index(u.emotion) + 1) % 3]) if i in rows else u
        for i, u in enumerate(utterances)
    ]


def published(folds) -> Fold:
    """As the papers split: the test set is the validation set too."""
    return Fold(folds[0].name, folds[0].train + folds[0].validation, folds[0].test, folds[0].test)


def test_what_tests_decides_nothing_in_a_probe_of_layers(layers, corpus):
    utterances, fingerprints, folds = corpus
    settings = speech_probe.ProbeSettings(epochs=4)
    for fold in (folds[0], published(folds)):
        wrong = (mislabelled(utterances, fold.test), fingerprints, folds)
        one = probed(layers, corpus, [fold], settings=settings)
        two = probed(layers, wrong, [fold], settings=settings)
        np.testing.assert_array_equal(one.logits, two.logits)


def test_the_random_state_of_others_is_left_alone(layers, corpus):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    settings = speech_probe.ProbeSettings(epochs=1)
    one = probed(layers, corpus, seed=1, settings=settings)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    np.testing.assert_array_equal(one.logits, probed(layers, corpus, seed=1, settings=settings).logits)
    assert (one.logits != probed(layers, corpus, seed=2, settings=settings).logits).any()


# Fine-tuning

FAST = speech_tuning.TuningSettings(epochs=2, learning_rate=1e-3, head_learning_rate=1e-2)


def tuned(source, corpus, work, folds=None, settings=FAST, seed=0, **others) -> teachers.Teacher:
    utterances, fingerprints, all_folds = corpus
    task = speech_probe.TeacherTask(
        utterances, CLASSES, folds or all_folds[:1], {"made_by": "tiny"}, seed=seed
    )
    return speech_tuning.fine_tuned_teacher(
        source, task, fingerprints, work=work, settings=settings, **others
    )


@pytest.mark.parametrize(
    "kind", [("wavlm", "layer"), ("wav2vec2", "group"), ("hubert", "layer")], ids="-".join
)
def test_a_model_is_fine_tuned(models, corpus, tmp_path, kind):
    utterances, _, folds = corpus
    settings = dataclasses.replace(FAST, epochs=12)
    teacher = tuned(models[kind], corpus, tmp_path, settings=settings)
    assert teacher.logits.shape == (1, 32, 3)
    assert teacher.embeddings.shape == (1, 32, 32)
    train = list(folds[0].train)
    right = teacher.logits[0].argmax(axis=1) == labels_of(utterances)
    assert right[train].mean() > 0.7
    assert teacher.card["encoder"]["family"] == kind[0]
    assert teacher.card["encoder"]["model_sha256"] == speech.load(models[kind]).digest
    assert teachers.stamps(teacher, folds[:1], utterances) == ()
    json.dumps(teacher.card)


def test_the_convolutions_stay_and_the_transformer_learns(models, corpus):
    utterances, _, folds = corpus
    model = speech.load(models["hubert", "group"])
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    train, labels = np.array(folds[0].train), labels_of(utterances)
    speech_tuning._tune(model, utterances, labels, train, (), classes=3, seed=0, settings=FAST)
    after = model.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if name.startswith("feature_extractor")}
    assert {name.split(".")[2] for name in changed if name.startswith("encoder.layers")} == {"0", "1"}


def test_the_outputs_of_a_tuned_model_are_those_of_its_best_epoch(models, corpus, tmp_path, monkeypatch):
    utterances, _, folds = corpus
    validation = list(folds[0].validation)
    seen = []
    original = speech_tuning.log_loss
    monkeypatch.setattr(speech_tuning, "log_loss", lambda *given: seen.append(original(*given)) or seen[-1])
    settings = dataclasses.replace(FAST, epochs=5, learning_rate=1e-2)
    teacher = tuned(models["wavlm", "layer"], corpus, tmp_path, settings=settings)
    assert len(seen) == 5
    assert teacher.card["fine_tuning"]["best_epochs"][folds[0].name] == 1 + int(np.argmin(seen))
    found = original(labels_of(utterances)[validation], teacher.logits[0][validation])
    assert found == pytest.approx(min(seen), rel=1e-4)


def test_a_finished_fold_is_not_tuned_again(models, corpus, tmp_path, monkeypatch):
    _, _, folds = corpus
    source = models["wavlm", "layer"]
    first = tuned(source, corpus, tmp_path)
    count, original = [], speech_tuning._tune

    def counted(*given, **settings):
        count.append(1)
        return original(*given, **settings)

    monkeypatch.setattr(speech_tuning, "_tune", counted)
    both = tuned(source, corpus, tmp_path, folds[:2])
    assert len(count) == 1
    np.testing.assert_array_equal(both.logits[:1], first.logits)
    np.testing.assert_array_equal(tuned(source, corpus, tmp_path).embeddings, first.embeddings)
    assert len(count) == 1
    tuned(source, corpus, tmp_path, seed=1)
    tuned(source, corpus, tmp_path, settings=dataclasses.replace(FAST, epochs=1))
    tuned(models["hubert", "layer"], corpus, tmp_path)
    assert len(count) == 4


def test_the_same_seed_gives_the_same_outputs(models, corpus, tmp_path):
    one, two = (tuned(models["wav2vec2", "group"], corpus, tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(one.logits, two.logits)
    np.testing.assert_array_equal(one.embeddings, two.embeddings)


@pytest.mark.parametrize("kind", [("wavlm", "layer"), ("hubert", "group")], ids="-".join)
def test_what_tests_decides_nothing_in_a_tuned_model(models, corpus, tmp_path, kind):
    utterances, fingerprints, folds = corpus
    for number, fold in enumerate((folds[0], published(folds))):
        wrong = (mislabelled(utterances, fold.test), fingerprints, folds)
        one = tuned(models[kind], corpus, tmp_path / f"{number}a", [fold])
        two = tuned(models[kind], wrong, tmp_path / f"{number}b", [fold])
        np.testing.assert_array_equal(one.logits, two.logits)


def test_cross_fitted_training_logits_are_of_models_without_the_speaker(models, corpus, tmp_path):
    utterances, _, folds = corpus
    fold = folds[0]
    plain = tuned(models["wavlm", "layer"], corpus, tmp_path)
    crossed = tuned(models["wavlm", "layer"], corpus, tmp_path, cross_fit=True)
    train = np.array(fold.train)
    others = [*fold.validation, *fold.test]
    np.testing.assert_array_equal(plain.logits[0][others], crossed.logits[0][others])
    assert (plain.logits[0][train] != crossed.logits[0][train]).all(axis=1).any()
    assert len(list(tmp_path.glob("*.npz"))) == 3
    # A held-out speaker's labels do not reach its own logits.
    speaker = utterances[train[0]].speaker
    rows = {i for i in train.tolist() if utterances[i].speaker == speaker}
    wrong = (mislabelled(utterances, rows), *corpus[1:])
    again = tuned(models["wavlm", "layer"], wrong, tmp_path / "wrong", cross_fit=True)
    np.testing.assert_array_equal(again.logits[0][sorted(rows)], crossed.logits[0][sorted(rows)])


# From a folder to a student


@pytest.fixture(scope="module")
def manifest(corpus, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "tones.csv"
    rows = [f"{one.path},{one.emotion},{one.speaker},{one.id}" for one in corpus[0]]
    path.write_text("\n".join(["path,emotion,speaker,id", *rows]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (("wavlm", "layer"), []),
        (("wav2vec2", "group"), ["--fine_tune", "--epochs", "2", "-bt", "16", "-lr", "1e-4"]),
    ],
    ids=["probe", "fine-tuned"],
)
def test_teach_from_a_folder_makes_a_file_that_a_student_learns_from(models, manifest, tmp_path, kind, how):
    common = ["-dn", str(manifest), "--protocol", "loso", "--folds", "s0"]
    common += ["--result", str(tmp_path), "-v", "0"]
    assert cli.main(["teach", "--from", models[kind], *how, *common, "--out", str(tmp_path / "t.npz")]) == 0
    teacher = teachers.read(tmp_path / "t.npz")
    assert teacher.folds == ("s0", protocols.ALL_SPEAKERS)
    everyone = ["s0", "s1", "s2", "s3"]
    # s0 tests and s1 validates
    assert teacher.card["train_speakers"] == {"s0": everyone[2:], protocols.ALL_SPEAKERS: everyone}
    assert teacher.made_by.endswith(", fine-tuned") == bool(how)
    assert Path(models[kind]).name in teacher.made_by
    assert teacher.logits.shape == (2, 32, 3)
    assert teacher.embeddings is not None
    assert teacher.embeddings.shape == (2, 32, 32)
    if how:
        told = teacher.card["fine_tuning"]
        assert (told["epochs"], told["batch_size"], told["learning_rate"]) == (2, 16, 1e-4)

    quick = ["-id", "0.3", "--width", "0.15", "--epochs", "1", "--no-export", "--run", "student"]
    teach = ["--teacher", str(tmp_path / "t.npz"), "-kd", "KD+hint"]
    assert cli.main(["train", *common, *quick, *teach]) == 0
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["teacher"]["made_by"], metrics["teacher"]["stamps"]) == (teacher.made_by, [])


@pytest.mark.parametrize("how", [[], ["--fine_tune", "--epochs", "1", "-lr", "1e-4"]], ids=["probe", "tuned"])
def test_a_speech_model_says_of_unlabelled_copies_what_it_says_of_test_recordings(
    models, tmp_path, monkeypatch, how
):
    (tmp_path / "corpus").mkdir()
    table, out = made_corpus(tmp_path / "corpus"), tmp_path / "t.npz"
    shutil.copytree(table.parent, tmp_path / "copies")
    source = f"wavlm={models['wavlm', 'layer']}"
    command = ["teach", "-dn", str(table), "--from", source, *how, "--folds", "#1", "-id", "3", "-v", "0"]
    places = ["--unlabelled", str(tmp_path / "copies"), "--result", str(tmp_path), "--run", "t"]
    assert cli.main([*command, *places, "--out", str(out)]) == 0
    check_answers(out, tmp_path / "copies", atol=1e-4 if how else 2e-3)
    assert not list((tmp_path / "t").glob("*.weights.npz"))
    # what is answered is neither tuned nor encoded again
    monkeypatch.setattr(speech_tuning, "_tune", lambda *_, **__: pytest.fail("tuned again"))
    monkeypatch.setattr(embedding_cache, "_write_block", lambda *_: pytest.fail("encoded again"))
    before = out.with_name("t.npz.unlabelled").joinpath("index.json").read_bytes()
    assert cli.main([*command, *places, "--out", str(out)]) == 0
    assert out.with_name("t.npz.unlabelled").joinpath("index.json").read_bytes() == before


def test_a_tuned_model_goes_on_with_its_weights_where_its_answers_were_interrupted(models, corpus, tmp_path):
    """And where they are damaged it is tuned again, to the same numbers."""
    asked = clips(5000, 7000)

    def answers(cut: bool = False) -> np.ndarray:
        found = []

        def on_tuned(fold, encoder, classes):
            if cut:
                raise KeyboardInterrupt
            found.append(np.concatenate(list(encoder.encode(asked))))

        utterances, fingerprints, folds = corpus
        task = speech_probe.TeacherTask(
            utterances, CLASSES, folds[:1], {"made_by": "tiny"}, on_tuned=on_tuned
        )
        source = models["hubert", "layer"]
        speech_tuning.fine_tuned_teacher(source, task, fingerprints, work=tmp_path, settings=FAST)
        return found[0]

    with pytest.raises(KeyboardInterrupt):
        answers(cut=True)
    (weights,) = tmp_path.glob("*.weights.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_tuning, "_tune", lambda *_, **__: pytest.fail("tuned again"))
        kept = answers()
    assert not weights.exists()
    again = answers()
    np.testing.assert_allclose(kept, again, atol=1e-5)
    for outcome in tmp_path.glob("*.npz"):
        outcome.unlink()
    with pytest.raises(KeyboardInterrupt):
        answers(cut=True)
    weights.write_bytes(weights.read_bytes()[:-20])
    np.testing.assert_allclose(answers(), again, atol=1e-5)


def test_a_run_learns_from_clips_that_a_speech_model_answers_and_goes_on_with_that_model_alone(
    models, manifest, tmp_path, capsys
):
    folder = Path(shutil.copytree(models["hubert", "group"], tmp_path / "own"))
    speech_folder = tmp_path / "speech"
    speech_folder.mkdir()
    for number, waveform in enumerate(clips(9000, 20_000)):
        soundfile.write(speech_folder / f"{number}.wav", 3 * waveform, 16_000)
    command = ["train", "-dn", str(manifest), "--folds", "s0", "--result", str(tmp_path), "-v", "0"]
    quick = ["-id", "0.3", "--width", "0.15", "--epochs", "1", "--no-export", "--run", "x"]
    teach = ["-kd", "KD+hint", "--teacher", f"hubert={folder}", "--unlabelled", str(speech_folder)]
    assert cli.main([*command, *quick, *teach]) == 0
    metrics = json.loads((tmp_path / "x" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["teacher"]["made_by"] == "probe on own"
    clip_count = metrics["unlabelled"]["clips"]
    answers = np.load(tmp_path / "x" / "unlabelled" / "s0.npy")
    assert answers.shape == (clip_count, 3)
    assert np.load(tmp_path / "x" / "unlabelled" / "s0.embedding.npy").shape == (clip_count, 32)
    assert answers.std() > 0
    # the same command goes on with the same model alone, which is of the family that is named
    capsys.readouterr()
    shutil.copytree(models["hubert", "layer"], folder, dirs_exist_ok=True)
    assert cli.main([*command, *quick, *teach]) == 2
    assert "teacher" in error_of(capsys)
    wrong = ["--teacher", f"wavlm={folder}", "--run", "y"]
    assert cli.main([*command, *quick, *teach, *wrong]) == 2
    assert f"{folder} is a hubert model and no wavlm: name it hubert={folder}." in error_of(capsys)
    (folder / "preprocessor_config.json").unlink()
    assert cli.main([*command, *quick, *teach, "--run", "y"]) == 2
    assert "expected config.json and preprocessor_config.json and weights" in error_of(capsys)


def test_frames_are_the_last_states_of_transformers(models):
    kind = ("wav2vec2", "layer")
    model = speech.load(models[kind])
    extractor = transformers.AutoFeatureExtractor.from_pretrained(models[kind])
    network = transformers.AutoModel.from_pretrained(models[kind]).eval()
    waveforms = clips(7000, 4000)
    encoder = speech.frame_encoder(model)
    for waveform, found in zip(waveforms, encoder.encode(waveforms), strict=True):
        given = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            expected = network(given).last_hidden_state[0].numpy()
        assert len(found) == speech.frames_of(model, len(waveform)) == len(expected)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cross_attention_hears_through_a_speech_models_frames(models, manifest, tmp_path, capsys):
    """It is trained, scored and exported on states that PyTorch made; its file takes those states."""
    from light_sernet_kd.runner import Runner

    command = [
        "train",
        "-dn",
        str(manifest),
        "--result",
        str(tmp_path),
        "--run",
        "x",
        "-id",
        "0.3",
        "-v",
        "0",
    ]
    command += ["--student", "cross_attention", "--audio_encoder", models["wav2vec2", "layer"]]
    command += ["--modality", "audio", "--folds", "s0", "-bt", "8"]
    assert cli.main([*command, "--epochs", "1", "--tune_epochs", "1"]) == 2
    assert "its encoders stay frozen" in capsys.readouterr().err
    assert cli.main([*command, "--epochs", "1"]) == 0
    metrics = json.loads((tmp_path / "x" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["student"]["encoders"]["audio_encoder"]["name"] == "wav2vec2-layer"
    assert [row["precision"] for row in metrics["export"]["rows"]] == ["float32", "float16", "dynamic"]
    runner = Runner(tmp_path / "x" / "student_float32.tflite")
    states = np.random.default_rng(0).standard_normal((5, 32)).astype("float32")
    assert runner.probabilities_of_states({"audio_states": states}).sum() == pytest.approx(1, abs=1e-5)
    sound = manifest.read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    assert cli.main(["predict", str(tmp_path / "x" / "student_float32.tflite"), sound]) == 2
    assert "wav2vec2-layer" in capsys.readouterr().err
