"""YAMNet: its file, its windows, and its embeddings as LiteRT's own debugging shows them."""

from pathlib import Path

import numpy as np
import pytest

from light_sernet_kd import audio
from light_sernet_kd.encoders import yamnet
from light_sernet_kd.errors import UserError


@pytest.fixture(scope="module")
def yamnet_file(shared_data) -> Path:
    path = shared_data / "models" / yamnet.FILE
    if not path.is_file():
        pytest.skip(f"no YAMNet in {path}: {yamnet.ADDRESS}")
    return path


def test_the_file_found_is_the_one_named_or_the_one_in_the_data(tmp_path):
    with pytest.raises(UserError) as caught:
        yamnet.path_of("", tmp_path)
    assert str(tmp_path / "models" / yamnet.FILE) in str(caught.value)
    assert yamnet.ADDRESS in str(caught.value)
    path = tmp_path / "models" / yamnet.FILE
    path.parent.mkdir()
    path.touch()
    assert yamnet.path_of("", tmp_path) == path
    with pytest.raises(UserError, match=r"no YAMNet in other\.tflite"):
        yamnet.path_of("other.tflite", tmp_path)
    assert yamnet.path_of(str(path), tmp_path / "elsewhere") == path


def test_the_address_is_of_the_file_whose_hash_is_named(yamnet_file):
    assert audio.fingerprint(yamnet_file) == yamnet.SHA256


def preserved(path: Path, windows: list[np.ndarray]) -> np.ndarray:
    """The embedding as LiteRT's debugging aid, which keeps every tensor, gives it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    (tensor,) = (
        detail
        for detail in interpreter.get_tensor_details()
        if detail["name"] == "tower0/network/layer28/reduce_mean"
    )
    scale, zero = tensor["quantization"]
    rows = []
    for window in windows:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window.astype(np.float32))
        interpreter.invoke()
        rows.append((interpreter.get_tensor(tensor["index"]).ravel().astype(np.float64) - zero) * scale)
    return np.array(rows)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
def test_a_clip_is_the_mean_and_deviation_over_its_windows(yamnet_file):
    rng = np.random.default_rng(0)
    waveform = (0.3 * np.sin(np.arange(40_000) ** 1.3 / 50) + 0.01 * rng.normal(size=40_000)).astype(
        np.float32
    )
    # 0.48 s apart; the last ends where the clip does
    rows = preserved(
        yamnet_file, [waveform[start : start + 15_600] for start in (0, 7680, 15_360, 23_040, 24_400)]
    )
    (both,) = yamnet.encoder(yamnet_file, pooling="mean+std").encode([waveform])
    (mean,) = yamnet.encoder(yamnet_file).encode([waveform])
    assert mean.shape == (1, 1024)
    assert np.ptp(rows, axis=0).max() > 0.5, "else all windows are alike and the test says nothing"
    np.testing.assert_allclose(mean[0], rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(both[0], [*rows.mean(axis=0), *rows.std(axis=0)], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
def test_a_short_clip_gets_zeros_at_its_end_and_a_fitting_one_none(yamnet_file):
    waveform = np.random.default_rng(1).normal(size=15_600).astype(np.float32) * 0.1
    short = waveform[:5000]
    padded = np.concatenate([short, np.zeros(10_600)])
    encoder = yamnet.encoder(yamnet_file, pooling="mean+std")
    for clip, window in ((waveform, waveform), (short, padded)):
        (found,) = encoder.encode([clip])
        np.testing.assert_allclose(found[0, :1024], preserved(yamnet_file, [window])[0], atol=1e-5)
        assert not found[0, 1024:].any()


@pytest.mark.parametrize("samples", [1, 15_599, 15_600, 15_601, 23_280, 23_281, 100_000])
@pytest.mark.parametrize("hop", [1, 7680, 15_600])
def test_windows_cover_every_sample_and_none_beyond(samples, hop):
    samples = min(samples, 20_000) if hop == 1 else samples
    waveform = np.arange(1, samples + 1)
    windows = yamnet._windows(waveform, 15_600, hop)
    assert {len(window) for window in windows} == {15_600}
    starts = [int(window[0]) - 1 for window in windows]
    assert starts == sorted(set(starts))
    assert np.diff([*starts, starts[-1]]).max() <= hop
    assert set(np.concatenate([windows[0], *(window[-hop:] for window in windows[1:])]).tolist()) - {
        0
    } == set(waveform.tolist())


def test_other_settings_have_other_caches(yamnet_file, tmp_path):
    made = [
        yamnet.encoder(yamnet_file),
        yamnet.encoder(yamnet_file, hop_seconds=0.24),
        yamnet.encoder(yamnet_file, pooling="mean+std"),
    ]
    assert len({encoder.folder(tmp_path) for encoder in made}) == 3


@pytest.mark.parametrize("hop_seconds", [0, -1, 0.976, 1e-9])
def test_an_impossible_hop_is_refused(yamnet_file, hop_seconds):
    with pytest.raises(UserError, match=r"hop must be above 0 and at most 0\.975 s"):
        yamnet.encoder(yamnet_file, hop_seconds=hop_seconds)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "beheaded", "another network"])
def test_what_is_no_yamnet_is_refused(yamnet_file, tmp_path, damage):
    content = yamnet_file.read_bytes()
    path = tmp_path / "yamnet.tflite"
    path.write_bytes(
        {
            "empty": b"",
            "text": b"version https://git-lfs.github.com/spec/v1\n",
            "cut": content[: len(content) // 2],
            "beheaded": content[:8] + bytes(64) + content[72:],
            "another network": content.replace(b"layer28/reduce_mean", b"layer28/reduce_none"),
        }[damage]
    )
    with pytest.raises(UserError, match=r"yamnet\.tflite is not a YAMNet classifier or is damaged"):
        yamnet.encoder(path)
