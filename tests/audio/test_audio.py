"""Every stored form comes back as the sound that went in; everything else is refused by name."""

import hashlib
import os
import struct
import subprocess
import sys
import threading
import warnings
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
import soxr
from recordings import (
    RATE,
    chunk,
    encoded,
    id3_tag,
    mp3_bytes,
    refusal,
    sine,
    streamed_flac,
    voice_like,
    wav_bytes,
)

from light_sernet_kd import audio, config, runner
from light_sernet_kd.analysis import degradations
from light_sernet_kd.audio import decoders, reading
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import prepare, signatures
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.degradations import CONDITIONS


# Quantisation: half a step for the integers, with a step more for libsndfile's 2^n - 1 when it writes.
@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1.6 / 2**7),
        ("WAV", "PCM_16", 1.6 / 2**15),
        ("WAV", "PCM_24", 1.6 / 2**23),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAVEX", "PCM_16", 1.6 / 2**15),
        ("FLAC", "PCM_16", 1.6 / 2**15),
        ("FLAC", "PCM_24", 1.6 / 2**23),
        ("AIFF", "PCM_S8", 1.6 / 2**7),
        ("AIFF", "PCM_16", 1.6 / 2**15),
        ("AIFF", "PCM_24", 1.6 / 2**23),
        ("AIFF", "FLOAT", 1e-7),
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "flac", "raw", "RAW", "txt", ""])
def test_samples_come_back_within_the_quantisation_whatever_the_suffix(
    tmp_path, container, subtype, tolerance, suffix
):
    source = voice_like()
    path = tmp_path / f"clip.{suffix}".rstrip(".")
    path.write_bytes(encoded(source, container, subtype))
    waveform = audio.read(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == source.shape
    np.testing.assert_allclose(waveform, source, atol=tolerance, rtol=0)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_are_divided_by_full_scale(tmp_path, bits):
    full = 2 ** (bits - 1)
    values = [0, 1, -1, full // 2, full - 1, -full]
    offset = 128 if bits == 8 else 0  # 8-bit WAV is unsigned
    frames = b"".join((value + offset).to_bytes(bits // 8, "little", signed=bits > 8) for value in values)
    path = tmp_path / "hand.wav"
    path.write_bytes(wav_bytes(frames, bits=bits))
    np.testing.assert_array_equal(audio.read(path), np.float32(np.array(values) / full))


def test_python_wave_and_scipy_agree_on_a_real_header(tmp_path):
    values = (np.random.default_rng(0).uniform(-1, 1, 1000) * 32767).astype("<i2")
    path = tmp_path / "wave.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    np.testing.assert_array_equal(audio.read(path) * 32768, scipy.io.wavfile.read(path)[1])


@pytest.mark.parametrize(
    ("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
@pytest.mark.parametrize("suffix", ["mp3", "wav"])
def test_lossy_files_sound_like_their_source(tmp_path, container, subtype, suffix):
    source = sine(440)
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(encoded(source, container, subtype))
    waveform = audio.read(path)
    assert waveform.shape == source.shape
    inner = slice(1000, -1000)
    assert np.corrcoef(waveform[inner], source[inner])[0, 1] > 0.999


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path, channels):
    source = np.random.default_rng(1).uniform(-0.9, 0.9, (4000, channels))
    path = tmp_path / "many.wav"
    soundfile.write(path, source, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path), source.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_a_resampled_sine_is_the_sine_of_the_new_rate(tmp_path, rate):
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(1000, sample_rate=rate), rate, subtype="FLOAT")
    waveform = audio.read(path)
    assert waveform.dtype == np.float32
    assert abs(len(waveform) - RATE) <= 1
    inner = slice(800, 15_000)  # the filter rings at the ends
    np.testing.assert_allclose(waveform[inner], sine(1000)[inner], atol=5e-5)


def test_what_the_new_rate_cannot_hold_is_removed_not_folded_back(tmp_path):
    path = tmp_path / "high.wav"
    soundfile.write(path, sine(11_000, sample_rate=44_100), 44_100, subtype="FLOAT")
    # Folded back it would be a 5 kHz tone of amplitude 0.5.
    assert np.abs(audio.read(path)[800:-800]).max() < 0.5 * 10 ** (-100 / 20)


def test_another_rate_can_be_asked_for(tmp_path):
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(1000), RATE, subtype="FLOAT")
    np.testing.assert_allclose(
        audio.read(path, sample_rate=48_000)[2400:-2400],
        sine(1000, sample_rate=48_000)[2400:-2400],
        atol=5e-5,
    )


def test_a_96_khz_aiff_named_wav_is_read_by_content(tmp_path):
    path = tmp_path / "OAF_back_angry.wav"  # as in the published TESS
    path.write_bytes(encoded(sine(500, sample_rate=96_000), "AIFF", "PCM_24", sample_rate=96_000))
    np.testing.assert_allclose(audio.read(path)[800:-800], sine(500)[800:-800], atol=5e-5)
    assert audio.decode(path).encoding == "AIFF PCM_24"


@pytest.mark.parametrize("name", ["two words.wav", "Grüße – 안녕.wav", "[bold]x.wav", "-dn", "a\nb.wav"])
def test_odd_names_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(sine(300), "WAV", "PCM_16"))
    assert len(audio.read(path)) == RATE
    assert len(audio.read(str(path))) == RATE


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.flac").write_bytes(encoded(sine(300), "FLAC", "PCM_16"))
    (tmp_path / "link.wav").symlink_to("real.flac")
    assert len(audio.read(tmp_path / "link.wav")) == RATE


def test_chunks_around_the_samples_are_not_sound(tmp_path):
    values = (1000 * sine(300)).astype("<i2")
    odd = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 3) + b"abc")
    path = tmp_path / "chunks.wav"
    path.write_bytes(wav_bytes(values.tobytes(), before=odd, after=chunk(b"LIST", b"INFO" + b"x" * 400)))
    np.testing.assert_array_equal(audio.read(path) * 32768, values)
    path.write_bytes(wav_bytes(values.tobytes()[:-2], data_size=2 * len(values), before=odd))
    assert f"promises {2 * len(values)} bytes of samples, {2 * len(values) - 2} are there" in refusal(path)


