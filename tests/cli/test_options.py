"""The command line is made from the fields of the settings: each is there, and comes back as it was given."""

import dataclasses
import re

import pytest

from light_sernet_kd import cli
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import RunOptions, Settings, fields, make_settings
from light_sernet_kd.errors import UserError

# Of the first version; scripts and papers have them.
OLD_SPELLINGS = {
    "-dn": ("demo", "corpus", "demo"),
    "-id": ("2.5", "input_seconds", 2.5),
    "-at": ("impro", "audio_type", "impro"),
    "-ln": ("focal", "label_loss", "focal"),
    "-it": ("mel", "input_type", "mel_spectrogram"),
    "-input": ("spectrogram", "input_type", "spectrogram"),
    "-m": ("false", "merge_tflite", False),
    "-session": ("2", "folds", ("#2",)),
    "-kd": ("CKD", "distillation", "CKD"),
    "-lr": ("0.01", "learning_rate", 0.01),
    "-bt": ("8", "batch_size", 8),
    "-epoc": ("3", "epochs", 3),
    "-len": ("80000", "input_samples", 80_000),
    "-model": ("resnet18", "student", "resnet18"),
}


def settings(*arguments: str, **defaults) -> Settings:
    parser = cli.make_parser()
    parsed = parser.parse_args(parser.checked(["train", *arguments], "light-sernet-kd"))
    return settings_of(parsed, {"corpus": "EMO-DB", "protocol": "loso", **defaults})


@pytest.mark.parametrize("flag", OLD_SPELLINGS)
def test_a_spelling_of_the_first_version_is_understood(flag):
    text, name, value = OLD_SPELLINGS[flag]
    assert getattr(settings(flag, text), name) == value


def test_the_run_options_of_the_first_version_are_understood():
    parsed = cli.make_parser().parse_args(["train", "-v", "2", "-c", "RAM"])
    assert (parsed.verbose, parsed.cache) == (2, "ram")


def test_the_weights_of_ckd_have_flags_of_their_own():
    given = settings("-kd", "CKD", "-l1", "0.5", "-l2", "0.25")
    assert given.distillation_weights == {"lambda1": 0.5, "lambda2": 0.25}


@pytest.mark.parametrize("kind", [Settings, RunOptions])
def test_every_field_says_its_flags_its_meaning_and_its_commands(kind):
    for name, option in fields.options(kind).items():
        assert option.flags, name
        assert all(flag.startswith("-") for flag in option.flags), name
        assert option.help, name
        assert fields.TRAIN in option.commands, name


def test_no_two_settings_share_a_flag():
    options = [*fields.options(Settings).values(), *fields.options(RunOptions).values()]
    flags = [flag for option in options for each in (option, *option.shorthands) for flag in each.flags]
    assert len(flags) == len(set(flags))


def test_help_lists_every_setting_of_the_command(capsys):
    for command in ("train", "teach"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        text = capsys.readouterr().out
        for option in fields.options(Settings).values():
            listed = re.search(rf"\n  {option.flags[0]}[ ,\n]", text) is not None
            assert listed == (command in option.commands), option.flags


OTHER = [
    {"corpus": "demo", "columns": ["path=file_id"], "emotions": ["anger", "excitement=happiness"]},
    {"input_seconds": 7.0, "input_samples": 80_000, "input_type": "spectrogram", "front_end": "lsn"},
    {"distillation": "KD:0.5+CKD", "distillation_weights": {"KD.alpha": 0.5, "CKD.temperatures": [1.0, 2.0]}},
    {
        "distillation": "KD+SP:300",
        "distillation_weights": {"KD.alpha": "0.9>0.3", "KD.temperature": "4.0>1.0"},
    },
    {"student": "cross_attention", "modality": "text", "text_encoder": "random:width=32:layers=1"},
    {"student": "bert_vggish", "pooling": "mean", "tune_epochs": 3, "audio_encoder": "vggish=random"},
    {"augmentation": "speed:low=0.8,mixup", "protocol": "random", "folds": ["03", "08"], "seed": 7},
    {"test_on": "RAVDESS", "protocol": "cross_corpus", "different_speakers": True, "skip_bad": True},
    {"export": False, "merge_tflite": False, "soft_labels": True, "qat": 2, "qat_learning_rate": 1e-5},
    {"distillation": "KD", "teacher": "auto", "standardise_logits": True, "teacher_width": 2.0},
]


@pytest.mark.parametrize("values", OTHER, ids=lambda values: "+".join(values))
def test_settings_come_back_from_their_own_command_line(values):
    made = make_settings(**values)
    assert settings(*fields.spelled(made)) == made


def test_a_list_of_settings_of_losses_has_the_spelling_of_augmentations_too():
    weights = fields.weights("KD:alpha=0.5:temperature=4,RKD.angle=2")
    assert weights == {"KD.alpha": 0.5, "KD.temperature": 4.0, "RKD.angle": 2.0}
    assert settings("-kd", "KD+RKD", "--kd_weights", "KD:alpha=0.5").distillation_weights == {"KD.alpha": 0.5}


def test_a_number_that_changes_over_the_epochs_has_one_spelling():
    made = settings("-kd", "KD", "--kd_weights", "alpha=.90>3e-1,temperature=4")
    assert made.distillation_weights == {"alpha": "0.9>0.3", "temperature": 4.0}
    written = make_settings(corpus="EMO-DB", distillation="KD", distillation_weights={"alpha": "0.9 > .3"})
    assert written.distillation_weights == {"alpha": "0.9>0.3"}


@pytest.mark.parametrize(
    "text", ["KD:", "KD", "alpha", "=1", "KD:alpha", "alpha=1>", "alpha=1>2>3", "alpha=1>x"]
)
def test_a_weight_without_a_number_is_refused(text):
    with pytest.raises(UserError, match=r"expected name=number"):
        settings("-kd", "KD", "--kd_weights", text)


@pytest.mark.parametrize(
    ("command", "option", "how"),
    [
        (["teach"], ["-kd", "CKD"], "teach makes no use of -kd"),
        (["teach"], ["-l1", "1"], "teach makes no use of -l1"),
        (["teach"], ["--teacher", "t.npz"], "teach makes no use of --teacher"),
        (["teach", "--from", "resnet18"], ["--student", "resnet18"], "teach --from resnet18 makes no use of"),
        (["teach", "--from", "yamnet"], ["--epochs", "3"], "teach --from yamnet makes no use of --epochs"),
        (["teach", "--from", "yamnet"], ["-id", "3"], "teach --from yamnet makes no use of -id"),
    ],
)
def test_a_command_refuses_what_makes_no_difference_to_it(capsys, command, option, how):
    assert cli.main([*command, "-dn", "demo", *option]) == 2
    assert how in capsys.readouterr().err


def test_a_new_setting_is_one_field():
    """Its flag, help, check and place in config.json follow from it."""

    @dataclasses.dataclass(frozen=True)
    class More(Settings):
        patches: int = fields.setting(3, "--patches", group="data", range=fields.POSITIVE, help="scratch")

    (field,) = [each for each in dataclasses.fields(More) if each.name == "patches"]
    with pytest.raises(UserError, match=r"patches must be above 0, found 0\."):
        fields.checked(field, 0)
    assert fields.checked(field, 4) == 4
    assert fields.spelled(More(patches=4)) == ["--recipe", "own", "--patches", "4"]
    assert More().as_dict()["patches"] == 3
    assert fields.options(More)["patches"].help_text(3) == "scratch (default 3)"
