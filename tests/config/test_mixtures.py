"""What `-kd` may be told: a name, or a weighted sum."""

import subprocess
import sys

import pytest

from light_sernet_kd.config.distillation_spec import DistillationSum, Term, parse
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.losses import DISTILLATIONS, PUBLISHED


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("KD", [("KD", 1)]),
        ("KD:0.5+RKD:0.5", [("KD", 0.5), ("RKD", 0.5)]),
        ("KD+SP:3000", [("KD", 1), ("SP", 3000)]),
        (" kd : 0.5 + hint ", [("KD", 0.5), ("hint", 1)]),
        ("PKT:1e+2+pure:1e-1", [("PKT", 100), ("pure", 0.1)]),
    ],
)
def test_a_sum_is_read_as_it_is_written(text, terms):
    assert parse(text) == DistillationSum(tuple(Term(name, float(weight)) for name, weight in terms))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("kd:1.0", "KD"),
        ("KD:0.50 + sp:3e3", "KD:0.5+SP:3000"),
        ("DIST:0.1+PKT:1e-7", "DIST:0.1+PKT:1e-07"),
        ("SP:1e+30", "SP:1e+30"),
    ],
)
def test_the_text_of_a_sum_is_canonical_and_means_the_same(text, canonical):
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize("name", [*DISTILLATIONS, *PUBLISHED])
def test_every_name_alone_is_a_sum_of_one(name):
    assert str(parse(name)) == name
    if name not in PUBLISHED:
        assert parse(name).terms == (Term(name),)
        assert parse(name).needs_embeddings == (name in ("hint", "PKT", "SP"))
        assert parse(name).needs_states == (name == "states")
        assert parse(name).needs_dimensions == (name in ("values", "CCC"))
        assert parse(name).adds_label_loss == (name in ("hint", "PKT", "SP", "states", "values", "CCC"))
        assert parse(name).needs_logits == (DISTILLATIONS[name].compares == "logits")
        assert parse(name).needs_teacher == (name != "pure")


@pytest.mark.parametrize(
    ("text", "terms", "settings"),
    [
        ("distilser", ["KD", "states"], {"KD.alpha": 0.5, "KD.temperature": 2.0}),
        (" Multi-Still", ["MSE"], {}),
    ],
)
def test_a_published_sum_is_called_by_its_name(text, terms, settings):
    mixture = parse(text)
    assert mixture.terms == tuple(map(Term, terms))
    assert mixture.settings == settings
    assert str(mixture) in PUBLISHED
    assert parse(str(mixture)) == mixture
    assert mixture.needs_logits
    assert mixture.needs_states == ("states" in terms)
    assert not mixture.adds_label_loss


def test_a_sum_written_out_has_no_settings_of_its_own():
    assert parse("KD+states").settings == {}
    assert parse("KD+states") != parse("DistilSER")


@pytest.mark.parametrize(
    ("text", "needs", "adds_label_loss"),
    [
        ("pure", (False, False, False), False),
        ("pure:0.5+SP", (False, True, False), False),
        ("SP+PKT", (False, True, False), True),
        ("NKD+SP", (True, True, False), False),
        ("KD+RKD", (True, False, False), False),
        ("states", (False, False, True), True),
        ("states+SP:40", (False, True, True), True),
        ("pure+states:2", (False, False, True), False),
        ("MSE+states", (True, False, True), False),
    ],
)
def test_a_sum_knows_what_it_needs(text, needs, adds_label_loss):
    mixture = parse(text)
    assert (mixture.needs_logits, mixture.needs_embeddings, mixture.needs_states) == needs
    assert mixture.needs_teacher == any(needs)
    assert mixture.adds_label_loss == adds_label_loss


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("KD+DSIT", "unknown distillation 'DSIT'. Did you mean DIST? Valid: pure, KD, RKD"),
        ("", "unknown distillation ''. Valid: pure, KD"),
        ("KD+", "unknown distillation ''. Valid: pure, KD"),
        ("0.5*KD", "unknown distillation '0.5*KD'. Did you mean"),
        ("KD:0.5+kd", "the distillation 'KD:0.5+kd' names KD twice."),
        ("KD:half", "the weight of KD is 'half', but must be a number above 0, as in KD:0.5."),
        ("KD:+RKD", "the weight of KD is '', but must be a number above 0"),
        ("SP:0", "the weight of SP is '0', but must be a number above 0"),
        ("SP:-1", "the weight of SP is '-1', but must be a number above 0"),
        ("SP:nan", "must be a number above 0"),
        ("SP:inf", "must be a number above 0"),
        ("KD:0.5+0.5", "the weight of KD is '0.5+0.5', but must be a number above 0"),
        ("KD:0.5:2", "the weight of KD is '0.5:2', but must be a number above 0"),
        (
            "DistilSER+SP:40",
            "DistilSER is a whole sum: give it alone, or what it stands for, KD+states with "
            "--kd_weights KD.alpha=0.5,KD.temperature=2.",
        ),
        ("hint+multi-still", "Multi-Still is a whole sum: give it alone, or what it stands for, MSE."),
        ("DistilSER:2", "DistilSER is a whole sum"),
    ],
)
def test_a_mistake_is_refused_with_what_would_be_right(text, sentence):
    with pytest.raises(UserError) as refused:
        parse(text)
    assert sentence in str(refused.value)


def test_a_sum_is_read_without_keras():
    code = (
        "import sys, light_sernet_kd.config.distillation_spec\n"
        "sys.exit(bool({'keras', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