@pytest.mark.parametrize(
    ("data_size", "riff_size"),
    [
        (0, 0),
        (0, 36),  # Python's wave module, stopped before it closes
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg to a pipe
        (0x7FFFF000, 0x7FFFF024),  # SoX to a pipe
        (0x80000000, 0x80000024),  # arecord to a pipe
    ],
)
def test_a_streamed_wav_lasts_until_the_end_of_the_file(tmp_path, data_size, riff_size):
    values = (1000 * sine(300)).astype("<i2")
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav_bytes(values.tobytes(), data_size=data_size, riff_size=riff_size))
    np.testing.assert_array_equal(audio.read(path) * 32768, values)


@pytest.mark.parametrize("seconds", [1.0, 70.0])  # below and above one block of reading
def test_a_streamed_flac_of_unknown_length_is_read_to_its_end(tmp_path, seconds):
    source = sine(300, seconds=seconds)
    path = tmp_path / "streamed.flac"
    path.write_bytes(streamed_flac(source))
    np.testing.assert_allclose(audio.read(path), source, atol=1e-4)


def test_a_long_file_is_read_whole(tmp_path):
    source = sine(300, seconds=140)
    path = tmp_path / "long.wav"
    soundfile.write(path, source, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path), source, atol=1e-7)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAV", "MS_ADPCM"),
        ("WAVEX", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AIFF", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ],
)
def test_a_file_that_was_cut_short_is_refused(tmp_path, container, subtype, share):
    whole = encoded(voice_like(seconds=4), container, subtype)
    path = tmp_path / "clip.wav"
    path.write_bytes(whole)
    assert len(audio.read(path)) == 4 * RATE or "ADPCM" in subtype  # which stores whole blocks
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in refusal(path)


def test_an_mp3_states_its_length_behind_a_picture(tmp_path):
    whole = id3_tag(50_000) + mp3_bytes(voice_like(seconds=4), options={"id3v2_version": "0"})
    path = tmp_path / "clip.mp3"
    path.write_bytes(whole)
    assert len(audio.read(path)) == 4 * RATE
    path.write_bytes(whole[:-5000])
    assert "cut short" in refusal(path)


