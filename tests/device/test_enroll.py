"""The command `enroll`, and profiles in `predict` and `listen`, against the runner."""

import json
import os
from pathlib import Path

import fake_microphone
import numpy as np
import pytest
import soundfile
from tiny_student import CLASSES, EMBEDDING, RATE, SAMPLES, WIDTH, audio_student, enrolled_student

from light_sernet_kd import audio, cli
from light_sernet_kd.device import listen
from light_sernet_kd.export import golden
from light_sernet_kd.runner import Profile, Runner, Stream

VOICE = golden.voice(8 * RATE, sample_rate=RATE)


def voice(seconds: float, seed: int) -> np.ndarray:
    """Another part of the made voice for each seed."""
    return np.resize(np.roll(VOICE, -seed * RATE // 2), round(seconds * RATE))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(enrolled_student(tmp_path_factory.mktemp("student") / "student_float32.tflite"))


@pytest.fixture
def recording(tmp_path):
    """Writes a waveform to a file of that name."""

    def write(name: str, waveform: np.ndarray, rate: int = RATE) -> str:
        path = tmp_path / name
        soundfile.write(path, waveform, rate, **({"subtype": "FLOAT"} if path.suffix == ".wav" else {}))
        return str(path)

    return write


@pytest.fixture
def known(tmp_path) -> Path:
    """The profile of 12 clips."""
    path = tmp_path / "known.json"
    Profile(EMBEDDING, np.random.default_rng(3).normal(size=WIDTH), 12).save(path)
    return path


def refusal(capsys, *arguments: object) -> str:
    assert cli.main([str(each) for each in arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line


# Embeddings.


def test_predict_gives_the_embedding_too_whoever_is_known(model, recording, known, capsys):
    short, long = voice(0.4, 1), voice(1.75, 2)
    paths = [recording(name, sound) for name, sound in (("a.wav", short), ("b.wav", long))]
    paths.append(recording("silent.wav", np.zeros(RATE, np.float32)))
    runner = Runner(model)
    # The windows of a longer recording follow each other, and the last counts for what it holds.
    parts = [long[at : at + SAMPLES] for at in range(0, len(long), SAMPLES)]
    parts_mean = np.average([runner.embedding(each) for each in parts], axis=0, weights=[*map(len, parts)])
    for more in ([], ["--profile", str(known)]):
        assert cli.main(["predict", model, *paths, "--format", "jsonl", "--embedding", *more]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        np.testing.assert_allclose(found[0]["embedding"], runner.embedding(short), atol=1e-6)
        np.testing.assert_allclose(found[1]["embedding"], parts_mean, atol=1e-5)
        assert found[2]["embedding"] is None


# Enrolling.


def test_a_profile_is_what_the_runner_makes_of_the_recordings(model, recording, tmp_path, capsys):
    sounds = [voice(0.5, 1), voice(0.4, 4), voice(1.75, 2)]
    paths = [recording(f"{number}.wav", sound) for number, sound in enumerate(sounds)]
    stereo = np.stack([voice(0.5, 5)] * 2, axis=1)
    paths.append(recording("other.flac", audio.resample(stereo[:, 0], RATE, 48_000), 48_000))
    profile = tmp_path / "me.json"
    assert cli.main(["enroll", model, *paths[:2], "--profile", str(profile), *paths[2:]]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{profile}: 6.5 clips of the speaker\n"
    assert captured.err == ""
    expected = Runner(model).enrol([*sounds, audio.read(paths[3])])
    found = Profile.load(profile)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
    assert (found.clips, found.embedding) == (expected.clips, EMBEDDING)


def test_what_holds_no_speech_is_left_out_with_its_reason(model, recording, tmp_path, capsys):
    profile = tmp_path / "me.json"
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    paths = [
        recording("silence.wav", np.zeros(RATE)),
        recording("speech.wav", voice(0.5, 1)),
        recording("noise.wav", noise),
        recording("click.wav", voice(0.1, 1)),
    ]
    assert cli.main(["enroll", model, *paths, "--profile", str(profile)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"{paths[0]}: left out, silent",
        f"{paths[2]}: left out, no speech",
        f"{paths[3]}: left out, too short",
        f"{profile}: 1 clip of the speaker",
    ]
    assert captured.err == ""


def test_a_recording_that_cannot_be_read_is_told_and_the_others_are_taken(model, recording, tmp_path, capsys):
    profile = tmp_path / "me.json"
    broken = voice(2, 2)
    broken[-5] = np.nan
    paths = [str(tmp_path / "absent.wav"), recording("speech.wav", voice(0.5, 1))]
    paths.append(recording("broken.wav", broken))
    assert cli.main(["enroll", model, *paths, "--profile", str(profile)]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{profile}: 1 clip of the speaker\n"
    first, second = captured.err.splitlines()
    assert "absent.wav" in first
    assert "broken.wav" in second
    expected = Runner(model).embedding(voice(0.5, 1))
    np.testing.assert_allclose(Profile.load(profile).mean, expected, atol=1e-6)


def test_a_profile_is_never_overwritten_and_add_goes_on_with_it(model, recording, tmp_path, capsys):
    profile = tmp_path / "me.json"
    one, two = recording("one.wav", voice(0.5, 1)), recording("two.wav", voice(0.75, 3))
    command = ["enroll", model, one, "--profile", str(profile)]
    assert cli.main([*command, "--add"]) == 0  # which begins one where none is
    before = profile.read_bytes()
    capsys.readouterr()
    assert "me.json is there already: go on with it by --add" in refusal(capsys, *command)
    assert profile.read_bytes() == before
    assert cli.main(["enroll", model, two, "--profile", str(profile), "--add"]) == 0
    assert capsys.readouterr().out == f"{profile}: 2.5 clips of the speaker, 1.5 of them new\n"
    np.testing.assert_allclose(
        Profile.load(profile).mean, Runner(model).enrol([voice(0.5, 1), voice(0.75, 3)]).mean, atol=1e-6
    )


def test_what_is_no_profile_of_this_student_is_neither_gone_on_with_nor_replaced(
    model, recording, tmp_path, capsys
):
    speech = recording("speech.wav", voice(0.5, 1))
    other, notes = tmp_path / "other.json", tmp_path / "notes.json"
    Profile("cd" * 32, np.zeros(WIDTH), 3).save(other)
    notes.write_text('{"shopping": ["milk"]}')
    for path, message in (
        (other, "other.json is of another student"),
        (
            notes,
            "notes.json: the profile's profile_version must be 1, found nothing. Enrol the speaker again",
        ),
    ):
        before = path.read_bytes()
        assert message in refusal(capsys, "enroll", model, speech, "--profile", path, "--add")
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PLAIN", "SPEECH"], "cannot use what is known of a speaker: take the file named …_enrolled.tflite"),
        (["MODEL", "SILENCE"], "no recording has speech to learn from: FOLDER/me.json was not written."),
        (["MODEL", "SPEECH", "--threads", "0"], "--threads must be at least 1, found 0."),
        (["MODEL"], "enroll needs recordings of the speaker: name some"),
        (["FOLDER/absent.tflite", "SPEECH"], "cannot read FOLDER/absent.tflite"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(model, recording, tmp_path, capsys, arguments, message):
    names = {
        "PLAIN": str(audio_student(tmp_path / "plain.tflite")),
        "MODEL": model,
        "SPEECH": recording("speech.wav", voice(0.5, 1)),
        "SILENCE": recording("silence.wav", np.zeros(RATE)),
    }
    given = [names.get(each, each.replace("FOLDER", str(tmp_path))) for each in arguments]
    profile = tmp_path / "me.json"
    assert message.replace("FOLDER", str(tmp_path)) in refusal(capsys, "enroll", *given, "--profile", profile)
    assert not profile.exists()
    assert not [*tmp_path.glob(".*")]


def test_a_place_that_cannot_be_written_is_one_line(model, recording, tmp_path, capsys):
    speech = recording("speech.wav", voice(0.5, 1))
    place = tmp_path / "absent" / "me.json"
    assert "cannot write" in refusal(capsys, "enroll", model, speech, "--profile", place)
    assert not place.parent.exists()


# Predicting.


def answers(capsys, *arguments: object) -> list[dict]:
    assert cli.main(["predict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("seconds", [0.4, 2.3])
def test_predict_answers_for_the_speaker_and_says_with_how_many_clips(
    model, recording, known, capsys, seconds
):
    sound = voice(seconds, 2)
    path = recording("speech.wav", sound)
    (unknown,), (answer,) = answers(capsys, model, path), answers(capsys, model, path, "--profile", known)
    assert (unknown["speaker_clips"], answer["speaker_clips"]) == (0, 12)
    opened = Runner(model, profile=known)
    if len(sound) <= SAMPLES:
        expected = opened.probabilities(sound)
    else:
        expected = np.mean(
            [window.probabilities for window in opened.stream(sound) if not window.level < -99], 0
        )
    np.testing.assert_allclose([*answer["probabilities"].values()], expected, atol=1e-6)
    assert np.abs(np.subtract([*unknown["probabilities"].values()], expected)).max() > 0.01
    assert cli.main(["predict", model, path, "--profile", str(known)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("; 12 clips of the speaker")
    assert cli.main(["predict", model, path]) == 0
    assert "speaker" not in capsys.readouterr().out


def test_a_timeline_is_of_the_speaker_too(model, recording, known, capsys):
    sound = voice(2.3, 2)
    path = recording("speech.wav", sound)
    (answer,) = answers(capsys, model, path, "--profile", known, "--stream")
    assert answer["speaker_clips"] == 12
    expected = [*Runner(model, profile=known).stream(sound)]
    for found, window in zip(answer["windows"], expected, strict=True):
        np.testing.assert_allclose([*found["probabilities"].values()], window.probabilities, atol=1e-6)
    assert cli.main(["predict", model, path, "--profile", str(known), "--stream"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{path} (12 clips of the speaker):"


@pytest.mark.parametrize("command", ["predict", "listen", "demo"])
def test_a_profile_that_cannot_be_used_is_one_line(model, tmp_path, known, capsys, command):
    operands = ["x.wav"] if command == "predict" else []
    absent = tmp_path / "absent.json"
    assert "absent.json: No such file" in refusal(capsys, command, model, *operands, "--profile", absent)
    plain = audio_student(tmp_path / "plain.tflite")
    said = refusal(capsys, command, plain, *operands, "--profile", known)
    assert "plain.tflite cannot use what is known of a speaker" in said
    other = tmp_path / "other.json"
    Profile("cd" * 32, np.zeros(WIDTH), 3).save(other)
    said = refusal(capsys, command, model, *operands, "--profile", other)
    assert f"{other} is of another student" in said


# Listening.


@pytest.fixture
def microphone(monkeypatch):
    def plugged(sound):
        return fake_microphone.plugged(monkeypatch, sound)

    return plugged


def test_listen_answers_for_the_speaker(model, microphone, known, capsys):
    sound = voice(2, 1)
    microphone(sound)
    before = known.read_bytes()
    arguments = ["listen", model, "--profile", str(known), "--seconds", "2"]
    assert cli.main([*arguments, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, window in zip(lines, Runner(model, profile=known).stream(sound), strict=True):
        np.testing.assert_allclose([*line["probabilities"].values()], window.probabilities, atol=1e-6)
        assert line["speaker_clips"] == 12
    microphone(sound)
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Answered with 12 clips of the speaker."
    assert known.read_bytes() == before


@pytest.mark.parametrize("begins", [True, False])
def test_listen_learns_into_the_profile(model, microphone, known, tmp_path, capsys, begins):
    sound = voice(2, 1)
    microphone(sound)
    profile = tmp_path / "new.json" if begins else known
    opened = Runner(model, profile=None if begins else known)
    arguments = ["listen", model, "--profile", str(profile), "--learn", "--seconds", "2", "--hop", "0.25"]
    assert cli.main(arguments) == 0
    [*opened.stream(sound, hop_seconds=0.25, learn=True)]
    found = Profile.load(profile)
    np.testing.assert_allclose(found.mean, opened.profile.mean, atol=1e-6)
    assert found.clips == pytest.approx(opened.profile.clips)
    assert found.clips == pytest.approx(3.5 if begins else 15.5)  # 7 windows of half a hop each
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"{profile}: {found.clips:g} clips of the speaker."


def test_a_profile_that_learns_is_kept_every_minute_and_where_listening_ends(
    model, microphone, tmp_path, monkeypatch, capsys
):
    saved = []
    save = Profile.save
    monkeypatch.setattr(Profile, "save", lambda self, path: (saved.append(self.clips), save(self, path)))
    fed, feed = [], Stream.feed

    def interrupted(stream, block):
        fed.append(len(block))
        if sum(fed) > 130 * RATE:
            raise KeyboardInterrupt
        return feed(stream, block)

    monkeypatch.setattr(Stream, "feed", interrupted)
    microphone(voice(140, 1))
    profile = tmp_path / "me.json"
    assert cli.main(["listen", model, "--profile", str(profile), "--learn", "--json"]) == 0
    capsys.readouterr()
    # Of windows of half a second, at a minute, at two, and at Ctrl-C.
    assert saved == [120, 240, 260]
    assert Profile.load(profile).clips == 260


def test_where_nobody_spoke_no_profile_is_written(model, microphone, tmp_path, known, capsys):
    before = known.stat().st_mtime_ns
    for profile in (tmp_path / "me.json", known):
        microphone(np.zeros(2 * RATE, np.float32))
        assert cli.main(["listen", model, "--profile", str(profile), "--learn", "--seconds", "2"]) == 0
    assert not (tmp_path / "me.json").exists()
    assert known.stat().st_mtime_ns == before
    capsys.readouterr()


def test_a_full_disk_ends_listening_with_a_summary_and_keeps_the_file(
    model, microphone, known, monkeypatch, capsys
):
    monkeypatch.setattr(listen, "_SAVE_SECONDS", 1.0)
    before = known.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    microphone(voice(3, 1))
    assert cli.main(["listen", model, "--profile", str(known), "--learn", "--seconds", "3"]) == 2
    captured = capsys.readouterr()
    assert "Heard 0:01.0 in 2 windows" in captured.out
    (line,) = captured.err.splitlines()
    assert line == f"light-sernet-kd: cannot write {known}: No space left on device."
    assert known.read_bytes() == before
    assert [*known.parent.iterdir()] == [known]


def test_learning_needs_a_profile_and_a_student_that_can(model, microphone, tmp_path, capsys):
    microphone(voice(1, 1))
    assert "--learn goes with --profile" in refusal(capsys, "listen", model, "--learn")
    plain = audio_student(tmp_path / "plain.tflite")
    said = refusal(capsys, "listen", plain, "--learn", "--profile", tmp_path / "me.json")
    assert "plain.tflite cannot use what is known of a speaker" in said
    assert len(CLASSES) == len(Runner(plain).labels)
    assert not (tmp_path / "me.json").exists()
