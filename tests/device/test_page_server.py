"""The page's server against clients that dawdle, crowd it or say nothing, without browser and student."""

import contextlib
import http.client
import socket
import threading
import time

import pytest

from light_sernet_kd.device import serve

CONTENT = b"x" * 1000
LARGE = bytes(30_000_000)  # more than the sockets' buffers take


@contextlib.contextmanager
def running(**limits):
    served = {"/": ("text/html", CONTENT), "/large": ("application/wasm", LARGE)}
    with serve.server(served, 0, **limits) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answer(server, *, timeout: float = 5) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=timeout)
    connection.request("GET", "/")
    return connection.getresponse().read()


def opened(server, said: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=5)
    client.sendall(said)
    return client


def request(server, path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode()


def handlers() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def wait_until(fits, *, seconds: float) -> float:
    """How long it took until it was so."""
    begun = time.monotonic()
    while not fits():
        assert time.monotonic() - begun < seconds, "it is not so yet"
        time.sleep(0.01)
    return time.monotonic() - begun


@pytest.mark.parametrize("part", ["line", "header"])
def test_a_byte_now_and_then_does_not_hold_a_thread(part):
    with running(request_seconds=0.5) as server, contextlib.ExitStack() as stack:
        before = handlers()
        begun = b"GET / HT" if part == "line" else b"GET / HTTP/1.0\r\nX: "
        clients = [stack.enter_context(opened(server, begun)) for _ in range(10)]
        wait_until(lambda: handlers() - before == 10, seconds=2)
        first = time.monotonic()
        while handlers() > before:
            assert time.monotonic() - first < 2, "a byte puts the end off"
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"a")
            assert answer(server) == CONTENT
            time.sleep(0.02)
        assert time.monotonic() - first > 0.3
        assert all(client.recv(9) == b"" for client in clients)


def test_an_answer_that_is_not_taken_ends_in_time():
    with running(request_seconds=0.4) as server:
        before = handlers()
        with opened(server, request(server, "/large")) as client:
            wait_until(lambda: handlers() > before, seconds=2)
            assert client.recv(10) == b"HTTP/1.0 2"
            wait_until(lambda: handlers() == before, seconds=2)


def test_a_connection_that_says_nothing_ends_in_time():
    with running(request_seconds=0.3) as server, opened(server, b"") as client:
        begun = time.monotonic()
        assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - begun < 2


def test_threads_are_few_and_the_newest_is_answered():
    with running(request_seconds=30, most_connections=4) as server, contextlib.ExitStack() as stack:
        before = handlers()
        clients = []
        for _ in range(12):
            clients.append(stack.enter_context(opened(server, b"GET / HT")))
        begun = time.monotonic()
        assert answer(server) == CONTENT
        assert time.monotonic() - begun < 5
        assert handlers() - before <= 4
        assert clients[0].recv(9) == b"", "the oldest makes room"
        clients[-1].sendall(request(server).removeprefix(b"GET / HT"))
        assert clients[-1].recv(15) == b"HTTP/1.0 200 OK"


def test_what_is_whole_is_not_closed_for_others():
    with running(request_seconds=30, most_connections=2) as server, contextlib.ExitStack() as stack:
        slow = stack.enter_context(opened(server, request(server, "/large")))
        assert slow.recv(15) == b"HTTP/1.0 200 OK"
        for _ in range(6):
            stack.enter_context(opened(server, b"GET"))
        assert answer(server) == CONTENT
        count = 15
        while part := slow.recv(2**20):
            count += len(part)
        assert count > len(LARGE)


def test_a_page_with_all_its_files_comes_at_once():
    with running() as server:
        begun = time.monotonic()
        for _ in range(50):
            assert answer(server) == CONTENT
        assert time.monotonic() - begun < 3
