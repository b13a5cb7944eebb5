"""Unlabelled clips encoded on a Ray cluster, against the same on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray_work
import soundfile
from small_runs import error_of

from light_sernet_kd import cli
from light_sernet_kd.config import cluster as cluster_module
from light_sernet_kd.corpora import demo
from light_sernet_kd.data.unlabelled import Clips, clips, survey
from light_sernet_kd.encoders.embedding_cache import embed_clips
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.cluster import clips as ray_clips
from light_sernet_kd.experiment.cluster.clips import RayClips
from light_sernet_kd.experiment.cluster.connection import connected

SAMPLES = 12_000
PART = 3


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """Short recordings, one of several windows, and what is broken."""
    folder = tmp_path_factory.mktemp("speech")
    voices, texts = list(demo.SPEAKERS), list(demo.SENTENCES)
    for number in range(6):
        waveform = demo.synthesise(voices[number % 4], texts[number % 3], "anger")
        soundfile.write(folder / f"{number}.wav", waveform[: SAMPLES - number], 16_000)
    long = np.concatenate([demo.synthesise(voices[number], texts[0], "sadness") for number in range(4)])
    soundfile.write(folder / "long.flac", long, 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(clips, "BLOCK_BYTES", PART * 4 * SAMPLES)


def test_parts_are_the_blocks_of_this_machine(speech):
    found = Clips(survey(speech, SAMPLES))
    blocks, parts = list(found.blocks(found.keys)), list(found.parts(found.keys))
    assert len(parts) == len(blocks) > 3
    for (keys, waveforms, count), part in zip(blocks, parts, strict=True):
        read = list(part.windows())
        assert [key for key, _ in read] == keys
        assert all(np.array_equal(one, other) for (_, one), other in zip(read, waveforms, strict=True))
        assert len(part) == count <= PART
        assert {*part.names} == {part.names[number] for number in part.rows["recording"]}


def test_a_node_says_in_a_line_why_it_cannot_encode(speech, tmp_path):
    probe, path = ray_clips._probe(), speech / "0.wav"
    version, size = ray_clips.light_sernet_kd.__version__, path.stat().st_size
    here = os.getcwd()
    assert probe(version, here, str(path), size) == ""
    assert "this command 9.9: install one" in probe("9.9", here, str(path), size)
    for place, bytes_of in ((path, size + 1), (tmp_path / "none.wav", size)):
        assert f"it lacks {place}, or has another one" in probe(version, here, str(place), bytes_of)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--on", "ray"], "--on encodes the clips of --unlabelled, which is not given"),
        (["--jobs", "2"], "--jobs goes with --on"),
        (["--on", "ray", "--jobs", "0"], "--jobs must be at least 1, found 0"),
        (["--on", "nowhere", "--unlabelled", "d"], "--on takes local, ray, ray://HOST:PORT or HOST:PORT"),
    ],
)
@pytest.mark.parametrize("command", ["teach", "train"])
def test_a_mistake_is_one_line(tmp_path, capsys, command, given, message):
    method = ["-kd", "KD"] if command == "train" else []
    assert cli.main([command, "-dn", "demo", "--result", str(tmp_path / "result"), *method, *given]) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "result").exists()


def test_what_ray_data_needs_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(ray_clips, "is_installed", lambda module: module != "pandas")
    with pytest.raises(UserError, match=r"needs pandas, which is not installed: .*\[ray-data\]"):
        ray_clips.require_ray_data("--on")


def test_an_address_for_programs_outside_the_cluster_is_refused(speech, tmp_path, capsys, monkeypatch):
    for module in (cluster_module, ray_clips):
        monkeypatch.setattr(module, "is_installed", lambda module: True)
    monkeypatch.setattr(cluster_module, "_silence", lambda host, port: "")
    given = ["--unlabelled", str(speech), "--on", "ray://far:10001", "--result", str(tmp_path / "result")]
    assert cli.main(["teach", "-dn", "demo", "--from", "yamnet", *given]) == 2
    assert "works from a machine of the cluster alone, not through ray://far:10001" in error_of(capsys)
    assert not (tmp_path / "result").exists()


def test_an_encoder_that_no_other_process_can_make_is_asked_here(speech, tmp_path):
    from dataclasses import replace

    def elsewhere(*given):
        pytest.fail("it was asked for elsewhere")

    encoder = replace(ray_work.loudness_encoder(tmp_path), recreate=None)
    here = encoded(speech, encoder, tmp_path / "here")
    assert np.array_equal(encoded(speech, encoder, tmp_path / "cache", elsewhere), here)


# On a cluster of two nodes


@pytest.fixture
def cluster(nodes):
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    return nodes


def encoded(speech: Path, encoder, cache: Path, elsewhere=None, progress=None) -> np.ndarray:
    found = Clips(survey(speech, SAMPLES), elsewhere)
    return embed_clips(found, encoder, cache=cache, progress=progress).stacked()


def files_of(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.fixture
def here(speech, tmp_path) -> dict[str, bytes]:
    """The files that this machine makes."""
    (tmp_path / "marks").mkdir()
    encoded(speech, ray_work.loudness_encoder(tmp_path / "marks"), tmp_path / "here")
    (tmp_path / "marks" / f"{os.getpid()}.made").unlink()
    return files_of(tmp_path / "here")


@pytest.mark.parametrize("killed", ["", "mark"])
def test_the_files_are_those_of_this_machine_and_each_process_makes_the_encoder_once(
    cluster, speech, here, tmp_path, killed
):
    marks, told = tmp_path / "marks", []
    encoder = ray_work.loudness_encoder(marks, killed)
    elsewhere = RayClips(cluster.address, jobs=2)
    encoded(speech, encoder, tmp_path / "there", elsewhere, lambda done, all_: told.append((done, all_)))
    assert files_of(tmp_path / "there") == here
    count = len(Clips(survey(speech, SAMPLES)))
    assert [done for done, _ in told][-1] == count
    assert len(told) == -(-count // PART)
    made = {path.name for path in marks.glob("*.made")} - {f"{os.getpid()}.made"}
    assert len(made) <= 2 + bool(killed)
    assert bool(killed) == (marks / "mark").exists()


def test_a_stopped_command_goes_on_and_ends_with_the_same_files(cluster, speech, here, tmp_path):
    encoder = ray_work.loudness_encoder(tmp_path / "marks")
    elsewhere = RayClips(cluster.address)

    def stop(done, all_):
        if done > PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(speech, encoder, tmp_path / "there", elsewhere, stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*.npy")}
    assert len(before) == 2
    encoded(speech, encoder, tmp_path / "there", elsewhere)
    assert files_of(tmp_path / "there") == here
    assert (
        before.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")}.items()
    )


def test_a_silent_node_is_left_to_the_others(cluster, speech, monkeypatch):
    ray = pytest.importorskip("ray")
    found = Clips(survey(speech, SAMPLES))
    part = next(found.parts(found.keys))
    monkeypatch.setattr(ray_clips, "_PROBE_SECONDS", 15)
    monkeypatch.setattr(ray_clips, "_probe", lambda: ray_work.is_silent_on_the_second_node)
    with connected(cluster.address):
        head = ray.get_runtime_context().get_node_id()
        assert ray_clips._fit(ray, part) == {head: (1, 0)}
        monkeypatch.setattr(ray_clips, "_PROBE_SECONDS", 0)
        with pytest.raises(UserError, match=r"^node .*: it gave no answer in 0 s\."):
            ray_clips._fit(ray, part)


def test_what_a_node_cannot_do_is_one_line_and_an_error_of_ours_is_whole(cluster, speech, tmp_path):
    elsewhere = RayClips(cluster.address)
    (tmp_path / "marks").mkdir()
    other = ray_work.loudness_encoder(tmp_path / "marks", version=1)
    with pytest.raises(UserError, match=r"node .*: loudness is another encoder, or of another version"):
        encoded(speech, other, tmp_path / "cache", elsewhere)
    with pytest.raises(RuntimeError, match=r"(?s)node .*Traceback.*ZeroDivisionError: by a clip"):
        encoded(speech, ray_work.faulty_encoder(), tmp_path / "cache", elsewhere)
    changed = Path(shutil.copytree(speech, tmp_path / "changed"))
    found = Clips(survey(changed, SAMPLES), elsewhere)
    waveform, _ = soundfile.read(changed / "long.flac")
    soundfile.write(changed / "long.flac", waveform / 2, 16_000)
    with pytest.raises(UserError, match=r"node .*: .*long\.flac changed while it was read"):
        embed_clips(found, ray_work.loudness_encoder(tmp_path / "marks"), cache=tmp_path / "cache")


# A real teacher


@pytest.mark.every
def test_a_teacher_file_of_a_cluster_is_that_of_this_machine(
    cluster, manifest, speech, shared_data, tmp_path, monkeypatch
):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, "1")
    found = {}
    for name, on in (("local", []), ("cluster", ["--on", cluster.address])):
        given = ["-dn", str(manifest), "--from", "yamnet", "--folds", "#1", "-id", "0.75", "-v", "0"]
        places = ["--unlabelled", str(speech), "--data", str(shared_data), "--result", "result"]
        command = [sys.executable, "-m", "light_sernet_kd", "teach", *given, *places, *on]
        (tmp_path / name).mkdir()
        subprocess.run([*command, "--out", "teacher.npz"], check=True, timeout=300, cwd=tmp_path / name)
        found[name] = files_of(tmp_path / name)
    assert found["local"].keys() == found["cluster"].keys()
    assert any("yamnet-" in path for path in found["local"])
    for path, content in found["local"].items():
        assert found["cluster"][path] == content, path