def test_an_ogg_cut_within_a_page_is_refused_and_one_without_its_last_pages_noted(tmp_path):
    whole = encoded(voice_like(seconds=4), "OGG", "VORBIS")
    pages = [place for place in range(len(whole)) if whole.startswith(b"OggS", place)]
    path = tmp_path / "clip.ogg"
    assert len(pages) > 3
    path.write_bytes(whole)
    expected = audio.read(path)
    for page in pages[1:]:
        for rest in (1, 4, 20, 27, 100):
            path.write_bytes(whole[: page + rest])
            assert "its last Ogg page is missing" in refusal(path)
    # Where whole pages are missing, nothing but the mark of the end tells: the first three are headers.
    for page in pages[3:]:
        path.write_bytes(whole[:page])
        with pytest.warns(audio.AudioNote, match="no mark of its end"):
            begun = audio.read(path)
        assert 0 < len(begun) < len(expected)
        np.testing.assert_array_equal(begun, expected[: len(begun)])


@pytest.mark.parametrize("share", [0.95, 0.5, 0.2])
@pytest.mark.parametrize("options", [{}, {"id3v2_version": "0"}])
@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_an_mp3_that_was_cut_short_is_refused_if_it_states_its_length(tmp_path, sample_rate, options, share):
    whole = mp3_bytes(
        voice_like(seconds=4, sample_rate=sample_rate), sample_rate=sample_rate, options=options
    )
    path = tmp_path / "clip.mp3"
    for tag in (b"", b"TAG" + b"x" * 125, bytes(1000)):
        path.write_bytes(whole + tag)
        assert len(audio.read(path)) == 4 * RATE
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize("picture_bytes", [500, 50_000])
def test_an_mp3_without_a_stated_length_is_read_as_far_as_it_goes(tmp_path, picture_bytes):
    path = tmp_path / "clip.mp3"
    sound = mp3_bytes(voice_like(seconds=4), options={"write_xing": "0", "id3v2_version": "0"})
    path.write_bytes(id3_tag(picture_bytes) + sound)
    # Without the header the encoder's delay and padding stay: three MPEG-2 frames at most.
    assert 4 * RATE <= len(audio.read(path)) <= 4 * RATE + 3 * 576


def test_an_mp3_may_count_the_frame_of_its_own_header(tmp_path):
    content = mp3_bytes(voice_like(seconds=4))
    at = content.index(b"Xing") if b"Xing" in content else content.index(b"Info")
    (frames,) = struct.unpack_from(">I", content, at + 8)
    path = tmp_path / "clip.mp3"
    for extra, fine in ((1, True), (5, False)):
        path.write_bytes(content[: at + 8] + struct.pack(">I", frames + extra) + content[at + 12 :])
        if fine:
            assert len(audio.read(path)) >= 4 * RATE - 1152
        else:
            assert "cut short" in refusal(path)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "OGG"])
def test_a_header_alone_is_refused(tmp_path, container):
    subtype = "VORBIS" if container == "OGG" else "PCM_16"
    path = tmp_path / "header.wav"
    path.write_bytes(encoded(np.zeros(0), container, subtype))
    assert "no samples" in refusal(path)


@pytest.mark.parametrize("channels", [1, 2])
def test_numbers_near_infinity_are_refused_without_a_warning(tmp_path, channels):
    path = tmp_path / "a.wav"
    samples = np.full((1000, channels), 3e38, np.float32)
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(audio.AudioError, match=r"holds values up to 3e\+38, where full scale is 1"):
            audio.read(path)
    soundfile.write(path, samples / 3.1e29, 44_100, subtype="FLOAT")
    assert np.isfinite(audio.read(path)).all()


def test_the_limit_of_a_sample_is_one_for_files_and_streams(tmp_path):
    from light_sernet_kd import runner

    assert runner.LARGEST_SAMPLE == config.LARGEST_SAMPLE == 1e9
    path = tmp_path / "a.wav"
    for peak, fine in ((1e9, True), (1.001e9, False)):
        soundfile.write(path, np.full(1000, peak), RATE, subtype="FLOAT")
        if fine:
            assert audio.read(path).max() == np.float32(1e9)
        else:
            assert "holds values up to 1e+09, where full scale is 1 and 1e+09 the most" in refusal(path)
    soundfile.write(path, np.full(1000, 1e300), RATE, subtype="DOUBLE")
    assert "not finite" in refusal(path)  # as 32-bit floats


