"""All of a recording is read, or it is refused by name: headers that lie, chains, cuts and damage."""

import io
import os
import re
import struct
import subprocess
import sys
import threading
import time
import warnings

import av
import numpy as np
import pytest
import soundfile
from recordings import RATE, chunk, encoded, id3_tag, mp3_bytes, refusal, sine, voice_like, wav_bytes

from light_sernet_kd import audio
from light_sernet_kd.audio import containers, decoders, reading
from light_sernet_kd.audio.containers import Content, Layout
from light_sernet_kd.runner import without_chatter

VALUES = (1000 * sine(300, seconds=0.5)).astype("<i2")
CUTTABLE = [
    ("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAVEX", "FLOAT"), ("RF64", "PCM_24"),
    ("W64", "PCM_16"), ("W64", "GSM610"), ("AIFF", "PCM_16"), ("AIFF", "GSM610"), ("AIFF", "IMA_ADPCM"),
    ("AU", "PCM_16"), ("AU", "ULAW"), ("AU", "G721_32"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"),
    ("NIST", "PCM_16"), ("NIST", "ULAW"), ("SVX", "PCM_16"), ("AVR", "PCM_16"), ("HTK", "PCM_16"),
    ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
]  # fmt: skip


@pytest.fixture
def cases(shared_data):
    folder = shared_data.parent / "cases" / "audio"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def both_ways(path):
    """The samples, which `read` and `blocks` must agree on, and the notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waveform = audio.read(path)
    assert {each.category for each in caught} <= {audio.AudioNote}
    notes = [str(each.message) for each in caught]
    assert notes == [f"{path}: {note}" for note in audio.notes_of(path)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", audio.AudioNote)
        np.testing.assert_array_equal(np.concatenate([*audio.blocks(path)]), waveform)
    return waveform, notes


def ogg_check_sum(page):
    """CRC-32 bit by bit, from RFC 3533."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def pages_of(ogg):
    starts = [at for at in range(len(ogg)) if ogg.startswith(b"OggS", at)]
    return [ogg[start:stop] for start, stop in zip(starts, [*starts[1:], len(ogg)], strict=True)]


def changed_page(page, *, flags=None, serial=None):
    page = bytearray(page)
    page[5] = page[5] if flags is None else flags
    page[14:18] = page[14:18] if serial is None else struct.pack("<I", serial)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_check_sum(page))
    return bytes(page)


def without_end(ogg):
    *pages, last = pages_of(ogg)
    assert last[5] & 4
    return b"".join(pages) + changed_page(last, flags=last[5] & ~4)


# Sizes in a header


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1])
@pytest.mark.parametrize(("container", "subtype"), CUTTABLE)
def test_a_cut_file_is_refused_in_every_container_that_tells_its_length(tmp_path, container, subtype, share):
    whole = encoded(voice_like(), container, subtype)
    path = tmp_path / "clip"
    path.write_bytes(whole)
    waveform, notes = both_ways(path)
    assert len(waveform) >= RATE
    assert not notes
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(path)
    assert "cut short" in message or container == "HTK"  # which libsndfile tells by its length
    with pytest.raises(audio.AudioError) as caught:
        [*audio.blocks(path)]
    assert str(caught.value) == message


