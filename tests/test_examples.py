"""Examples in docstrings come out as they are written, and what a user calls has one."""

import doctest
import importlib

import pytest

from light_sernet_kd.registries.lazy import Lazy
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES

# What must have an example. All examples of its module are run.
LISTED = [
    Lazy("distillation.batch_checks:count_odd"),
    Lazy("distillation.distiller:Distiller"),
    Lazy("distillation.distiller:embedding_of"),
    Lazy("distillation.losses.label:hard_labels"),
    Lazy("distillation.losses.settings:settings_of"),
    Lazy("distillation.losses.logits:standardised"),
    Lazy("distillation.losses.settings:terms_of"),
    Lazy("config.distillation_spec:parse"),
    Lazy("encoders.multimodal:Columns"),
    Lazy("evaluation.bootstrap:bootstrap_ci"),
    Lazy("evaluation.bootstrap:bootstrap_difference_ci"),
    Lazy("evaluation.probabilities:calibration"),
    Lazy("evaluation.probabilities:expected_calibration_error"),
    Lazy("evaluation.probabilities:log_loss"),
    Lazy("evaluation.probabilities:softmax"),
    Lazy("evaluation.scoring:confusion"),
    Lazy("evaluation.scoring:scores"),
    Lazy("evaluation.temperature:fit_temperature"),
    Lazy("evaluation.temperature:mean_margin"),
    Lazy("export.flatbuffer:is_builtin"),
    Lazy("export.tflite:parameter_counts"),
    Lazy("features.model:feature_shape"),
    Lazy("features.model:front_end_model"),
    Lazy("registries.lazy:Lazy"),
    Lazy("data.prepare.conversion:Conversion"),
    Lazy("data.prepare.wav:as_int16"),
    Lazy("data.ties.classes:class_findings"),
    Lazy("data.ties.wording:joined"),
    Lazy("data.ties.wording:listed"),
    Lazy("reporting.figures.page:text_color"),
    Lazy("reporting.tables:Table"),
    Lazy("reporting.text:code"),
    Lazy("reporting.text:plain"),
    Lazy("reporting.text:percent"),
    Lazy("reporting.text:pluralise"),
    Lazy("training.accelerate:arithmetic"),
    Lazy("training.accelerate:has_bfloat16"),
    Lazy("training.history:read_history"),
    *(entry.loss for entry in [*LABEL_LOSSES.values(), *DISTILLATIONS.values()]),
]


@pytest.mark.parametrize("module", sorted({lazy.target.partition(":")[0] for lazy in LISTED}))
def test_examples_come_out_as_they_are_written(module):
    failed, run = doctest.testmod(importlib.import_module(f"light_sernet_kd.{module}"))
    assert run > 0
    assert failed == 0, "see the captured output"


@pytest.mark.parametrize("target", [lazy.target for lazy in LISTED])
def test_what_a_user_calls_has_an_example(target):
    assert doctest.DocTestParser().get_examples(Lazy(target).load().__doc__ or "")
