"""What `--teacher` and `teach --from` name."""

import pytest

from light_sernet_kd.encoders import speech
from light_sernet_kd.registries.teachers import (
    TEACHER_SOURCES,
    sources_text,
    teacher_members,
    teacher_source,
)


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
        ("--teacher", "wavlm", "wavlm", ""),
        ("--from", "wav2vec2=my/own", "wav2vec2", "my/own"),
        ("--teacher", "hubert:facebook/hubert-large-ll60k", "hubert", "facebook/hubert-large-ll60k"),
    ],
)
def test_a_name_is_of_the_source_that_it_names_or_a_file_or_a_speech_model(option, spec, source, argument):
    assert teacher_source(spec, option) == (TEACHER_SOURCES[source], argument)


def test_what_is_not_trained_is_made_by_a_function_and_only_speech_models_are_fine_tuned():
    for entry in TEACHER_SOURCES.values():
        assert (entry.make is None) == (entry.kind == "trained")
    tuned = [name for name, entry in TEACHER_SOURCES.items() if entry.fine_tunes]
    assert tuned == ["wavlm", "wav2vec2", "hubert", "speech_model"]


@pytest.mark.parametrize(
    ("spec", "members"),
    [
        ("opensmile+yamnet*2", [("opensmile", 1), ("yamnet", 2)]),
        ("opensmile=emobase*0.5+a.npz", [("opensmile=emobase", 0.5), ("a.npz", 1)]),
        ("a.npz+b.csv", [("a.npz", 1), ("b.csv", 1)]),
        ("yamnet=my+own.tflite+opensmile", [("yamnet=my+own.tflite", 1), ("opensmile", 1)]),
        ("auto*5", [("auto", 5)]),
        ("opensmile+whisper:a*2", [("opensmile", 1), ("whisper:a", 2)]),
        ("opensmile+whisperer", [("opensmile", 1), ("whisperer", 1)]),  # a file that is not there
        ("yamnet", []),
        ("a+b.npz", []),  # a file of that name
        ("a*2", []),
        ("yamnet=a*b.tflite", []),
    ],
)
def test_several_sources_with_weights_are_an_ensemble(spec, members):
    assert teacher_members(spec) == members
    assert (teacher_source(spec)[0] is TEACHER_SOURCES["ensemble"]) == bool(members)


def test_a_family_of_speech_models_has_one_entry_with_the_model_of_its_name():
    models = {name: entry.model for name, entry in TEACHER_SOURCES.items() if entry.model}
    assert set(speech.FAMILIES) == {"wavlm", "wav2vec2", "hubert"}
    assert {*models} == {*speech.FAMILIES, "whisper"}
    for model in models.values():
        assert speech.folder_of(model, "any/model") is None  # a name on the hub
        assert f"({model}" in sources_text("--from")
    assert "{" not in sources_text("--teacher")