def with_sizes(container, *, by=None, half=False):
    """A file of `VALUES` whose header promises this many bytes more, or half of what follows."""
    size = len(VALUES) * 2
    stated = size // 2 if half else size + by
    content = bytearray(encoded(VALUES, container, "PCM_16"))
    at, form, extra = {
        "WAV": (content.find(b"data") + 4, "<I", 0),
        "RF64": (content.find(b"ds64") + 16, "<Q", 0),
        "AIFF": (content.find(b"SSND") + 4, ">I", 8),
        "AU": (8, ">I", 0),
        "W64": (content.find(b"data\xf3\xac") + 16, "<Q", 24),
        "CAF": (content.find(b"data") + 4, ">q", 4),
    }.get(container, (0, "", 0))
    if container == "NIST":
        return bytes(content).replace(b"sample_count -i 8000", b"sample_count -i %d" % (stated // 2)), stated
    struct.pack_into(form, content, at, stated + extra)
    return bytes(content), stated


SIZED = ["WAV", "RF64", "AIFF", "AU", "W64", "CAF", "NIST"]


@pytest.mark.parametrize("container", SIZED)
def test_what_follows_a_stated_size_that_is_too_small_is_read_with_a_note(tmp_path, container):
    content, stated = with_sizes(container, half=True)
    path = tmp_path / "half"
    path.write_bytes(content)
    waveform, notes = both_ways(path)
    np.testing.assert_array_equal(waveform * 32768, VALUES)
    (note,) = notes
    assert f"promises {stated} bytes of samples" in note
    assert note.endswith("follow: all are read")


@pytest.mark.parametrize("container", SIZED)
def test_a_header_a_few_bytes_too_large_is_read_with_a_note_and_one_much_too_large_refused(
    tmp_path, container
):
    path = tmp_path / "more"
    for by in (8, 16, 36, 44, 64):
        path.write_bytes(with_sizes(container, by=by)[0])
        waveform, notes = both_ways(path)
        np.testing.assert_array_equal(waveform * 32768, VALUES)
        assert len(notes) == 1
    for by in (2, 66, 1000):
        path.write_bytes(with_sizes(container, by=by)[0])
        assert "is cut short" in refusal(path)


@pytest.mark.parametrize(
    "behind",
    [
        chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 3) + b"abc"),
        chunk(b"id3 ", id3_tag(30)),
        chunk(b"xyz ", b"abc") + chunk(b"abcd", b""),
        id3_tag(100),
        b"TAG" + b"x" * 125,
        bytes(2000),
        chunk(b"LIST", b"INFO" + bytes(50))[:-20],  # metadata that were cut
    ],
)
@pytest.mark.parametrize("odd", [False, True])
def test_what_follows_the_samples_and_is_no_sound_is_left_out_without_a_note(tmp_path, behind, odd):
    path = tmp_path / "clip.wav"
    if odd:  # 24-bit, an odd number of samples
        frames = b"".join(int(value).to_bytes(3, "little", signed=True) for value in VALUES[:999])
        for padding in (b"", b"\0"):
            path.write_bytes(wav_bytes(frames, bits=24, after=padding + behind))
            waveform, notes = both_ways(path)
            np.testing.assert_array_equal(waveform * 2**23, VALUES[:999])
            assert not notes
        return
    path.write_bytes(wav_bytes(VALUES.tobytes(), after=behind))
    waveform, notes = both_ways(path)
    np.testing.assert_array_equal(waveform * 32768, VALUES)
    assert not notes


def test_samples_in_several_chunks_are_all_read(tmp_path):
    path = tmp_path / "clip.wav"
    first, second = VALUES[:3001].tobytes(), VALUES[3001:].tobytes()
    path.write_bytes(wav_bytes(first, after=chunk(b"LIST", b"INFO") + chunk(b"data", second)))
    waveform, notes = both_ways(path)
    np.testing.assert_array_equal(waveform * 32768, VALUES)
    assert "2 chunks" in notes[0]


