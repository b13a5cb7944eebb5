"""Recordings without labels: what of a folder can be trained on, and what of it a test must not meet."""

from light_sernet_kd.data.unlabelled.clips import Clips
from light_sernet_kd.data.unlabelled.leaks import leaking, leaks_named
from light_sernet_kd.data.unlabelled.surveys import Survey, sentence, survey
from light_sernet_kd.data.unlabelled.windows import windows

__all__ = ["Clips", "Survey", "leaking", "leaks_named", "sentence", "survey", "windows"]
