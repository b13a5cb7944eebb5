"""Recordings and videos of known content, in the forms in which they are stored."""

import io
import struct

import av
import numpy as np
import pytest
import soundfile

from light_sernet_kd import audio

RATE = 16_000


def sine(frequency_hz, *, seconds=1.0, sample_rate=RATE, amplitude=0.5):
    return amplitude * np.sin(
        2 * np.pi * frequency_hz * np.arange(round(seconds * sample_rate)) / sample_rate
    )


def voice_like(*, seconds=1.0, sample_rate=RATE):
    noise = np.random.default_rng(7).standard_normal(round(seconds * sample_rate))
    return sine(220, seconds=seconds, sample_rate=sample_rate, amplitude=0.4) + 0.02 * noise


def encoded(waveform, container, subtype, *, sample_rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format=container, subtype=subtype)
    return file.getvalue()


def wav_bytes(
    frames, *, bits=16, channels=1, sample_rate=RATE, data_size=None, riff_size=None, before=b"", after=b""
):
    """A WAV put together by hand from the format's definition."""
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", 1, channels, sample_rate, sample_rate * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + header + before
    body += b"data" + struct.pack("<I", len(frames) if data_size is None else data_size) + frames + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def mp3_bytes(waveform, *, sample_rate=RATE, options=None):
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options=options or {}) as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate, layout="mono")
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        fifo.write(frame)
        while piece := fifo.read(1152, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


def id3_tag(content_bytes):
    return (
        b"ID3\4\0\0"
        + bytes((content_bytes >> shift) & 127 for shift in (21, 14, 7, 0))
        + bytes(content_bytes)
    )


def streamed_flac(waveform):
    content = bytearray(encoded(waveform, "FLAC", "PCM_16"))
    # STREAMINFO follows 4 + 4 bytes; its total sample count is the 36 bits that end at byte 18 of it.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def make_video(path, *, sound=True, seconds=2, sample_rate=44_100, codec="aac", stereo_share=(1.0, 0.5)):
    """A grey picture and, on request, a 440 Hz tone with another level left and right."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream(codec, rate=sample_rate, layout="stereo") if sound else None
        for index in range(10 * seconds):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 10 * index % 255, np.uint8), format="rgb24"
            )
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if voice is not None:
            tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(seconds * sample_rate) / sample_rate)
            channels = np.stack([share * tone for share in stereo_share]).astype(np.float32)
            fifo = av.AudioFifo()
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout="stereo")
            frame.sample_rate = sample_rate
            fifo.write(frame)
            resampler = av.AudioResampler(
                format=voice.codec_context.format, layout="stereo", rate=sample_rate
            )
            while piece := fifo.read(1024, partial=True):
                for converted in resampler.resample(piece):
                    container.mux(voice.encode(converted))
            container.mux(voice.encode(None))


def refusal(path):
    with pytest.raises(audio.AudioError) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)