def test_two_recordings_in_one_wav_are_refused(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(wav_bytes(VALUES.tobytes()) * 2)
    assert "holds a second recording" in refusal(path)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_above_4_gib_whose_size_wrapped_around_is_known_whole(tmp_path, channels):
    path = tmp_path / "long.wav"
    frames = 2**31 // channels + 1000
    size = 2 * channels * frames
    path.write_bytes(wav_bytes(b"", channels=channels, data_size=size % 2**32, riff_size=(size + 36) % 2**32))
    with open(path, "r+b") as file:
        file.truncate(44 + size)  # a hole: no disk is needed
    with decoders.opened(path) as source:
        assert source.frames == frames
        assert source.channels == channels
        assert f"{size} follow: all are read" in source.notes[0]
        assert len(next(source.blocks)) > 0


@pytest.mark.parametrize("container", ["MAT5", "XI", "SDS", "VOC", "MPC2K"])
def test_a_format_whose_length_is_not_looked_at_is_refused_by_name(tmp_path, container):
    subtype = "DPCM_16" if container == "XI" else "PCM_16"
    path = tmp_path / "clip"
    path.write_bytes(encoded(voice_like(), container, subtype))
    assert f"is {container}, and whether it is whole cannot be told here: convert it to WAV" in refusal(path)


def test_a_format_without_a_length_is_read_with_a_note(tmp_path):
    path = tmp_path / "clip"
    path.write_bytes(encoded(voice_like(), "IRCAM", "PCM_16"))
    waveform, notes = both_ways(path)
    assert len(waveform) == RATE
    assert "does not state a length" in notes[0]


# FLAC


def test_a_flac_header_that_promises_too_little_is_overruled_and_one_that_contradicts_refused(tmp_path):
    source = voice_like()
    content = encoded(source, "FLAC", "PCM_16")
    path = tmp_path / "clip.flac"
    total = int.from_bytes(content[21:26], "big")
    assert total & 0xFFFFFFFFF == RATE
    for stated in (RATE - 5000, 1):
        path.write_bytes(content[:21] + (total - RATE + stated).to_bytes(5, "big") + content[26:])
        waveform, notes = both_ways(path)
        np.testing.assert_allclose(waveform, source, atol=1e-4)
        assert f"promises {stated} samples, {RATE} follow" in notes[0]
    for at, said in ((18, "Hz"), (20, "channels"), (21, "bits")):
        wrong = bytearray(content)
        wrong[at] ^= 0x10 if at == 21 else 2
        path.write_bytes(wrong)
        assert f"{said}, its samples" in refusal(path)


def test_a_streamed_flac_that_ends_within_a_frame_is_refused(tmp_path):
    from recordings import streamed_flac

    path = tmp_path / "clip.flac"
    whole = streamed_flac(voice_like())
    path.write_bytes(whole)
    assert len(audio.read(path)) == RATE
    path.write_bytes(whole[:-100])
    assert "its last FLAC frame is incomplete" in refusal(path)


# Chains


def chained(container, sources, **options):
    if container == "MP3":
        return [mp3_bytes(source, **options) for source in sources]
    subtype = {"OPUS": "OPUS", "VORBIS": "VORBIS", "FLAC": "PCM_16"}[container]
    return [
        encoded(source, "FLAC" if container == "FLAC" else "OGG", subtype, sample_rate=options["sample_rate"])
        for source in sources
    ]


@pytest.mark.parametrize("container", ["OPUS", "VORBIS", "FLAC", "MP3"])
def test_recordings_behind_one_another_are_all_read(tmp_path, container):
    sources = [voice_like(), sine(440, seconds=0.7), voice_like(seconds=0.7)]
    rate = 48_000 if container == "OPUS" else RATE
    files = chained(container, sources, sample_rate=rate)
    expected = []
    path = tmp_path / "clip"
    for content in files:
        path.write_bytes(content)
        expected.append(audio.decode(path).samples)
    path.write_bytes(b"".join(files))
    recording = audio.decode(path)
    np.testing.assert_array_equal(recording.samples, np.concatenate(expected))
    assert not recording.notes
    both_ways(path)
    path.write_bytes(b"".join(files)[:-300])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize("container", ["VORBIS", "FLAC", "MP3"])
def test_recordings_of_different_rates_behind_one_another_are_refused(tmp_path, container):
    first = chained(container, [voice_like()], sample_rate=16_000)
    second = chained(container, [voice_like()], sample_rate=24_000)
    path = tmp_path / "clip"
    path.write_bytes(first[0] + second[0])
    assert "changes from 16000 Hz, 1 channels to 24000 Hz, 1 channels" in refusal(path)


def test_mpeg_frames_behind_the_promised_ones_are_read_with_a_note(tmp_path):
    content = mp3_bytes(voice_like(seconds=2))
    at = content.index(b"Xing" if b"Xing" in content else b"Info") + 8
    path = tmp_path / "clip.mp3"
    path.write_bytes(content[:at] + struct.pack(">I", 20) + content[at + 4 :])
    waveform, notes = both_ways(path)
    assert len(waveform) >= 2 * RATE - 1152
    assert "follow those that its header promises: all are read" in notes[0]


# Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_the_mark_of_its_end_is_read_whole_with_a_note(tmp_path, subtype):
    whole = encoded(voice_like(seconds=2), "OGG", subtype)
    path = tmp_path / "clip.ogg"
    path.write_bytes(whole)
    expected, _ = both_ways(path)
    path.write_bytes(without_end(whole))
    waveform, notes = both_ways(path)
    np.testing.assert_array_equal(waveform[: len(expected)], expected)
    assert "no mark of its end" in notes[0]
    path.write_bytes(without_end(whole) * 2)  # in a chain, too
    assert len(both_ways(path)[0]) == 2 * len(waveform)


def test_a_damaged_or_missing_page_of_an_ogg_is_refused(tmp_path):
    whole = encoded(voice_like(seconds=2), "OGG", "VORBIS")
    pages = pages_of(whole)
    path = tmp_path / "clip.ogg"
    place = len(b"".join(pages[:4])) + 100
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "check sum of the Ogg page" in refusal(path)
    path.write_bytes(b"".join([*pages[:3], *pages[4:]]))
    assert "Ogg page 4 follows page 2" in refusal(path)
    path.write_bytes(b"".join([*pages[:4], *pages[3:]]))
    assert "Ogg page 3 follows page 3" in refusal(path)
    path.write_bytes(b"".join(pages[2:]))
    assert "first page of an Ogg stream is missing" in refusal(path)
    long_packet = changed_page(pages[-1][:26] + b"\1\xff" + bytes(255), flags=0)
    path.write_bytes(b"".join(pages[:-1]) + long_packet)
    assert "its last Ogg packet is incomplete" in refusal(path)


# What PyAV reads


def made_by_pyav(path, demuxer, codec, *, rate=RATE, seconds=1.0, options=None):
    with av.open(str(path), "w", format=demuxer, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(
            sine(440, seconds=seconds, sample_rate=rate)[None].astype(np.float32), "fltp", "mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        size = stream.codec_context.frame_size or 1024
        to_codec = av.AudioResampler(stream.codec_context.format.name, "mono", rate, frame_size=size)
        for piece in (*to_codec.resample(frame), *to_codec.resample(None), None):
            container.mux(stream.encode(piece))


FOREIGN = [
    ("M4A", "ipod", "aac", RATE), ("MP4", "mp4", "aac", RATE), ("3GP", "3gp", "aac", RATE),
    ("QuickTime", "mov", "pcm_s16le", RATE), ("AAC", "adts", "aac", RATE),
    ("WebM", "webm", "libopus", 48_000), ("Matroska", "matroska", "aac", RATE),
    ("AMR", "amr", "libopencore_amrnb", 8000),
    ("AVI", "avi", "libmp3lame", RATE), ("Flash video", "flv", "aac", RATE),
    ("MPEG transport stream", "mpegts", "aac", RATE), ("WMA", "asf", "wmav2", 44_100),
    ("CAF", "caf", "alac", RATE), ("Ogg FLAC", "ogg", "flac", RATE),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "muxer", "codec", "rate"), FOREIGN)
def test_what_libsndfile_does_not_know_is_read_by_pyav_and_named(
    tmp_path, monkeypatch, capfd, kind, muxer, codec, rate
):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV does not write {codec}")
    path = tmp_path / "clip.wav"
    try:
        made_by_pyav(path, muxer, codec, rate=rate)
    except av.FFmpegError as error:
        pytest.skip(f"this PyAV does not write {kind}: {error}")
    waveform, notes = both_ways(path)
    assert bool(notes) == (muxer == "mpegts")  # which does not tell how long it is
    # Codecs add their delay, and fill their last frame.
    assert RATE - 1152 <= len(waveform) <= 1.15 * RATE
    spectrum = np.abs(np.fft.rfft(waveform))
    assert abs(np.argmax(spectrum) * RATE / len(waveform) - 440) < 3
    assert audio.decode(path).encoding.startswith(f"{kind} ")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.7) - 3])
    assert re.search("cut short|is damaged|cannot be decoded", refusal(path))
    monkeypatch.setitem(sys.modules, "av", None)
    path.write_bytes(whole)
    message = refusal(path)
    assert f"is {kind}, which needs PyAV" in message
    assert 'pip install "light-sernet-kd[media]"' in message
    assert message.endswith("Or save it as WAV or FLAC with another program")
    assert capfd.readouterr() == ("", "")


