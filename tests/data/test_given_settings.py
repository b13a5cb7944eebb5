"""Settings mean the same on the command line, in a grid's file and from Python."""

import pytest

import light_sernet_kd.experiment.from_python as from_python
from light_sernet_kd import cli
from light_sernet_kd.analysis.grid import read_grid
from light_sernet_kd.cli.options import settings_of


class ReachedError(Exception):
    """Training would begin with these settings."""


def of_command(values, data):
    flags = {"corpus": "-dn", "test_on": "--test-on", "protocol": "--protocol"}
    arguments = [word for name, value in values.items() for word in (flags[name], value)]
    parser = cli.make_parser()
    parsed = parser.parse_args(parser.checked(["train", *arguments, "--data", str(data)], "light-sernet-kd"))
    return settings_of(parsed, {})


def of_grid(values, data):
    lines = [f'{name} = "{value}"' for name, value in values.items()]
    file = data / "grid.toml"
    file.write_text("\n".join(["[settings]", *lines, "[[runs]]", "seed = [0]"]))
    return read_grid(file, data).entries[0].settings


def of_python(values, data, monkeypatch):
    def reached(settings, *_):
        raise ReachedError(settings)

    monkeypatch.setattr(from_python, "train_run", reached)
    with pytest.raises(ReachedError) as outcome:
        from_python.train(**values, data=data, result=data)
    return outcome.value.args[0]


@pytest.mark.parametrize(
    ("values", "corpus", "test_on", "protocol"),
    [
        ({"corpus": "emo-db"}, "EMO-DB", None, "loso"),
        ({"corpus": "tess"}, "TESS", None, "two_speakers"),
        ({"corpus": "{data}/two.csv"}, "{data}/two.csv", None, "two_speakers"),
        ({"corpus": "tess", "protocol": "loso"}, "TESS", None, "loso"),
        ({"corpus": "emo-db", "test_on": "ravdess"}, "EMO-DB", "RAVDESS", "cross_corpus"),
    ],
)
def test_settings_mean_the_same_however_they_are_given(
    values, corpus, test_on, protocol, tmp_path, monkeypatch
):
    (tmp_path / "two.csv").write_text("path,emotion,speaker\na.wav,anger,1\nb.wav,fear,2\n")
    values = {name: value.format(data=tmp_path) for name, value in values.items()}
    ways = [
        of_command(values, tmp_path),
        of_grid(values, tmp_path),
        of_python(values, tmp_path, monkeypatch),
    ]
    for settings in ways:
        assert settings.corpus == corpus.format(data=tmp_path)
        assert (settings.test_on, settings.protocol) == (test_on, protocol)
    assert ways[1] == ways[2]
