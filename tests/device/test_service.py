"""What docs/service.md says of a process, a server and a container."""

import http.client
import io
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from tiny_student import RATE, audio_student

from light_sernet_kd import Runner

PAGE = REPOSITORY / "docs" / "service.md"
DOCKERFILE = REPOSITORY / "Dockerfile"


def sound(seed: int, rate: int = RATE) -> bytes:
    loudness = 1 + np.sin(np.arange(rate) / 2000)
    file = io.BytesIO()
    soundfile.write(file, 0.1 * loudness * np.random.default_rng(seed).normal(size=rate), rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return audio_student(tmp_path_factory.mktemp("service") / "student.tflite")


def test_a_line_is_answered_before_the_next_one_is_written(student, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(sound(ord(name)))
    command = [sys.executable, "-m", "light_sernet_kd", "predict", str(student), "-", "--format", "jsonl"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=REPOSITORY,
    ) as service:  # fmt: skip
        found = []
        for name in ("a", "absent", "b"):
            service.stdin.write(f"{tmp_path / name}.wav\n")
            service.stdin.flush()
            found.append(json.loads(service.stdout.readline()))
        service.stdin.close()
        assert service.wait(30) == 2
    assert [Path(each["file"]).stem for each in found] == ["a", "absent", "b"]
    assert ["error" in each for each in found] == [False, True, False]


@pytest.fixture(scope="module")
def address(student, tmp_path_factory):
    """Of the page's program, as it runs."""
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    path = tmp_path_factory.mktemp("program") / "service.py"
    path.write_text(program, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, path, student, "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=REPOSITORY, env={"PYTHONPATH": str(REPOSITORY)},
    ) as server:  # fmt: skip
        yield server.stdout.readline().strip().removeprefix("http://").removesuffix("/")
        server.kill()


def asked(address: str, content: bytes) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", "/", content)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_the_server_of_the_page_answers_threads_as_a_runner_does(address, student):
    sounds = [sound(seed, rate) for seed, rate in ((0, RATE), (1, 44_100), (2, 8_000), (3, RATE))]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda content: asked(address, content), sounds * 3))
    assert [status for status, _ in answers] == [200] * 12
    runner = Runner(student)
    for content, (_, answer) in zip(sounds * 3, answers, strict=True):
        waveform, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        result = runner.classify(waveform, sample_rate=rate)
        assert answer["probabilities"] == pytest.approx(result.probabilities, abs=1e-6)
        assert (answer["label"], answer["seconds"]) == (result.label, result.seconds)


def test_the_server_of_the_page_refuses_what_is_no_sound(address):
    assert asked(address, b"not a sound")[0] == 400
    assert asked(address, b"")[0] == 413


def compressed(seconds: int, channels: int = 1) -> bytes:
    """Silence as FLAC: 600 s are 28 kB."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((RATE * seconds, channels), np.int16), RATE, format="FLAC")
    return file.getvalue()


def test_the_server_of_the_page_refuses_a_small_file_of_long_sound(address):
    assert len(compressed(600)) < 40_000
    assert asked(address, compressed(600)) == (413, {"error": "expected at most 300 s"})
    assert asked(address, compressed(240, channels=8)) == (413, {"error": "expected at most 234.375 s"})
    stereo = compressed(290, channels=2)
    assert asked(address, stereo)[0] == 200
    # A stream that does not state its length: 36 bits of the first block, from byte 21 on.
    unstated = bytes([*stereo[:21], stereo[21] & 0xF0, 0, 0, 0, 0, *stereo[26:]])
    assert asked(address, unstated)[0] == 400
    long = compressed(400)
    assert asked(address, bytes([*long[:21], long[21] & 0xF0, 0, 0, 0, 0, *long[26:]]))[0] == 413


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments, without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (word.upper(), rest.strip()) for line in joined if line for word, _, rest in [line.partition(" ")]
    ]


def faults(text: str) -> list[str]:
    """The rules of hadolint that a file of these instructions can break, by their names."""
    found, stages, user = [], set(), "root"
    for word, rest in instructions(text):
        if word == "FROM":
            image, _, stage = rest.partition(" AS ")
            tag = image.partition(":")[2]
            if image not in stages and not tag:
                found.append("DL3006 no tag")
            if tag == "latest":
                found.append("DL3007 latest")
            stages.add(stage)
            user = "root"
        elif word == "USER":
            user = rest
        elif word == "ADD":
            found.append("DL3020 ADD")
        elif word == "MAINTAINER":
            found.append("DL4000 MAINTAINER")
        elif word == "WORKDIR" and not rest.startswith("/"):
            found.append("DL3000 relative WORKDIR")
        elif word in ("CMD", "ENTRYPOINT") and not isinstance(_json(rest), list):
            found.append("DL3025 no JSON")
        elif word == "RUN":
            found += [
                rule
                for rule, broken in {
                    "DL3003 cd": re.search(r"(^|&&|;)\s*cd ", rest),
                    "DL3004 sudo": re.search(r"\bsudo\b", rest),
                    "DL3008 apt": re.search(r"\bapt(-get)? install", rest),
                    "DL3042 pip's cache": "pip install" in rest and "--no-cache-dir" not in rest,
                    "DL4006 pipe": " | " in rest,
                }.items()
                if broken
            ]
    return found + (["DL3002 root"] if user in ("root", "0") else [])


def _json(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_the_dockerfile_keeps_the_rules_of_hadolint():
    assert faults(DOCKERFILE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ((":3.13-slim-bookworm", ""), "DL3006"),
        (("3.13-slim-bookworm", "latest"), "DL3007"),
        (("USER 10001", "USER root"), "DL3002"),
        (("USER 10001\n", ""), "DL3002"),
        ((" --no-cache-dir", ""), "DL3042"),
        (("COPY pyproject", "ADD pyproject"), "DL3020"),
        (('["--help"]', "--help"), "DL3025"),
        (("WORKDIR /audio", "WORKDIR audio"), "DL3000"),
    ],
)
def test_a_fault_of_a_dockerfile_is_found(change, rule):
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert change[0] in text
    assert {each.partition(" ")[0] for each in faults(text.replace(*change))} == {rule}


def test_the_dockerfile_copies_what_there_is_and_what_is_not_ignored():
    copied = {
        name
        for word, rest in instructions(DOCKERFILE.read_text(encoding="utf-8"))
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert all((REPOSITORY / name).exists() for name in copied)
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied


@pytest.mark.every
def test_the_image_answers_as_a_user_who_is_not_root(student):
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("no Docker daemon")
    build = [docker, "build", "--quiet", str(REPOSITORY)]
    image = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    (student.parent / "a.wav").write_bytes(sound(0))
    run = [docker, "run", "--rm", "--network", "none", "--read-only", "-v", f"{student.parent}:/audio:ro"]
    command = [*run, image, "predict", "student.tflite", "a.wav", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["file"] == "a.wav"
    who = subprocess.run([*run, "--entrypoint", "id", image, "-u"], capture_output=True, text=True)
    assert who.stdout.strip() == "10001"
