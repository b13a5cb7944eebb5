"""Whisper's encoder: features against librosa, rows against the extractor and the network of transformers."""

import importlib.util
import json
import shutil
import sys

import librosa
import numpy as np
import pytest
from small_runs import check_answers, made_corpus

from light_sernet_kd import cli, teachers
from light_sernet_kd.encoders import whisper
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, teacher_members, teacher_source

RNG = np.random.default_rng(0)
BANDS = 80


def clip(samples: int) -> np.ndarray:
    return RNG.normal(scale=0.1, size=samples).astype(np.float32)


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("samples", [479, 480, 481, 16_000])
def test_features_are_librosas_with_80_db_below_the_loudest(samples, bands):
    waveform = clip(samples) * np.geomspace(1e-5, 1, samples, dtype=np.float32)
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform, (0, 160)), sr=16_000, n_fft=400, hop_length=160, n_mels=bands, pad_mode="reflect"
    )
    expected = np.log10(np.maximum(power[:, : -(-samples // 160)], 1e-10))
    expected = (np.maximum(expected, expected.max() - 8) + 4) / 4
    np.testing.assert_allclose(whisper.log_mel(waveform, bands), expected, atol=2e-4)


@pytest.mark.parametrize("samples", [1, 159, 160, 161])
def test_a_recording_of_a_frame_or_less_and_silence_have_features(samples):
    for waveform in (clip(samples), np.zeros(samples, np.float32)):
        features = whisper.log_mel(waveform, BANDS)
        assert features.shape == (BANDS, -(-samples // 160))
        assert features.dtype == np.float32
        assert np.isfinite(features).all()


def seen_features(windows: list[np.ndarray]) -> whisper.WhisperEncoder:
    """An encoder of windows of a second whose frames are every second frame of the features."""

    def states(features: np.ndarray) -> np.ndarray:
        windows.append(features)
        return features.T[::2]

    return whisper.WhisperEncoder(states, BANDS, 50, BANDS, {})


@pytest.mark.parametrize(
    ("samples", "windows"), [(1, 1), (320, 1), (321, 1), (16_000, 1), (16_001, 2), (40_100, 3)]
)
def test_windows_follow_one_another_and_padding_gives_no_frames(samples, windows):
    waveform, seen = clip(samples), []
    frames = whisper.frames(waveform, seen_features(seen))
    whole = whisper.log_mel(waveform, BANDS)
    assert [window.shape for window in seen] == [(BANDS, 100)] * windows
    assert len(frames) == -(-samples // 320)
    np.testing.assert_array_equal(frames, whole.T[::2])
    np.testing.assert_array_equal(np.concatenate(seen, axis=1)[:, : whole.shape[1]], whole)
    assert not np.concatenate(seen, axis=1)[:, whole.shape[1] :].any()


def test_statistics_are_over_all_frames_of_all_windows():
    frames = RNG.normal(loc=3, size=(7, 2)).astype(np.float32)
    mean = [sum(float(row[k]) for row in frames) / 7 for k in range(2)]
    deviation = [(sum((float(row[k]) - mean[k]) ** 2 for row in frames) / 7) ** 0.5 for k in range(2)]
    np.testing.assert_allclose(whisper.statistics(frames), mean + deviation, rtol=1e-6)


# What it is named by


@pytest.mark.parametrize("option", ["--teacher", "--from"])
def test_its_model_follows_its_name(option):
    entry = TEACHER_SOURCES["whisper"]
    for spec, argument in (("whisper", ""), ("whisper=my/model", "my/model"), ("whisper:my", "my")):
        assert teacher_source(spec, option) == (entry, argument)
    assert teacher_members("opensmile+whisper:a+b*2") == [("opensmile", 1), ("whisper:a+b", 2)]


def test_what_is_no_whisper_model_is_one_line(tmp_path):
    for use in (whisper.digest, whisper.load):
        for source in ("nowhere", str(tmp_path / "nowhere"), "./nowhere"):
            with pytest.raises(UserError, match=r"^there is no folder .*nowhere\."):
                use(source)
    with pytest.raises(UserError, match=r"^no Whisper model in .*: expected model\.bin .* or config\.json"):
        whisper.digest(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged \(Expecting"):
        whisper.digest(str(tmp_path))
    for config, kind in (({"model_type": "bert"}, "'bert'"), ({}, "None"), ([], "None")):
        (tmp_path / "config.json").write_text(json.dumps(config))
        for use in (whisper.digest, whisper.load):
            with pytest.raises(UserError, match=f"is not a Whisper model: model_type .* is {kind}"):
                use(str(tmp_path))


def test_missing_packages_are_named_with_their_extra(tmp_path, monkeypatch):
    for module in ("ctranslate2", "torch", "transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    for folder, file in (("one", "model.bin"), ("two", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text('{"model_type": "whisper"}')
    for source, message in (
        (str(tmp_path / "one"), r"one needs CTranslate2 .*\[whisper\]"),
        (str(tmp_path / "two"), r"^speech models need PyTorch and transformers .*\[ssl\]"),
        ("models/three", r"^there is no folder models/three, and for a name on the hub speech .*\[ssl\]"),
    ):
        with pytest.raises(UserError, match=message):
            whisper.load(source)


def test_the_digest_is_of_the_files_that_decide(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "whisper"}')
    digests = set()
    for name, content in (
        ("model.safetensors", "1"), ("model.safetensors", "2"), ("config.json", '{"model_type": "whisper" }'),
        ("model.bin", "3"), ("model.bin", "4"),
    ):  # fmt: skip
        (model / name).write_text(content)
        digests.add(whisper.digest(str(model)))
    assert len(digests) == 5
    (model / "config.json").write_text("{}")  # of CTranslate2, where it says nothing of the encoder
    (model / "README.md").write_text("more")
    assert whisper.digest(str(model)) in digests
    assert whisper.digest("openai/whisper-base") is None
    # an ensemble has a hash where one of its members has
    ensemble = TEACHER_SOURCES["ensemble"].digest
    assert ensemble("whisper+opensmile", tmp_path) is None
    assert ensemble(f"opensmile+whisper={model}", tmp_path) != ensemble("opensmile+whisper", tmp_path)


# With transformers


def absent(*modules: str) -> str:
    return ", ".join(module for module in modules if importlib.util.find_spec(module) is None)


def save(folder, seed: int = 0, seconds: int = 30, width: int = 16, bands: int = BANDS):
    """A random Whisper of windows of so many seconds, in transformers' form."""
    if missing := absent("torch", "transformers"):
        pytest.skip(f"the extra ssl is missing: {missing}")
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=60, num_mel_bins=bands, d_model=width, encoder_layers=2, encoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32,
        max_source_positions=50 * seconds, max_target_positions=8, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, init_std=0.2,
    )  # fmt: skip
    network = transformers.WhisperForConditionalGeneration(config)
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("bands", [80, 128])
def test_a_row_is_that_of_the_extractor_and_the_network_of_transformers(tmp_path, bands):
    network = save(tmp_path, seconds=1, bands=bands).eval().model.encoder
    import torch
    import transformers

    encoder, waveform = whisper.encoder(str(tmp_path)), clip(35_300)
    assert encoder.shape == (32,)
    (row,) = encoder.encode([waveform])
    extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    heard = extractor(
        np.pad(waveform, (0, 160)), sampling_rate=16_000, padding=False, truncation=False, return_tensors="pt"
    )["input_features"]
    assert heard.shape == (1, bands, 221)
    frames = []
    with torch.no_grad():
        for start, real in ((0, 50), (100, 50), (200, 11)):
            window = heard[..., start : start + 100]
            window = torch.nn.functional.pad(window, (0, 100 - window.shape[-1]))
            frames += [*network(window).last_hidden_state[0, :real].numpy()]
    expected = np.concatenate([np.mean(frames, axis=0), np.std(frames, axis=0)])
    np.testing.assert_allclose(row[0], expected, rtol=1e-3, atol=1e-4)


def test_rows_are_of_the_weights_and_not_of_the_place(tmp_path):
    save(tmp_path / "one", seed=0)
    save(tmp_path / "two", seed=0)
    save(tmp_path / "other", seed=1)
    folders = [whisper.encoder(str(tmp_path / name)).folder(tmp_path) for name in ("one", "two", "other")]
    assert folders[0] == folders[1] != folders[2]


def test_teach_makes_a_file_of_probes_and_answers_unlabelled_copies(tmp_path):
    save(tmp_path / "model", seconds=1)
    (tmp_path / "corpus").mkdir()
    table, out, copies = made_corpus(tmp_path / "corpus"), tmp_path / "t.npz", tmp_path / "copies"
    shutil.copytree(table.parent, copies)
    command = ["teach", "-dn", str(table), "--folds", "#1", "--result", str(tmp_path), "-v", "0"]
    places = ["--unlabelled", str(copies), "-id", "3", "--out", str(out)]
    assert cli.main([*command, *places, "--from", f"whisper={tmp_path / 'model'}"]) == 0
    card = teachers.read(out).card
    assert card["made_by"] == "probe on Whisper's encoder model"
    assert card["licence"] == "MIT (OpenAI's weights of Whisper)"
    assert card["encoder"]["form"] == "transformers"
    check_answers(out, copies, atol=2e-3)
    options = ["--standardise_speakers", "--out", str(tmp_path / "s.npz")]
    assert cli.main([*command, *options, "--from", f"whisper:{tmp_path / 'model'}"]) == 0
    assert "known_speakers" in teachers.read(tmp_path / "s.npz").card["probe"]


def test_weights_that_are_missing_are_not_invented(tmp_path):
    save(tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "encoder.layers.1.fc1" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 2 of its weights, e\.g\. encoder\.layers\.1\.fc1\.bias"):
        whisper.load(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^no Whisper model in .* Expected a folder with config\.json and "):
        whisper.load(str(tmp_path))


# With CTranslate2


def test_both_forms_of_a_model_give_the_same_rows(tmp_path):
    if missing := absent("ctranslate2"):
        pytest.skip(f"the extra whisper is missing: {missing}")
    network = save(tmp_path / "transformers")
    from ctranslate2.converters.transformers import WhisperLoader

    loader = WhisperLoader()
    spec = loader.get_model_spec(network.eval())
    loader.set_vocabulary(spec, [f"<{number}>" for number in range(60)])
    for name in ("suppress_ids", "suppress_ids_begin", "alignment_heads", "lang_ids"):
        setattr(spec.config, name, [])
    spec.validate()
    spec.optimize(quantization="float32")
    (tmp_path / "ctranslate2").mkdir()
    spec.save(str(tmp_path / "ctranslate2"))
    waveforms = [clip(12_345), clip(31 * 16_000)]
    rows = [
        np.concatenate(list(whisper.encoder(str(tmp_path / form)).encode(waveforms)))
        for form in ("transformers", "ctranslate2")
    ]
    assert rows[0].shape == (2, 32)
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-3, atol=2e-4)


def test_a_damaged_folder_of_ctranslate2_is_one_line(tmp_path):
    if missing := absent("ctranslate2"):
        pytest.skip(f"the extra whisper is missing: {missing}")
    (tmp_path / "model.bin").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"^no Whisper model of CTranslate2 in .*: [^\n]+$"):
        whisper.load(str(tmp_path))