@pytest.mark.parametrize("kind", ["largest", "spikes", "tiny", "denormal", "constant", "alternating"])
def test_no_finite_file_makes_numpy_warn(tmp_path, kind):
    rng = np.random.default_rng(2)
    sound = {
        "largest": rng.choice([-1e9, 1e9], 8000),
        "spikes": np.where(np.arange(8000) % 997, 1e-30, 9e8),
        "tiny": rng.standard_normal(8000) * 1e-30,
        "denormal": rng.standard_normal(8000) * 1e-42,
        "constant": np.full(8000, 1e9),
        "alternating": np.resize([1e9, -1e9, 1e-38], 8000),
    }[kind]
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([sound, sound[::-1]], axis=1), 44_100, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            waveform = audio.read(path)
        except audio.AudioError:  # a filter may overshoot
            waveform = np.float32(sound)
        for samples in (waveform, np.float32(sound)):
            assert np.isfinite(signatures.signature(samples)[0]).all()
            runner.unheard(samples, RATE)
            around = degradations.DegradationContext(0, "a", (np.float32(sine(200)), samples))
            for condition in CONDITIONS.values():
                assert np.isfinite(condition(samples, around)).all(), condition.name
        facts = prepare.inspect(Corpus("x", (Utterance("a", path, "anger", "1"),)))
        assert not facts.unreadable


def test_a_finished_wav_without_samples_is_empty_even_if_other_chunks_follow(tmp_path):
    path = tmp_path / "empty.wav"
    path.write_bytes(wav_bytes(b"", after=chunk(b"LIST", b"INFO" + b"x" * 400)))
    assert "no samples" in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"a", "is not audio"),
        (b"these are words, not sounds\n" * 100, "is not audio"),
        (bytes(5000), "is not audio"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"RIFF", "damaged or cut short"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "damaged or cut short"),
        (b"FORM\0\0\0\x24AIFF", "damaged or cut short"),
        (b"fLaC", "damaged or cut short"),
        (b"OggS", "cut short"),
        (b"OggS" + b"\xff" * 30, "cut short"),
        (b"ID3", "damaged or cut short"),
        (b"\xff\xfb\x90\x64" + bytes(50), "damaged or cut short"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_name_and_the_reason(tmp_path, content, said):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    assert said in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value, subtype):
    samples = voice_like()
    samples[[10, 20, 21]] = value
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.stack([samples, voice_like()], axis=1), RATE, subtype=subtype)
    assert "3 values that are not finite" in refusal(path)