def test_one_mp4_behind_another_is_refused_because_only_the_first_would_be_heard(tmp_path):
    path = tmp_path / "clip.m4a"
    made_by_pyav(path, "ipod", "aac")
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    assert f"holds a second recording, whose moov box is at byte {len(whole) + whole.find(b'moov') - 4}" in (
        refusal(path)
    )


@pytest.mark.parametrize(
    ("muxer", "codec", "rate", "options", "piece", "noted"),
    [
        ("mp4", "aac", RATE, {"movflags": "empty_moov", "frag_duration": "200000"}, b"moof", False),
        ("webm", "libopus", 48_000, {"live": "1", "cluster_time_limit": "200"}, b"\x1f\x43\xb6\x75", True),
    ],
)  # fmt: skip
def test_a_recording_in_pieces_of_which_some_may_be_missing_has_a_note(
    tmp_path, muxer, codec, rate, options, piece, noted
):
    """As browsers record; FFmpeg ends an MP4 with an index of its pieces."""
    path = tmp_path / f"clip.{muxer}"
    made_by_pyav(path, muxer, codec, rate=rate, seconds=2.0, options=options)
    whole = path.read_bytes()
    waveform, notes = both_ways(path)
    assert bool(notes) == noted
    at = whole.rfind(piece, 0, whole.rfind(piece))
    path.write_bytes(whole[: at - 4 if piece == b"moof" else at])
    part, notes = both_ways(path)
    assert len(part) < len(waveform) - RATE // 10
    assert [note.split(": ", 1)[1] for note in notes] == [
        "it does not state a length: whether it is whole cannot be told"
    ]


