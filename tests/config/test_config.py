"""Settings: what is refused, what a name means, and that a digest stands for every setting."""

import dataclasses
import itertools
import math
import re
import runpy
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from light_sernet_kd import config
from light_sernet_kd.audio import augment
from light_sernet_kd.cli import make_parser
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.config.fields import checked, kind_of, spelled
from light_sernet_kd.config.settings import NOT_IN_DIGEST
from light_sernet_kd.distillation import losses
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.recipes import RECIPES
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.registries.students import FEATURE_STUDENTS, STUDENTS

HYPERPARAMETERS = runpy.run_path(str(REPOSITORY / "hyperparameters.py"))
DEFAULTS, EXPERIMENTS = HYPERPARAMETERS["DEFAULTS"], HYPERPARAMETERS["EXPERIMENTS"]

# Values that are valid and not the default; `another` has those of settings that are named nowhere here.
OTHER = {
    "corpus": "demo",
    "columns": ("path=file_id",),
    "audio_type": "impro",
    "emotions": ("anger", "excitement=happiness"),
    "input_seconds": 7.0,
    "input_samples": 80_000,
    "input_type": "spectrogram",
    "front_end": "cubic",
    "student": "light_sernet_plus",
    "speakers": ("03", "08"),
    "width": 0.5,
    "enrolment": True,
    "allow": "research",
    "standardise_speakers": True,
    "depth": 2,
    "kernels": ("3x3",),
    "local_pooling": "max",
    "text_encoder": "random:width=32",
    "teacher_text_encoder": "bert_tiny_en_uncased",
    "audio_encoder": "vggish=random",
    "vggish_pca": "pca.npz",
    "text_tokens": 64,
    "pooling": "mean",
    "label_loss": "focal",
    "label_smoothing": 0.1,
    "soft_labels": True,
    "focal_gamma": 1.0,
    "class_weights": "balanced",
    "distillation": "CKD",
    "distillation_weights": {"alpha": 0.5},
    "standardise_logits": True,
    "teacher": "bert_vggish",
    "teacher_width": 2.0,
    "teacher_epochs": 5,
    "teacher_count": 3,
    "teacher_batch_size": 4,
    "teacher_learning_rate": 1e-5,
    "teacher_parts": 3,
    "teacher_gate": "refuse",
    "augmentation": "noise",
    "augment_every": 4,
    "protocol": "cross_corpus",
    "fold_count": 4,
    "test_on": "RAVDESS",
    "different_speakers": True,
    "folds": ("03",),
    "seed": 1,
    "generations": 3,
    "start_from": "result/before",
    "schedule": "cubic",
    "epochs": 8,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "optimizer": "adamw",
    "accumulation": 2,
    "tune_epochs": 3,
    "most_per_emotion": 100,
    "qat": 2,
    "qat_learning_rate": 1e-5,
    "patience": 3,
    "recipe": "lsn",
    "batch_norm_momentum": 0.9,
    "arithmetic": "float32",
    "engine": "jax",
    "reader": "tfio",
    "skip_bad": True,
    "export": False,
    "merge_tflite": False,
}
# These are of audio-only networks.
UNLABELLED = {
    "unlabelled": "speech",
    "unlabelled_share": 0.25,
    "unlabelled_skip_tested": True,
    "unlabelled_views": 4,
}
# Not beside the parts of a teacher, or of a loss on embeddings.
VIEW = {"teacher_view": "same", "teacher_components": 16}
# This is of several sources.
MIXING = {"teacher_mixing": "confidence"}
# And this of probes that are asked on augmented recordings.
VIEWS = {"teacher_views": 8}
# Not beside generations or --qat.
RATED = {
    "dimensions": ("arousal", "valence"),
    "dimension_range": ("1", "5"),
    "dimensions_loss": "mse",
    "dimensions_weight": 0.5,
    "dimensions_only": True,
}
ALONE = {"dimensions": ("arousal",), "dimensions_only": True}
# The modality is of cross_attention, which has no width or augmentation; patience is of the best epoch.
FIELDS = {each.name: each for each in dataclasses.fields(Settings) if each.name not in ("modality", "keep")}


