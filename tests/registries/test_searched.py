"""What entries say of a search that has no space of its own."""

from light_sernet_kd.analysis.search.space import default_space
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.distillation.losses import settings_of
from light_sernet_kd.registries.losses import DISTILLATIONS
from light_sernet_kd.registries.schedules import SCHEDULES, SEARCHED_SCHEDULES


def test_a_search_tries_schedules_and_settings_that_there_are():
    assert {*SEARCHED_SCHEDULES} < {*SCHEDULES}
    assert default_space(Settings()).values["schedule"] == SEARCHED_SCHEDULES
    searched = {name: entry.searched for name, entry in DISTILLATIONS.items() if entry.searched}
    for name, grid in searched.items():
        for setting, values in grid.items():
            for value in values:
                assert settings_of(name, {setting: value})[setting] == value


def test_a_search_chooses_the_temperature_of_kd_and_no_weight_of_another_method():
    weights = default_space(make_settings(distillation="KD")).values["distillation_weights"]
    assert weights == ({"temperature": 2.0}, {"temperature": 4.0}, {"temperature": 8.0})
    assert "distillation_weights" not in default_space(make_settings(distillation="RKD")).values
