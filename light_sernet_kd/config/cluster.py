"""Where a grid's runs are made: this machine, or the nodes of a Ray cluster. Imports no Ray."""

import os
import re
import socket
import tempfile
from contextlib import closing
from pathlib import Path

from light_sernet_kd.errors import UserError, is_installed, missing

LOCAL, RAY = "local", "ray"
# Begins an address through which a program outside of the cluster comes in.
OUTSIDE = "ray://"
# Ray's own variable for the cluster that a program joins.
VARIABLE = "RAY_ADDRESS"
_SECONDS = 8.0

# Ray's servers speak gRPC, so HTTP/2: a client says this and an empty frame of settings, and is sent one.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_FRAME_HEAD_BYTES, _TYPE, _SETTINGS = 9, 3, 4


def cluster_address(where: str) -> str | None:
    """The address of the cluster that `--on` names; None where one is to be started on this machine.

    Args:
        where: `ray`, `ray://HOST:PORT` or `HOST:PORT`. `ray` means what the variable RAY_ADDRESS names, else
            the cluster that runs on this machine.

    Raises:
        UserError: it is none of these, Ray is not installed, or nothing answers there.

    >>> cluster_address("here")
    Traceback (most recent call last):
    ...
    light_sernet_kd.errors.UserError: --on takes local, ray, ray://HOST:PORT or HOST:PORT, found 'here'.
    """
    address = where
    if where == RAY:
        address = os.environ.get(VARIABLE, "")
        address = "" if address in ("auto", LOCAL) else address
    named = re.fullmatch(r"(?:ray://)?(?P<host>[^/\s:]+|\[[^/\s]+\]):(?P<port>\d{1,5})", address)
    if address and (named is None or not 0 < int(named["port"]) < 65536):
        name = "--on" if where != RAY else f"{VARIABLE}, which --on ray reads,"
        choices = (
            "local, ray, ray://HOST:PORT or HOST:PORT" if where != RAY else "ray://HOST:PORT or HOST:PORT"
        )
        raise UserError(f"{name} takes {choices}, found {address!r}.")
    if not is_installed("ray"):
        raise missing("ray", f"--on {where}")
    if named is None:
        return _running_here()
    if why := _silence(named["host"].strip("[]"), int(named["port"])):
        raise UserError(f"no Ray cluster answers at {address} ({why}): start one with ray start --head.")
    return address


def _running_here() -> str | None:
    """The address of the cluster that `ray start` began on this machine; None where none answers."""
    try:
        noted = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        address = noted.read_text(encoding="utf-8").strip()
        host, _, port = address.rpartition(":")
        return None if _silence(host.strip("[]"), int(port)) else address
    except (OSError, ValueError):
        return None


def _silence(host: str, port: int) -> str:
    """Why nothing there speaks as Ray does; empty where something does.

    Ray itself waits for up to a minute for a cluster that does not answer, and may end the process.
    """
    try:
        with closing(socket.create_connection((host, port), timeout=_SECONDS / 2)) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""
            connection.settimeout(_SECONDS / 2)
            connection.sendall(_GREETING)
            head = b""
            while len(head) < _FRAME_HEAD_BYTES:
                more = connection.recv(_FRAME_HEAD_BYTES - len(head))
                if not more:
                    return "it hangs up"
                head += more
    except TimeoutError:
        return "it is silent"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "" if head[_TYPE] == _SETTINGS else "something else answers"
