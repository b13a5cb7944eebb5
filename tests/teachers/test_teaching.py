"""What `--teacher` and `teach --from` name, and what `--audio_encoder` does."""

import dataclasses

import pytest

from light_sernet_kd import teachers
from light_sernet_kd.audio import fingerprint
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.config.checks import check_source
from light_sernet_kd.encoders import yamnet
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.encoders import AUDIO_ENCODERS, audio_encoder
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, teacher_source
from light_sernet_kd.teachers import sources

STUDENTS = ("resnet18", "bert_vggish")


@pytest.mark.parametrize(
    ("option", "spec", "source", "argument"),
    [
        ("--teacher", "auto", "auto", ""),
        ("--teacher", "resnet18", "student", "resnet18"),
        ("--teacher", "yamnet", "yamnet", ""),
        ("--teacher", "yamnet=a=b.tflite", "yamnet", "a=b.tflite"),
        ("--teacher", "opensmile=emobase", "opensmile", "emobase"),
        ("--from", "opensmile", "opensmile", ""),
        ("--teacher", "yamnets.npz", "file", "yamnets.npz"),
        ("--teacher", "auto=x", "file", "auto=x"),  # which takes nothing
        ("--teacher", "file", "file", "file"),  # a file of that name
        ("--teacher", "speech_model", "file", "speech_model"),
        ("--teacher", "runs/a=b.npz", "file", "runs/a=b.npz"),
        ("--from", "resnet18", "student", "resnet18"),
        ("--from", "yamnet=my.tflite", "yamnet", "my.tflite"),
        ("--from", "microsoft/wavlm-base-plus", "speech_model", "microsoft/wavlm-base-plus"),
        ("--from", "auto", "speech_model", "auto"),  # of --teacher only
    ],
)
def test_a_name_is_of_the_source_that_it_names_or_a_file_or_a_speech_model(option, spec, source, argument):
    assert teacher_source(spec, option) == (TEACHER_SOURCES[source], argument)


def test_what_is_not_trained_is_made_by_a_function_and_only_speech_models_are_fine_tuned():
    for entry in TEACHER_SOURCES.values():
        assert (entry.make is None) == (entry.kind == "trained")
    assert [name for name, entry in TEACHER_SOURCES.items() if entry.fine_tunes] == ["speech_model"]


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


def test_speakers_are_standardised_for_probes_alone():
    assert make_settings(distillation="KD", teacher="yamnet", standardise_speakers=True).standardise_speakers
    with pytest.raises(UserError, match=r"is of probes on .*opensmile.*, not of --teacher mine\.npz"):
        make_settings(distillation="KD", teacher="mine.npz", standardise_speakers=True)
    for source, option in (("auto", "--teacher"), ("some/wavlm", "--from")):
        with pytest.raises(UserError, match=f"not of {option} {source}: leave it out"):
            check_source(source, Settings(standardise_speakers=True), option)
    with pytest.raises(UserError, match="is of a teacher: add -kd KD"):
        make_settings(standardise_speakers=True)


def test_a_teacher_file_is_read_as_it_is(tmp_path):
    table = tmp_path / "teacher.csv"
    table.write_text("id,anger,fear\na,1,2\n")
    read = sources.teacher_of(str(table), None, None, None)
    assert read.logits.tolist() == teachers.read(table).logits.tolist()
    with pytest.raises(ValueError, match="is trained by the run"):
        sources.teacher_of("auto", None, None, None)


@pytest.mark.parametrize(
    ("spec", "encoder", "argument"),
    [
        (None, "vggish", ""),
        ("vggish=random=3", "vggish", "random=3"),
        ("torchvggish=here", "torchvggish", "here"),
        ("yamnet", "yamnet", ""),
        ("models/wavlm", "speech_model", "models/wavlm"),
        ("speech_model", "speech_model", "speech_model"),
    ],
)
def test_an_audio_encoder_is_one_by_name_or_a_speech_model(spec, encoder, argument):
    assert audio_encoder(spec) == (AUDIO_ENCODERS[encoder], argument)


def test_vggish_alone_hears_through_a_front_end():
    hears = [name for name, entry in AUDIO_ENCODERS.items() if entry.front_end == "vggish"]
    assert hears == ["vggish", "torchvggish"]


def test_rows_of_yamnet_are_where_its_entry_says():
    entry = AUDIO_ENCODERS["yamnet"]
    window, hop = (round(16_000 * seconds) for seconds in (entry.window_seconds, entry.hop_seconds))
    assert [yamnet.window_count(window + extra) for extra in (0, 1, hop, hop + 1)] == [1, 2, 2, 3]