def test_what_is_passed_over_in_an_mp3_within_a_wav_is_noted(tmp_path):
    path = tmp_path / "clip.wav"
    made_by_pyav(path, "wav", "libmp3lame")
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 1000] = bytes(1000)
    path.write_bytes(whole)
    _, notes = both_ways(path)
    assert len(notes) == 1
    assert "bytes of it are no MPEG frames and are passed over" in notes[0]


@pytest.mark.parametrize("channels", [6, 8, 12])
def test_any_number_of_channels_is_averaged_whoever_reads_them(tmp_path, channels):
    values = np.random.default_rng(3).integers(-20_000, 20_000, (5000, channels)).astype("<i2")
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE)
        stream.layout = layout = {6: "5.1", 8: "7.1", 12: "7.1.4"}[channels]
        frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), "s16", layout)
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    waveform, _ = both_ways(path)
    np.testing.assert_allclose(waveform, values.mean(axis=1) / 32768, atol=1e-6)


def test_a_recording_beside_pictures_is_its_sound(tmp_path):
    from recordings import make_video

    make_video(tmp_path / "a.mp4", seconds=1)
    assert abs(len(audio.read(tmp_path / "a.mp4")) - RATE) < 2500
    make_video(tmp_path / "mute.mp4", seconds=1, sound=False)
    assert "has no sound track" in refusal(tmp_path / "mute.mp4")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom" + b"\0\0\0\x08free" + b"x" * 500, "M4A"),
        (b"\x1a\x45\xdf\xa3" + b"\x9fB\x86\x81\x01webm" + b"x" * 500, "WebM"),
        (b"#!AMR\n" + b"\x7c" * 500, "AMR"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + b"x" * 500, "WMA"),
        (b"MAC " + b"x" * 500, "Monkey's Audio"),
    ],
)
def test_a_damaged_file_of_a_known_kind_is_not_called_no_audio(tmp_path, content, kind):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    message = refusal(path)
    assert "is not audio" not in message
    assert kind in message


