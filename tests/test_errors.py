"""Errors for users: a package that is not installed, an error in code of their own."""

import pickle

import pytest

from light_sernet_kd import errors
from light_sernet_kd.errors import UserError

ABSENT = "not_there"


@pytest.fixture
def absent(monkeypatch):
    """A package of the extra `media` that is not installed."""
    monkeypatch.setitem(errors._PACKAGES, ABSENT, errors._Package("Absent", "media"))


def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(absent):
    with (
        pytest.raises(errors.MissingPackageError, match=r"^reading needs Absent, which is not installed: "),
        errors.installed(ABSENT, "reading"),
    ):
        __import__(f"{ABSENT}.part")
    with pytest.raises(UserError, match=r"reading needs the extra media, of which .*Absent.* not installed"):
        errors.require("media", "reading")


def test_a_module_of_our_own_that_is_not_there_keeps_its_error(absent):
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_part") as raised,
        errors.installed(ABSENT, "reading"),
    ):
        __import__("no_such_part")
    assert not isinstance(raised.value, UserError)


def test_an_error_in_a_users_code_survives_pickle_with_its_traceback():
    error = pickle.loads(pickle.dumps(errors.UserCodeError("my.py failed", "Traceback …")))
    assert (error.said, str(error)) == ("my.py failed", "my.py failed\n\nTraceback …")