def another(field):
    """A valid value of the field that is not its default."""
    option, (kind, _) = field.metadata["option"], kind_of(field.type)
    if option.choices:
        return next(name for name in option.choices if name != field.default)
    if kind in (int, float):
        steps = (1, -1) if kind is int else (1.0, -1.0, 0.25)
        near = [(field.default or kind(0)) + step for step in steps]
        return next(each for each in near if option.range is None or each in option.range)
    return not field.default if kind is bool else ("other",) if kind is tuple else "other"


NAMED = OTHER | UNLABELLED | VIEW | MIXING | VIEWS | RATED
UNNAMED = {name: another(field) for name, field in FIELDS.items() if name not in NAMED}


# choose


def test_choose_gives_back_a_valid_name():
    assert choose("student", "b", ["a", "b"]) == "b"


def test_choose_forgives_case():
    assert choose("protocol", "LOSO", PROTOCOLS) == "loso"
    assert choose("corpus", "emo-db", ["EMO-DB", "demo"]) == "EMO-DB"


def test_choose_does_not_guess_between_names_that_differ_by_case_only():
    assert choose("fold", "A", ["a", "A"]) == "A"
    with pytest.raises(UserError, match="unknown fold 'Ab'"):
        choose("fold", "Ab", ["ab", "AB"])


def test_choose_forgives_zeros_before_a_number():
    assert choose("fold", "1", ["01", "10", "21"]) == "01"
    assert choose("fold", "08", ["8", "18"]) == "8"
    with pytest.raises(UserError, match="unknown fold '1'"):
        choose("fold", "1", ["01", "001"])


def test_choose_names_the_nearest_and_lists_all():
    with pytest.raises(UserError) as caught:
        choose("protocol", "lsoo", ["loso", "published", "random"])
    assert str(caught.value) == (
        "unknown protocol 'lsoo'. Did you mean loso? Valid: loso, published, random."
    )


def test_choose_spells_the_nearest_as_it_is_spelled():
    with pytest.raises(UserError, match=r"Did you mean EMO-DB\?"):
        choose("corpus", "emodb", ["EMO-DB", "demo"])


def test_choose_suggests_nothing_where_nothing_is_near():
    with pytest.raises(UserError, match=r"^unknown protocol 'xyz'\. Valid: loso, random\.$"):
        choose("protocol", "xyz", ["loso", "random"])


# Registries


def test_a_student_names_a_front_end_and_a_schedule_that_exist():
    for name, student in STUDENTS.items():
        assert student.front_end in FRONT_ENDS
        assert student.schedule in SCHEDULES
        assert student.wider_teacher is None or student.wider_teacher in STUDENTS
        assert FRONT_ENDS[student.front_end].of_encoder == student.is_multimodal, name


def test_input_types_are_those_of_the_front_ends():
    assert {kind for each in FRONT_ENDS.values() for kind in each.spectra} == set(INPUT_TYPES)


# make_settings


def test_without_values_they_are_the_defaults_of_settings():
    assert make_settings() == Settings()


def test_another_value_of_every_setting_is_valid_and_not_its_default():
    assert sorted(NAMED | UNNAMED) == sorted(FIELDS)
    plain = {name: another(field) for name, field in FIELDS.items() if name != "distillation_weights"}
    for name, value in [*(NAMED | UNNAMED).items(), *plain.items()]:
        assert checked(FIELDS[name], value) == value != getattr(Settings(), name), name


def test_every_setting_arrives():
    settings = make_settings(**OTHER)
    assert {name: getattr(settings, name) for name in OTHER} == OTHER
    settings = make_settings(distillation="KD+hint", augmentation="noise", **UNLABELLED, **VIEW)
    assert {name: getattr(settings, name) for name in UNLABELLED | VIEW} == UNLABELLED | VIEW
    assert make_settings(distillation="KD", teacher="a.npz+yamnet", **MIXING).teacher_mixing == "confidence"
    probes = {"distillation": "KD", "teacher": "yamnet", "augmentation": "noise", "teacher_view": "same"}
    assert make_settings(**probes, **VIEWS).teacher_views == 8
    assert {name: getattr(make_settings(**RATED), name) for name in RATED} == RATED
    assert {name: getattr(make_settings(**{name: value}), name) for name, value in UNNAMED.items()} == UNNAMED