def test_a_playlist_is_not_followed(tmp_path):
    (tmp_path / "other.wav").write_bytes(encoded(sine(300), "WAV", "PCM_16"))
    path = tmp_path / "list.m4a"
    for text in (f"#EXTM3U\n{tmp_path}/other.wav\n", f"ffconcat version 1.0\nfile '{tmp_path}/other.wav'\n"):
        path.write_text(text)
        assert "is not audio" in refusal(path)


# The cases that users sent


@pytest.mark.parametrize(
    ("name", "samples", "note"),
    [
        ("half.wav", 30_372, "30372 bytes of samples, 60744 follow"),
        ("plus16.wav", 30_372, "60760 bytes of samples, 60744 are there"),
        ("opus_noeos.ogg", 30_372, "no mark of its end"),
        ("opus_chained.ogg", 60_744, None),
        ("ulaw8k.wav", 30_372, None),
        ("short50.wav", 800, None),
    ],
)
def test_the_files_of_users_are_read_whole(cases, name, samples, note):
    waveform, notes = both_ways(cases / name)
    assert len(waveform) == samples
    assert [note in text for text in notes] == ([True] if note else [])


def test_the_files_of_users_that_are_not_whole_are_named(cases):
    assert "is cut short: its header promises 60744 bytes" in refusal(cases / "rf64_cut.wav")
    message = refusal(cases / "m4a.m4a")
    assert "M4A" in message
    assert "is not audio" not in message


# Length


def silent_flac(samples):
    """Frames of 65535 samples of silence, 14 to 18 bytes each: RFC 9639, sections 8 and 9."""

    def crc(data, polynomial, bits):
        value = 0
        for byte in data:
            value ^= byte << (bits - 8)
            for _ in range(8):
                value = (value << 1 ^ (polynomial if value >> (bits - 1) else 0)) & ((1 << bits) - 1)
        return value

    def number(value):
        if value < 128:
            return bytes([value])
        return chr(value).encode("utf-8", "surrogatepass")

    frames = []
    whole, rest = divmod(samples, 65_535)
    assert not rest
    for index in range(whole):
        header = b"\xff\xf8\x75\x08" + number(index) + b"\xff\xfe"
        frame = header + bytes([crc(header, 7, 8)]) + b"\0\0\0"
        frames.append(frame + crc(frame, 0x8005, 16).to_bytes(2, "big"))
    packed = RATE << 44 | 0 << 41 | 15 << 36 | samples
    info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\0\0\x22" + info + b"".join(frames)


def test_hours_in_a_small_file_are_refused_with_the_limit_before_they_fill_the_memory(tmp_path):
    samples = 65_535 * 8400  # 9.6 h
    assert samples * 4 > audio.MOST_HELD_BYTES
    path = tmp_path / "bomb.flac"
    path.write_bytes(silent_flac(samples))
    assert path.stat().st_size < 200_000
    started = time.perf_counter()
    for read in (audio.read, audio.decode):
        with pytest.raises(audio.AudioError, match=r"lasts 9\.6 h by its header, and at most 2 GiB, 9\.3 h"):
            read(path)
    assert time.perf_counter() - started < 1
    assert sum(map(len, (block for block, _ in zip(audio.blocks(path), range(20), strict=False)))) > 10**6


