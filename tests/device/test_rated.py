"""Files of arousal, valence and dominance without classes, in everything that answers or refuses to."""

import numpy as np
import pytest
from tiny_student import RATE, dimensions_student, enrolled_student, rated_student

from light_sernet_kd import runner
from light_sernet_kd.runner import RunnerError

NAMES, SCALE = ("arousal", "valence"), (1.0, 5.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return rated_student(tmp_path_factory.mktemp("rated") / "student_float32.tflite")


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A file of classes too, with the same dimensions."""
    return dimensions_student(tmp_path_factory.mktemp("beside") / "student_float32.tflite")


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise with syllables: float32, such that the tiny student's values are within ±2."""
    samples = round(seconds * RATE)
    noise = np.random.default_rng(seed).normal(0, 0.05, samples)
    return (noise * (np.arange(samples) % 4000 < 2000)).astype(np.float32)


# The runner.


def test_the_runner_has_no_labels_and_the_dimensions_of_a_file_with_both(model, beside):
    opened, with_classes = runner.Runner(model), runner.Runner(beside)
    assert (opened.labels, opened.dimension_names, opened.dimension_range) == ((), NAMES, SCALE)
    for seed in range(5):
        answer = opened.answer(voice(0.5, seed))
        assert answer.probabilities.shape == (0,)
        np.testing.assert_array_equal(answer.dimensions, with_classes.answer(voice(0.5, seed)).dimensions)


def test_a_stream_smooths_as_with_classes_and_is_unsure_of_what_is_no_speech_alone(model, beside):
    noise = np.random.default_rng(1).normal(0, 0.05, RATE).astype(np.float32)
    broken = np.full(100, np.nan, np.float32)
    sound = np.concatenate([voice(2), np.zeros(RATE, np.float32), noise, voice(1, 3), broken])
    found = [*runner.Runner(model).stream(sound, hop_seconds=0.25)]
    # Every class is shown as soon as it leads, and none is doubted.
    expected = [*runner.Runner(beside).stream(sound, hop_seconds=0.25, unsure_below=0.0)]
    assert len(found) == len(expected)
    assert {each.why for each in found} == {"", "silent", "no speech", "not finite"}
    for window, other in zip(found, expected, strict=True):
        assert (window.start, window.end, window.why) == (other.start, other.end, other.why)
        assert window.label == ("unsure" if window.why else "")
        np.testing.assert_array_equal(window.dimensions, other.dimensions)
        np.testing.assert_array_equal(window.smoothed_dimensions, other.smoothed_dimensions)
        assert window.probabilities.shape == window.smoothed.shape == (0,)
    (short,) = runner.Runner(model).stream(voice(0.1))
    assert (short.label, short.why) == ("unsure", "too short")


SPEAKER = "what is known of a speaker"
REFUSED = {
    "probabilities": (lambda opened: opened.probabilities(voice(0.5)), "Runner.probabilities"),
    "states": (lambda opened: opened.probabilities_of_states({}), "Runner.probabilities_of_states"),
    "a threshold": (lambda opened: [*opened.stream(voice(1), unsure_below=0.3)], "unsure_below"),
    "a margin": (lambda opened: [*opened.stream(voice(1), margin=0.3)], "margin"),
    "a patience": (lambda opened: [*opened.stream(voice(1), patience=1)], "patience"),
    "learning": (lambda opened: opened.learn(voice(1)), SPEAKER),
    "a stream that learns": (lambda opened: [*opened.stream(voice(1), learn=True)], SPEAKER),
    "enrolment": (lambda opened: opened.enrol([voice(1)]), SPEAKER),
    "an embedding": (lambda opened: opened.embedding(voice(1)), SPEAKER),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_needs_classes_is_refused_in_one_line(model, ask, words):
    with pytest.raises(RunnerError) as error:
        ask(runner.Runner(model))
    remedy = "take Runner.answer" if words == "Runner.probabilities" else "leave it out"
    assert (
        str(error.value) == f"{words} needs classes, and {model} gives arousal and valence alone: {remedy}."
    )


def test_a_file_without_classes_takes_neither_a_choice_of_them_nor_a_profile(model, tmp_path):
    with pytest.raises(RunnerError, match=r"^a choice of labels needs classes"):
        runner.Runner(model, labels=["anger", "fear"])
    knows = runner.Runner(enrolled_student(tmp_path / "student_float32_enrolled.tflite"))
    profile = knows.enrol([voice(1)])
    with pytest.raises(RunnerError, match=r"^what is known of a speaker needs classes"):
        runner.Runner(model, profile=profile)
    interpreter, _, _ = runner.open_file(model)
    with pytest.raises(RunnerError, match=r"^the file gives dimensions alone, .*: take runner.outputs\.$"):
        runner.invoke(interpreter, voice(0.5))


WRONG = {
    "nothing at all": ({"dimensions": None}, "classes must be names, since the file gives no dimensions"),
    "classes that the model lacks": ({"classes": None}, "lacks its card"),
    "a speaker": ({"enrolled": {"embedding": "ab" * 32, "width": 5}}, "left out of a file without classes"),
    "another count": (
        {"dimensions": {"names": ["arousal"], "range": [1, 5]}}, r"that its model gives dimensions \[1, 1\] float"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "words"), WRONG.values(), ids=WRONG)
def test_a_card_that_contradicts_its_model_is_refused_in_one_line(tmp_path, facts, words):
    with pytest.raises(RunnerError, match=words) as error:
        runner.Runner(rated_student(tmp_path / "student.tflite", **facts))
    assert "\n" not in str(error.value)


def test_a_card_that_hides_the_classes_of_its_model_is_refused(tmp_path):
    with pytest.raises(RunnerError, match=r"and it gives dimensions .*, probabilities "):
        runner.Runner(dimensions_student(tmp_path / "student.tflite", classes=[]))
