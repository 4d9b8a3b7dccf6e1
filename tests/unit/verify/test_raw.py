"""Raw requests share a connection, and a connection that the other side has closed costs no answer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.raw import RawConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
HANGS_UP = b"HTTP/1.1"
SILENCE = b""


@contextlib.contextmanager
def answering(*connections: list[bytes]) -> Iterator[tuple[RawConnection, list[int]]]:
    """Answer the requests of each connection in turn with these bytes, then hang up; how many requests each had."""
    asked: list[int] = []

    def serve(listener: socket.socket) -> None:
        for answers in connections:
            peer = listener.accept()[0]
            asked.append(0)
            with peer:
                for answer in answers:
                    peer.recv(65536)
                    asked[-1] += 1
                    peer.sendall(answer)
                    if answer is SILENCE:
                        peer.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        endpoint = Endpoint("llm", "gpu-1", "vllm-llm.service", "llm", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with contextlib.closing(RawConnection(endpoint, timeout=0.5)) as connection:
            yield connection, asked
        thread.join()


def get(connection: RawConnection) -> int:
    return connection.send("GET", "/", None, {}).status


def test_requests_share_a_connection() -> None:
    with answering([OK, OK, OK]) as (connection, asked):
        assert [get(connection) for _ in range(3)] == [200] * 3
    assert asked == [3]


@pytest.mark.parametrize("last", [OK, LAST])
def test_a_connection_that_was_closed_after_an_answer_is_opened_anew(last: bytes) -> None:
    with answering([last], [OK]) as (connection, asked):
        assert [get(connection) for _ in range(2)] == [200] * 2
    assert asked == [1, 1]


def test_a_first_request_that_gets_no_answer_is_not_asked_again() -> None:
    with answering([HANGS_UP]) as (connection, asked), pytest.raises(http.client.HTTPException):
        get(connection)
    assert asked == [1]


def test_a_request_that_nobody_answers_in_time_is_not_asked_again() -> None:
    with answering([OK, SILENCE]) as (connection, asked):
        assert get(connection) == 200
        with pytest.raises(TimeoutError):
            get(connection)
    assert asked == [2]