def test_what_does_not_state_its_length_is_refused_where_the_limit_is_reached(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((100_000, 2)), RATE)
    monkeypatch.setattr(reading, "MOST_HELD_BYTES", 4 * 60_000)
    monkeypatch.setattr(decoders, "BLOCK_VALUES", 10_000)
    original = decoders._through_libsndfile

    def without_length(*arguments):
        from dataclasses import replace

        return replace(original(*arguments), frames=None)

    monkeypatch.setattr(decoders, "_through_libsndfile", without_length)
    with pytest.raises(audio.AudioError, match=r"lasts more than 0\.0 h, and at most"):
        audio.read(path)
    with pytest.raises(audio.AudioError, match="lasts more than"):
        audio.decode(path)
    assert len(audio.middle(path, 1000)) == 1000
    monkeypatch.setattr(reading, "MOST_HELD_BYTES", 8 * 100_000)
    assert len(audio.read(path)) == 100_000
    assert audio.decode(path).samples.shape == (100_000, 2)


# Notes


def test_the_notes_of_many_recordings_are_one_warning_on_the_readers_thread(tmp_path):
    paths = [tmp_path / f"{index}.wav" for index in range(30)]
    for path in paths:
        path.write_bytes(with_sizes("WAV", by=16)[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert all(isinstance(found, np.ndarray) for found in audio.read_all(paths, jobs=3))
    (warning,) = caught
    assert warning.category is audio.AudioNote
    assert "and 29 more notes" in str(warning.message)
    assert audio.decode(paths[0]).notes == audio.notes_of(paths[0])
    assert len(audio.notes_of(paths[0])) == 1


def test_two_threads_that_hold_stderr_back_leave_it_as_it_was():
    before, entered, leave = os.fstat(2), threading.Event(), threading.Event()

    def decode():
        with decoders._mpg123_silenced("long.mp3", Layout("MP3")):
            entered.set()
            leave.wait(10)

    reader = threading.Thread(target=decode)
    with without_chatter():
        with decoders._mpg123_silenced("short.mp3", Layout("MP3")):
            pass  # one within the other, in one thread
        reader.start()
        entered.wait(0.2)
    leave.set()
    reader.join()
    assert entered.is_set()
    assert os.path.samestat(os.fstat(2), before)


def test_a_note_is_one_line_on_stderr_of_the_command(tmp_path):
    content = "path,emotion,speaker\nhalf.wav,anger,a\nwhole.wav,fear,b\n"
    (tmp_path / "m.csv").write_text(content)
    (tmp_path / "half.wav").write_bytes(with_sizes("WAV", half=True)[0])
    (tmp_path / "whole.wav").write_bytes(wav_bytes(VALUES[::-1].tobytes()))
    command = [sys.executable, "-m", "light_sernet_kd", "prepare", str(tmp_path / "m.csv")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "read with a note: 1" in told.stdout
    assert "half.wav: its header promises 8000 bytes of samples, 16000 follow: all are read" in told.stdout
    command += ["--to", str(tmp_path / "out")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("light-sernet-kd: note: ") == 1
    assert "audio.py" not in told.stderr


# Damage


def written_by_libsndfile():
    """A short recording in every format that libsndfile writes, by name."""
    source = voice_like(seconds=0.4)
    found = {}
    for container in soundfile.available_formats():
        if container in ("RAW", "SD2"):  # no header, and a second file
            continue
        for subtype in soundfile.available_subtypes(container):
            file = io.BytesIO()
            try:
                soundfile.write(file, source, RATE, format=container, subtype=subtype)
            except soundfile.SoundFileError:
                continue
            found[f"{container} {subtype}"] = file.getvalue()
    found["MP3 LAME"] = mp3_bytes(source)
    return found


# Those that do not tell how long they are: the end of a stream may go missing unseen.
WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF", "OGG")


def damaged(content, rng):
    """Content with a few flipped bits, cut, with a part doubled or left out; and whether a part is lost."""
    kind = rng.integers(5)
    content = bytearray(content)
    if kind < 2:
        reach = len(content) if kind else min(len(content), 100)
        for place in rng.integers(reach, size=rng.integers(1, 4)):
            content[place] ^= 1 << rng.integers(8)
        return bytes(content), False
    start = int(rng.integers(1, len(content)))
    stop = start + int(rng.integers(1, 2000))
    if kind == 2:
        return bytes(content[:start]), True
    if kind == 3:
        return bytes(content[:stop] + content[start:]), False
    return bytes(content[:start] + content[stop:]), True


def campaign(folder, *, rounds, seed):
    """Read damaged files both ways; returns how many were read and refused."""
    rng = np.random.default_rng(seed)
    path = folder / "damaged"
    counts = [0, 0]
    for name, whole in written_by_libsndfile().items():
        path.write_bytes(whole)
        length = len(outcome(audio.read, path)) if rounds else 0
        for _ in range(rounds):
            content, lost = damaged(whole, rng)
            path.write_bytes(content)
            results = [
                outcome(audio.read, path),
                outcome(lambda path: np.concatenate([*audio.blocks(path)]), path),
            ]
            if isinstance(results[0], str):
                assert results[0] == results[1], name
                assert str(path) in results[0]
                assert "\n" not in results[0]
            else:
                np.testing.assert_array_equal(*results, err_msg=name)
                # Not a word of what is missing, but for what a header may be wrong by.
                if lost and not audio.notes_of(path) and not name.startswith(WITHOUT_LENGTH):
                    assert len(results[0]) >= length - 64, name
            counts[isinstance(results[0], str)] += 1
    return counts


def outcome(read, path):
    try:
        return read(path)
    except audio.AudioError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::light_sernet_kd.audio.reading.AudioNote")
def test_damage_is_read_alike_in_both_ways_or_refused_and_nothing_is_printed(tmp_path, capfd):
    read, refused = campaign(tmp_path, rounds=3, seed=5)
    assert read + refused > 250
    assert min(read, refused) > 50
    assert capfd.readouterr() == ("", "")


@pytest.mark.every
@pytest.mark.filterwarnings("ignore::light_sernet_kd.audio.reading.AudioNote")
def test_damage_at_length(tmp_path, capfd):
    for seed in range(20):
        campaign(tmp_path, rounds=15, seed=seed)
    assert capfd.readouterr() == ("", "")


def test_suffixes_are_small_and_of_two_kinds():
    both = (*audio.SUFFIXES, *audio.PYAV_SUFFIXES)
    assert {".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff"} <= {*audio.SUFFIXES}
    assert {".m4a", ".mp4", ".aac", ".webm", ".amr", ".3gp", ".wma"} <= {*audio.PYAV_SUFFIXES}
    assert len(both) == len({*both})
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in both)
    assert containers.SUFFIXES is audio.SUFFIXES


def test_content_gives_bytes_by_position(tmp_path):
    data = np.random.default_rng(1).bytes(200_000)
    path = tmp_path / "a"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = Content(descriptor)
        for start, stop in (
            (0, 10),
            (5, 4096),
            (150_000, 150_010),
            (4090, 70_000),
            (199_990, 300_000),
            (9, 9),
        ):
            assert content[start:stop] == data[start:stop]
        assert content.find(data[123_456:123_470]) == 123_456
        assert content.find(data[123_456:123_470], 123_457) == -1
        pieces = [b"head", (100, 150), b"", (150_000, 200_000)]
        joined = b"head" + data[100:150] + data[150_000:]
        assert containers.Spliced(content, pieces).read() == joined
        part = containers.Spliced(content, pieces)
        part.seek(-10, os.SEEK_END)
        assert part.read(20) == joined[-10:]
        assert part.seek(-5) == 0
    finally:
        os.close(descriptor)