@pytest.mark.parametrize("augmentation", ["", "mixup", "babble", "specaugment"])
def test_views_of_unlabelled_clips_need_an_augmentation_that_makes_them_of_the_clip_alone(augmentation):
    given = {"distillation": "KD", "unlabelled": "speech", "augmentation": augmentation}
    with pytest.raises(
        UserError,
        match="--unlabelled_views needs an augmentation that changes a clip without other recordings",
    ):
        make_settings(**given, unlabelled_views=2)
    assert make_settings(**given | {"augmentation": f"{augmentation},gain".strip(",")}, unlabelled_views=2)


def test_the_modality_arrives():
    assert make_settings(student="cross_attention", modality="text").modality == "text"


@pytest.mark.parametrize(
    "name",
    ["audio_type", "optimizer", "modality", "pooling", "input_type",
     "front_end", "student", "label_loss", "class_weights", "distillation",
     "protocol", "schedule", "arithmetic"],
)  # fmt: skip
def test_an_unknown_choice_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"unknown {name.replace('_', ' ')} 'nonsense123'"):
        make_settings(**{name: "nonsense123"})


def test_a_choice_is_stored_as_it_is_spelled():
    assert make_settings(distillation="ckd", student="LIGHT_SERNET").distillation == "CKD"


@pytest.mark.parametrize("name", ["student", "protocol", "label_loss", "input_type"])
def test_none_is_no_choice_where_there_is_no_default_to_leave_it_to(name):
    with pytest.raises(UserError, match=f"unknown {name.replace('_', ' ')} 'None'"):
        make_settings(**{name: None})


@pytest.mark.parametrize("name", ["front_end", "schedule", "epochs", "batch_size", "learning_rate"])
def test_none_leaves_it_to_the_student(name):
    assert getattr(make_settings(**{name: None}), name) is None


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown setting 'epoch'\. Did you mean epochs\?"):
        make_settings(epoch=3)