def test_missing_files_folders_pipes_and_broken_links_are_told_apart(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert "no such recording" in refusal(tmp_path / "missing.wav")
    assert "is a folder" in refusal(tmp_path / "folder.wav")
    assert "a link to a file that is not there" in refusal(tmp_path / "link.wav")
    assert "cannot read" in refusal(tmp_path / "loop.wav")
    assert "not a regular file" in refusal(tmp_path / "pipe.wav")
    assert "cannot read" in refusal(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "private.wav"
    path.write_bytes(encoded(sine(300), "WAV", "PCM_16"))
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_an_absurd_sample_rate_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "slow.wav"
    path.write_bytes(wav_bytes(bytes(64_000), sample_rate=1))
    assert "sample rate of 1 Hz" in refusal(path)


def test_a_recording_too_short_for_one_sample_of_the_new_rate_is_refused(tmp_path):
    path = tmp_path / "one.wav"
    path.write_bytes(wav_bytes(b"\1\0", sample_rate=44_100))
    assert "only 1 samples" in refusal(path)


def test_damage_at_random_places_never_ends_in_another_error(tmp_path, monkeypatch):
    ignored = []  # exceptions inside libsndfile's callbacks
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    rng = np.random.default_rng(3)
    path = tmp_path / "damaged.wav"
    source = voice_like(seconds=0.2)
    wholes = [
        encoded(source, "WAV", "PCM_16"),
        encoded(source, "AIFF", "PCM_24"),
        encoded(source, "FLAC", "PCM_16"),
        encoded(source, "OGG", "VORBIS"),
        encoded(source, "MP3", "MPEG_LAYER_III"),
    ]
    read, refused = 0, 0
    for whole in wholes:
        for _ in range(40):
            content = bytearray(whole)
            for place in rng.integers(0, min(len(content), 200), 4):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                assert audio.read(path).ndim == 1
                read += 1
            except audio.AudioError:
                refused += 1
    assert read > 0
    assert refused > 0
    assert not ignored


def test_fit_cuts_and_pads_both_ends_alike_and_the_odd_sample_at_the_end():
    clip = np.arange(1, 8, dtype=np.float32)
    np.testing.assert_array_equal(audio.fit(clip, 7), clip)
    np.testing.assert_array_equal(audio.fit(clip, 3), [3, 4, 5])
    np.testing.assert_array_equal(audio.fit(clip, 4), [2, 3, 4, 5])
    np.testing.assert_array_equal(audio.fit(clip, 11), [0, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0])
    np.testing.assert_array_equal(audio.fit(clip, 10), [0, 1, 2, 3, 4, 5, 6, 7, 0, 0])
    np.testing.assert_array_equal(audio.fit(clip, 10, pad="right"), [1, 2, 3, 4, 5, 6, 7, 0, 0, 0])
    np.testing.assert_array_equal(audio.fit(clip, 3, pad="right"), [3, 4, 5])
    assert audio.fit(clip, 10).dtype == np.float32


def test_fit_names_the_paddings_there_are():
    with pytest.raises(UserError, match="both, right"):
        audio.fit(np.zeros(3), 5, pad="left")


def test_fingerprint_is_the_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(b"x" * 3_000_000)
    assert audio.fingerprint(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    for missing in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(audio.AudioError, match=str(missing)):
            audio.fingerprint(missing)


def made_utterances(folder, contents):
    """A recording of a speaker of its own for each content."""
    found = []
    for index, content in enumerate(contents):
        path = folder / f"u{index}.wav"
        path.write_bytes(content)
        found.append(Utterance(f"u{index}", path, "anger", f"speaker {index}"))
    return found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<html><body>404 Not Found</body></html>\n" * 9, "is not audio"),
        (encoded(np.zeros(0), "WAV", "PCM_16"), "holds a header but no samples"),
        (encoded(sine(300), "WAV", "PCM_16")[:900], "is cut short"),
    ],
)
def test_identical_files_that_are_no_recordings_are_unusable_and_no_copies(tmp_path, content, reason):
    good = encoded(sine(300), "FLAC", "PCM_16")
    utterances = made_utterances(tmp_path, [good, content, content, b"other words"])
    with pytest.raises(UserError) as caught:
        audio.fingerprints(utterances)
    message = str(caught.value)
    assert message.startswith("3 of 4 recordings cannot be used:")
    assert message.count(reason) >= 2
    assert "u3.wav is not audio" in message
    assert "speaker" not in message


def test_identical_recordings_have_one_fingerprint_and_identical_silence_has_none_in_common(tmp_path):
    sound, silence = encoded(sine(300), "WAV", "PCM_16"), encoded(np.zeros(8000), "WAV", "PCM_16")
    found = audio.fingerprints(made_utterances(tmp_path, [sound, silence, sound, silence, b"x"]))
    assert found["u0"] == found["u2"] == hashlib.sha256(sound).hexdigest()
    assert len({*found.values()}) == 4
    assert found["u4"] == hashlib.sha256(b"x").hexdigest()


def test_only_recordings_that_may_be_copies_are_read_for_their_fingerprints(tmp_path, monkeypatch):
    opened = []
    original = audio.opened
    monkeypatch.setattr(reading, "opened", lambda path: opened.append(path.name) or original(path))
    contents = [encoded(sine(300 + 10 * index), "WAV", "PCM_16") for index in range(5)]
    audio.fingerprints(made_utterances(tmp_path, [*contents, contents[0]]))
    assert len(opened) == 1


def test_read_all_keeps_the_order_and_puts_errors_in_their_place(tmp_path):
    paths = []
    for index in range(40):
        paths.append(tmp_path / f"{index}.wav")
        if index % 10 != 3:
            soundfile.write(paths[-1], np.full(100 + index, 0.25), RATE)
    results = list(audio.read_all(paths, jobs=3))
    for index, result in enumerate(results):
        if index % 10 == 3:
            assert isinstance(result, audio.AudioError)
            assert str(paths[index]) in str(result)
        else:
            assert len(result) == 100 + index


def test_in_order_runs_ahead_of_its_reader_by_a_bounded_number():
    started = []
    lock = threading.Lock()

    def note(item):
        with lock:
            started.append(item)
        return item

    results = audio.in_order(note, range(1000), jobs=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    results.close()
    assert len(started) <= 5 + 4 * 2


def test_in_order_passes_a_failure_on():
    with pytest.raises(ZeroDivisionError):
        list(audio.in_order(lambda item: 1 // item, [1, 0, 1], jobs=2))


def test_find_bad_names_every_bad_recording_at_once(tmp_path):
    contents = {
        "good": encoded(sine(300), "WAV", "PCM_16"),
        "empty": b"",
        "text": b"words " * 100,
        "cut": encoded(sine(300), "WAV", "PCM_16")[:1000],
    }
    utterances = []
    for name, content in contents.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
        utterances.append(Utterance(name, tmp_path / f"{name}.wav", "anger", "1"))
    utterances.append(Utterance("gone", tmp_path / "gone.wav", "anger", "1"))
    steps = []
    bad = audio.find_bad(utterances, jobs=2, progress=lambda done, total: steps.append((done, total)))
    assert list(bad) == ["empty", "text", "cut", "gone"]
    for name, reason in bad.items():
        assert f"{name}.wav" in reason
    assert steps == [(done, 5) for done in range(1, 6)]


def test_a_listing_names_the_first_and_counts_the_others():
    text = audio.listing({str(index): f"{index}.wav is bad" for index in range(7)}, 9, most=2)
    assert text.splitlines() == [
        "7 of 9 recordings cannot be used:",
        "  0.wav is bad",
        "  1.wav is bad",
        "  and 5 more",
    ]


def test_importing_brings_in_neither_tensorflow_nor_the_audio_libraries():
    code = (
        "import sys, light_sernet_kd.audio.reading;"
        "print([m for m in ('tensorflow', 'keras', 'soundfile', 'soxr', 'scipy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_every_real_recording_is_read_as_scipy_reads_it(shared_data):
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))
    assert len(paths) == 535
    for path, waveform in zip(paths, audio.read_all(paths), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)  # a chunk of the authors' own
            rate, values = scipy.io.wavfile.read(path)
        assert rate == RATE
        np.testing.assert_array_equal(waveform * 32768, values)


# Blocks.


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_blocks_are_what_read_returns(tmp_path, monkeypatch, container, subtype, rate):
    monkeypatch.setattr(decoders, "BLOCK_VALUES", 2 * 4096)
    rng = np.random.default_rng(rate)
    path = tmp_path / "clip"
    for samples in (2, 4096, 3 * 4096, 70_001):
        sound = rng.uniform(-0.5, 0.5, (samples, 2)).astype(np.float32)
        soundfile.write(path, sound, rate, format=container, subtype=subtype)
        blocks = [*audio.blocks(path)]
        assert all(len(block) for block in blocks)
        assert max(map(len, blocks)) < 3 * 4096 * 16_000 / min(rate, 16_000)
        stored, _ = soundfile.read(path, dtype="float32", always_2d=True)
        expected = stored.mean(axis=1)
        if rate != RATE:
            expected = soxr.resample(expected, rate, RATE)
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        np.testing.assert_array_equal(audio.read(path), expected)


def test_a_wav_whose_size_was_never_filled_in_comes_in_blocks_too(tmp_path):
    content = bytearray(encoded(voice_like(), "WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = bytes(4)
    path = tmp_path / "streamed.wav"
    path.write_bytes(content)
    np.testing.assert_array_equal(np.concatenate([*audio.blocks(path)]), audio.read(path))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "ogg cut", "no samples", "nan", "loud", "slow"])
def test_blocks_refuse_what_read_refuses(tmp_path, kind):
    path = tmp_path / "bad"
    sound = voice_like()
    broken = {"nan": np.nan, "loud": 1e35}.get(kind, 0.0)
    path.write_bytes(
        {
            "empty": b"",
            "text": b"hello" * 99,
            "cut": encoded(sound, "WAV", "PCM_16")[:-100],
            "ogg cut": encoded(sound, "OGG", "VORBIS")[:-100],
            "no samples": encoded(sound[:0], "WAV", "PCM_16"),
        }.get(kind, b"")
    )
    if kind in ("nan", "loud", "slow"):
        rate = 500 if kind == "slow" else 16_000
        soundfile.write(path, np.append(sound, np.float32(broken)), rate, format="WAV", subtype="FLOAT")
    message = refusal(path)
    with pytest.raises(audio.AudioError) as caught:
        [*audio.blocks(path)]
    assert str(caught.value) == message


def test_a_recording_that_is_not_there_or_a_folder_has_no_blocks(tmp_path):
    for path in (tmp_path, tmp_path / "absent.wav"):
        message = refusal(path)
        with pytest.raises(audio.AudioError) as caught:
            next(audio.blocks(path))
        assert str(caught.value) == message