def test_a_setting_in_capitals_is_that_setting():
    assert make_settings(Epochs=3).epochs == 3


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["input_seconds", "width", "teacher_width", "learning_rate"])
def test_a_size_must_be_above_0_and_finite(name, value):
    with pytest.raises(UserError, match=f"{name.replace('_', ' ')} must be above 0.*, found"):
        make_settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "largest"), [("input_seconds", 600), ("input_samples", 9_600_000), ("width", 16)]
)
def test_a_size_that_no_memory_holds_is_refused_with_the_largest(name, largest):
    assert getattr(make_settings(**{name: largest}), name) == largest
    with pytest.raises(UserError, match=f"above 0 and at most {largest}, found {largest + 1}"):
        make_settings(**{name: largest + 1})


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["input_samples", "teacher_epochs", "epochs", "batch_size"])
def test_a_count_must_be_above_0(name, value):
    with pytest.raises(UserError, match=f"{name.replace('_', ' ')} must be above 0.*, found {value}"):
        make_settings(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("name", ["label_smoothing", "batch_norm_momentum"])
def test_a_share_lies_from_0_to_below_1(name, value):
    with pytest.raises(UserError, match=f"{name.replace('_', ' ')} must be at least 0 and below 1"):
        make_settings(**{name: value})
    assert getattr(make_settings(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_the_focus_of_the_focal_loss_is_not_negative(value):
    with pytest.raises(UserError, match="focal gamma must be 0 or more"):
        make_settings(focal_gamma=value)


def test_patience_is_not_negative():
    with pytest.raises(UserError, match=r"patience must be 0 \(never stop early\) or more epochs, found -1"):
        make_settings(patience=-1)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_one_that_every_generator_takes(seed):
    with pytest.raises(UserError, match=f"seed must be from 0 to 4294967295, found {seed}"):
        make_settings(seed=seed)
    assert make_settings(seed=2**32 - 1).seed == 2**32 - 1


def test_an_input_shorter_than_a_sample_is_refused():
    with pytest.raises(UserError, match="the input must hold a sample, found 1e-05 s"):
        make_settings(input_seconds=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("export", "false", "true or false"),
        ("merge_tflite", 0, "true or false"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", "10", "a whole number"),
        ("epochs", True, "a whole number"),
        ("seed", None, "a whole number"),
        ("input_seconds", "3", "a number"),
        ("input_seconds", True, "a number"),
        ("width", None, "a number"),
        ("corpus", None, "text"),
        ("teacher", 3, "text"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, kind):
    with pytest.raises(UserError) as caught:
        make_settings(**{name: value})
    assert str(caught.value) == f"{name.replace('_', ' ')} must be {kind}, found {value!r}."


@pytest.mark.parametrize("name", ["corpus", "teacher", "test_on"])
def test_an_empty_name_is_refused(name):
    with pytest.raises(UserError, match=f"{name.replace('_', ' ')} is empty"):
        make_settings(**{name: ""})


def test_one_fold_that_is_not_in_a_list_is_refused_rather_than_spelled_out():
    with pytest.raises(UserError, match=r"folds must be a list of names, such as \['03'\], found '03'"):
        make_settings(folds="03")


def test_weights_without_names_are_refused():
    with pytest.raises(UserError, match=r"distillation weights must be numbers by name, found \[1.0\]"):
        make_settings(distillation_weights=[1.0])


def test_folds_are_names():
    assert make_settings(folds=[3, "08"]).folds == ("3", "08")


# The teacher


def test_a_distillation_without_a_teacher_takes_the_auto_one():
    for method in ("KD", "RKD", "DKD", "CKD"):
        assert make_settings(distillation=method).teacher == "auto"


def test_a_teacher_file_is_kept():
    assert make_settings(distillation="KD", teacher="logits.npz").teacher == "logits.npz"


@pytest.mark.parametrize("teacher", ["logits.npz", "auto"])
def test_pure_training_has_no_teacher(teacher):
    assert make_settings(distillation="pure").teacher is None
    with pytest.raises(UserError, match="pure training has no teacher: choose -kd KD, RKD, DKD or CKD"):
        make_settings(distillation="pure", teacher=teacher)


# Length and schedule


def test_input_samples_win_over_input_seconds():
    assert make_settings(input_seconds=3).samples == 48_000
    assert make_settings(input_seconds=0.30004).samples == 4801
    assert make_settings(input_seconds=3, input_samples=80_000).samples == 80_000


def test_a_runs_own_epochs_batch_size_and_learning_rate_replace_the_schedules():
    own = make_settings(schedule="cubic", epochs=7, batch_size=5, learning_rate=0.5).training_schedule
    assert own == dataclasses.replace(SCHEDULES["cubic"], epochs=7, batch_size=5, learning_rate=0.5)
    assert make_settings(schedule="cubic").training_schedule == SCHEDULES["cubic"]


def test_light_sernets_learning_rate_falls_by_exp_minus_015_at_epochs_60_80_and_100():
    schedule = SCHEDULES["light_sernet"]
    assert (schedule.batch_size, schedule.epochs, schedule.weight_decay) == (32, 300, 0)
    rates = [schedule.learning_rate_at(epoch=epoch, step=10**6) for epoch in range(121)]
    falls = [epoch for epoch in range(1, 121) if rates[epoch] != rates[epoch - 1]]
    assert falls == [60, 80, 100, 120]
    assert rates[0] == 1e-4
    assert rates[59] == 1e-4
    assert rates[100] == pytest.approx(1e-4 * math.exp(-0.45))


def test_cubics_learning_rate_falls_by_a_tenth_every_300_steps():
    schedule = SCHEDULES["cubic"]
    assert (schedule.batch_size, schedule.epochs, schedule.weight_decay) == (16, 100, 1e-4)
    assert schedule.learning_rate_at(epoch=0, step=0) == 1e-3
    assert schedule.learning_rate_at(epoch=9, step=299) == 1e-3
    assert schedule.learning_rate_at(epoch=0, step=300) == pytest.approx(9e-4)
    assert schedule.learning_rate_at(epoch=0, step=900) == pytest.approx(1e-3 * 0.9**3)


def test_a_decay_from_one_of_its_multiples_begins_there():
    schedule = dataclasses.replace(SCHEDULES["light_sernet"], decay_from=60)
    rates = [schedule.learning_rate_at(epoch=epoch, step=0) for epoch in (59, 60, 80)]
    assert rates == pytest.approx([1e-4, 1e-4 * schedule.decay, 1e-4 * schedule.decay**2])


# The corpus's name


@pytest.mark.parametrize(
    ("corpus", "name"),
    [("EMO-DB", "EMO-DB"), ("lists/mine.csv", "mine"), ("converted/manifest.csv", "converted")],
)
def test_a_manifest_is_called_by_its_name_or_its_folders(corpus, name, tmp_path, monkeypatch):
    assert config.corpus_name(corpus) == name
    monkeypatch.chdir(tmp_path)
    assert config.corpus_name("manifest.csv") == tmp_path.name


# The digest


def test_the_digest_differs_when_any_setting_differs():
    decides, other = (
        [name for name in FIELDS if name not in NOT_IN_DIGEST],
        NAMED | UNNAMED,
    )  # see test_engine
    digests = {name: dataclasses.replace(Settings(), **{name: other[name]}).digest() for name in decides}
    assert len({Settings().digest(), *digests.values()}) == len(decides) + 1
    assert all(len(digest) == 8 and int(digest, 16) >= 0 for digest in digests.values())


def test_settings_that_came_later_leave_the_names_of_begun_runs():
    # as printed before there were --depth, --kernels, --local_pooling and --speakers (commit 2264b66)
    assert Settings().digest() == "a216ba07"
    assert make_settings(corpus="demo", width=0.5, distillation="KD").digest() == "d9c3e2df"
    assert dataclasses.replace(Settings(), keep="last").digest() != Settings().digest()
    assert make_settings(depth=4).digest() == Settings().digest()  # as published


def test_what_an_older_run_does_not_tell_has_its_default():
    older = {"depth", "keep", "kernels", "local_pooling", "recipe", "speakers", "unlabelled"}
    older |= {"unlabelled_share", "unlabelled_skip_tested"}
    stored = {name: value for name, value in make_settings(width=0.5).as_dict().items() if name not in older}
    assert Settings.completed(stored) == make_settings(width=0.5).as_dict()
    assert Settings.completed({**stored, "depth": 2})["depth"] == 2


@pytest.mark.parametrize("name", ["depth", "kernels", "local_pooling"])
@pytest.mark.parametrize("student", [name for name, each in STUDENTS.items() if each.depth is None])
def test_a_shape_is_refused_for_students_that_have_none(name, student):
    with pytest.raises(UserError, match=f"^--{name} is of light_sernet and light_sernet_plus, not {student}"):
        make_settings(student=student, **{name: OTHER[name]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 5}, "--depth of light_sernet is at most 4, found 5"),
        ({"depth": 6, "student": "light_sernet_plus"}, "--depth of light_sernet_plus is at most 5, found 6"),
        ({"depth": 0}, "depth must be above 0"),
        ({"kernels": ("3x3", "11")}, "a kernel is frames x features, such as 11x1, found '11'"),
        ({"kernels": ("0x3",)}, "found '0x3'"),
        ({"local_pooling": "mean"}, "unknown local pooling 'mean'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_settings(**values)


def test_the_digest_is_the_same_in_another_process():
    code = "from light_sernet_kd import config; print(config.make_settings(folds=['03'], seed=4).digest())"
    other = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert other.stdout.strip() == make_settings(folds=["03"], seed=4).digest()


def test_the_digest_does_not_depend_on_spelling():
    weights = {"alpha": 0.5, "temperature": 4.0}
    mirrored = dict(reversed(weights.items()))
    assert (
        make_settings(input_seconds=3, distillation="kd", distillation_weights=weights).digest()
        == make_settings(input_seconds=3.0, distillation="KD", distillation_weights=mirrored).digest()
    )


def test_settings_are_json_that_makes_them_again():
    settings = make_settings(**OTHER)
    assert make_settings(**settings.as_dict()) == settings
    settings = make_settings(distillation="KD", augmentation="noise", **UNLABELLED)
    assert make_settings(**settings.as_dict()) == settings


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 1


# hyperparameters.py


def test_hyperparameters_begin_with_the_recipe_of_the_product():
    # of no protocol, so that each corpus has its own
    assert DEFAULTS["protocol"] is None
    values = {name: value for name, value in DEFAULTS.items() if name != "protocol"}
    assert make_settings(**values) == make_settings(recipe="robust")


# Recipes


def test_a_recipe_gives_what_the_user_leaves_out():
    recipe = RECIPES["robust"].settings
    assert {"front_end", "input_type", "augmentation", "schedule", "keep"} <= {*recipe}
    settings = make_settings(recipe="robust", epochs=None, augmentation="", keep="last")
    changed = {"augmentation": "", "keep": "last"}
    assert {name: getattr(settings, name) for name in recipe} == {**recipe, **changed}
    assert make_settings(**settings.as_dict()) == settings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_of_settings_that_exist_and_goes_with_a_teacher(name):
    settings = make_settings(recipe=name, distillation="ours" if name == "distilled" else "KD")
    asked = augment.parse(settings.augmentation)
    augment.check_teacher(asked)
    assert augment.text_of(asked) == settings.augmentation  # as the command line spells it
    assert make_settings(**RECIPES[name].settings).digest() == make_settings(recipe=name).digest()


def test_a_recipe_with_the_command_wins_over_the_users_file_and_not_over_the_command():
    """And one in the file does not win over what the file says beside it."""
    in_file = {"recipe": "robust", "augmentation": "shift", "epochs": None}

    def parse(*argv, defaults=in_file):
        return settings_of(make_parser().parse_args(["train", "-dn", "demo", *argv]), defaults)

    assert (parse().augmentation, parse().front_end, parse().training_schedule.epochs) == (
        "shift", "robust", SCHEDULES["robust"].epochs,
    )  # fmt: skip
    lsn = parse("--recipe", "lsn", "--keep", "mean")
    assert (lsn.augmentation, lsn.front_end, lsn.keep) == ("", "lsn", "mean")
    assert (parse().keep, parse("--patience", "3").keep) == ("mean", "best")
    # which the recipe's front end does not have
    spectra = parse("-it", "spectrogram")
    assert (spectra.front_end, spectra.input_type, spectra.keep) == ("lsn", "spectrogram", "mean")
    assert parse("-it", "mel").front_end == "robust"
    assert parse("--student", "bert_vggish", defaults={"recipe": "robust"}).recipe == "own"
    with pytest.raises(UserError, match="recipe lsn is for students of features alone, not for bert_vggish"):
        parse("--student", "bert_vggish", "--recipe", "lsn")


def test_ours_is_a_method_of_any_recipe_and_the_one_of_distilled():
    ours = RECIPES["distilled"].settings
    by_name = make_settings(recipe="distilled")
    assert make_settings(recipe="robust", distillation="OURS") == by_name
    assert {name: getattr(by_name, name) for name in ours} == dict(ours)
    assert (by_name.teacher, by_name.recipe) == ("auto", "distilled")
    plain = make_settings(recipe="lsn", distillation="ours")
    assert (plain.recipe, plain.front_end, plain.teacher_view) == ("lsn", "lsn", "same")
    # what is said beside it wins, number by number
    mine = make_settings(recipe="distilled", distillation_weights={"KD.alpha": 0.7}, teacher_components=9)
    assert mine.distillation_weights == {"KD.alpha": 0.7, "KD.temperature": 2.0}
    assert mine.teacher_components == 9


@pytest.mark.parametrize(
    ("teacher", "view", "standardised"),
    [("yamnet", "clean", True), ("mine.npz", "clean", False), ("run:result/a", "same", False),
     ("resnet18", "same", False), ("yamnet+auto", "clean", True)],
)  # fmt: skip
def test_ours_asks_what_can_be_asked_and_standardises_what_probes_read(teacher, view, standardised):
    settings = make_settings(recipe="robust", distillation="ours", teacher=teacher)
    assert (settings.teacher_view, settings.standardise_speakers) == (view, standardised)
    again = make_parser().parse_args(["train", *spelled(settings)])
    assert settings_of(again, {"recipe": "robust", "distillation": "pure"}) == settings


def test_the_recipe_of_ours_has_no_other_method():
    for method in ("pure", "CKD"):
        with pytest.raises(UserError, match=f"teaches by -kd ours, found {method}: leave out one"):
            make_settings(recipe="distilled", distillation=method)
    with pytest.raises(UserError, match="for audio-only students, not for bert_vggish"):
        make_settings(distillation="ours", student="bert_vggish")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": ["own", "robust"]}, "unknown recipe"),
        ({"recipe": 3}, "unknown recipe '3'"),
        ({"distillation": "ours", "teacher": ["a", "b"]}, "teacher must be text"),
        ({"recipe": "distilled", "teacher": 3}, "teacher must be text, found 3"),
    ],
)
def test_a_recipe_or_a_teacher_of_another_type_is_one_line(values, message):
    with pytest.raises(UserError, match=message):
        make_settings(**values)


def test_what_a_command_line_tells_names_the_recipe_and_what_differs_from_it():
    settings = make_settings(corpus="demo", recipe="robust", augmentation="", epochs=3)
    told = spelled(settings)
    assert told == ["-dn", "demo", "--augment", "none", "--recipe", "robust", "--epochs", "3"]
    assert "--recipe" in spelled(Settings())
    again = settings_of(make_parser().parse_args(["train", *told, "--protocol", "loso"]), {"recipe": "lsn"})
    assert again == settings


def test_an_epoch_that_is_not_chosen_cannot_be_waited_for():
    for keep in ("last", "mean"):
        with pytest.raises(UserError, match=f"--patience waits for a better epoch, and --keep {keep}"):
            make_settings(keep=keep, patience=2)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_valid(name):
    entry = EXPERIMENTS[name]
    settings = make_settings(**{**DEFAULTS, "protocol": "loso", **entry["settings"]})
    assert settings.input_type in FRONT_ENDS[STUDENTS[settings.student].front_end].spectra
    losses.settings_of(settings.distillation, settings.distillation_weights)


def test_experiments_are_different_runs():
    digests = [make_settings(**entry["settings"]).digest() for entry in EXPERIMENTS.values()]
    assert len(set(digests)) == len(digests)


def test_experiments_are_the_rows_of_light_sernets_table_and_every_method_of_cubic_kd():
    table = {}
    for entry in EXPERIMENTS.values():
        if "published" in entry and entry["settings"].get("student", "light_sernet") == "light_sernet":
            row = entry["settings"]
            key = (row["corpus"], row["audio_type"], row["input_seconds"], row["label_loss"])
            table[key] = (entry["published"]["ua"], entry["published"]["wa"])
            assert row["protocol"] == "random"
    assert table == {
        ("EMO-DB", "all", 3.0, "cross_entropy"): (94.15, 94.21),
        ("EMO-DB", "all", 3.0, "focal"): (92.88, 93.08),
        ("IEMOCAP", "all", 3.0, "cross_entropy"): (65.81, 65.37),
        ("IEMOCAP", "all", 3.0, "focal"): (66.10, 65.47),
        ("IEMOCAP", "all", 7.0, "cross_entropy"): (70.12, 69.15),
        ("IEMOCAP", "all", 7.0, "focal"): (70.76, 70.23),
        ("IEMOCAP", "impro", 3.0, "cross_entropy"): (68.42, 76.60),
        ("IEMOCAP", "impro", 3.0, "focal"): (68.38, 77.41),
        ("IEMOCAP", "impro", 7.0, "cross_entropy"): (71.51, 78.73),
        ("IEMOCAP", "impro", 7.0, "focal"): (70.78, 79.87),
    }  # fmt: skip
    rows = [
        entry["settings"]
        for entry in EXPERIMENTS.values()
        if "published" not in entry and entry["settings"]["student"] in FEATURE_STUDENTS
    ]
    assert {(row["corpus"], row["student"], row["distillation"]) for row in rows} == set(
        itertools.product(
            ("EMO-DB", "IEMOCAP"),
            ("light_sernet_plus", "mobilenetv3_small_075", "efficientnet_b0", "resnet18"),
            ("pure", "KD", "RKD", "DKD", "CKD"),
        )
    )
    lambdas = {
        (row["corpus"], *row["distillation_weights"].values()) for row in rows if row["distillation_weights"]
    }
    assert lambdas == {("EMO-DB", 0.006, 0.015), ("IEMOCAP", 0.001, 0.015)}


def test_experiments_of_speech_and_text_are_distilsers_students_and_multi_stills_table():
    rows = {
        name: entry
        for name, entry in EXPERIMENTS.items()
        if name.startswith(("3m-ser", "distilser", "multi"))
    }
    wa = {name: entry["published"]["wa"] for name, entry in rows.items() if "published" in entry}
    assert wa == {
        "3m-ser-iemocap": 76.53,
        "multi-still-kemdy20-teacher": 91.90,
        "multi-still-kemdy20-both": 92.08,
        "multi-still-kemdy20-audio": 91.70,
        "multi-still-kemdy20-text": 90.97,
    }
    taught = {
        entry["settings"]["student"]: entry["settings"]["distillation"]
        for name, entry in rows.items()
        if name.startswith("distilser")
    }
    students_of = ("distilbert", "minibert", "microbert", "nanobert", "picobert")
    assert taught == {f"{name}_vggish": "DistilSER" for name in students_of}


# Ratings


def test_ratings_have_one_spelling():
    settings = make_settings(dimensions=("Activation", "valence"), dimension_range=("1.0", " 7"))
    assert (settings.dimensions, settings.dimension_range) == (("arousal", "valence"), ("1", "7"))
    assert settings.scale == (1, 7)
    assert Settings(dimensions=("arousal",)).digest() != Settings().digest()
    assert Settings().scale is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dimensions": ("arousal", "activation")}, "--dimensions names one twice"),
        ({"dimensions": ("arousal",), "qat": 2}, "--dimensions does not go with --qat yet"),
        ({"dimensions": ("arousal",), "engine": "jax"}, "does not go with --engine jax yet"),
        (
            {"dimensions": ("arousal",), "student": "bert_vggish"},
            "does not go with --student bert_vggish yet",
        ),
        ({"dimensions": ("arousal",), "distillation": "KD", "generations": 2}, "with --generations yet"),
        ({"dimensions": ("arousal",), "dimension_range": ("5", "1")}, "takes the two ends of the scale"),
        ({"dimensions": ("arousal",), "dimension_range": ("1", "five")}, "takes the two ends of the scale"),
        ({"dimensions": ("arousal",), "dimensions_weight": 0.0}, "dimensions weight must be above 0"),
        ({"dimensions_weight": 0.5}, "--dimensions_weight goes with --dimensions"),
        ({"dimensions_only": True}, "--dimensions_only goes with --dimensions"),
        (ALONE | {"distillation": "KD+CCC"}, "KD+CCC compares logits of emotions"),
        (
            ALONE | {"emotions": ("anger", "fear")},
            "--emotions is of emotions, which --dimensions_only leaves",
        ),
        (ALONE | {"class_weights": "balanced"}, "--class_weights is of emotions"),
        (ALONE | {"teacher_gate": "refuse", "distillation": "CCC"}, "--teacher_gate is of emotions"),
        ({"distillation": "KD+CCC"}, "KD+CCC compares ratings with a teacher's: add --dimensions"),
        (
            {"dimensions": ("arousal",), "distillation": "CCC", "teacher": "auto", "teacher_view": "same"},
            "which --teacher_view same does not ask for",
        ),
    ],
)
def test_what_does_not_go_with_ratings_is_refused(values, words):
    with pytest.raises(UserError) as error:
        make_settings(**values)
    assert words in str(error.value)
