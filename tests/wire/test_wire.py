"""Commands and events over real sockets: answered once, never crashed, nothing queued stale, gaps noticed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cell.errors import ConfigurationError, NotFound, PeerTimeout, ProtocolError, StateError
from cell.events import Event, JobStarted
from cell.store.layout import StateDir
from cell.store.line import LineStore
from cell.wire.client import Client, Subscriber
from cell.wire.messages import MAX_MESSAGE
from cell.wire.server import Request, Server
from tests.wire.servers import echo, serving


@pytest.fixture
def addresses(tmp_path: Path) -> tuple[str, str]:
    return f"ipc://{tmp_path}/c", f"ipc://{tmp_path}/e"


def test_a_command_is_answered_with_its_result(addresses: tuple[str, str]) -> None:
    with serving(*addresses), Client(addresses[0]) as client:
        assert client.call("inspectd.ping", {"a": [1, "ä"]}) == {
            "command": "inspectd.ping",
            "arguments": {"a": [1, "ä"]},
        }


def test_an_error_comes_back_as_the_class_of_the_tree(addresses: tuple[str, str]) -> None:
    def refuse(request: Request) -> dict[str, Any]:
        raise {"a": NotFound, "b": StateError}[request.command.command]("there is no such thing; look again")

    with serving(*addresses, refuse), Client(addresses[0]) as client:
        with pytest.raises(NotFound, match="look again"):
            client.call("a")
        with pytest.raises(StateError):
            client.call("b")


def test_a_handler_that_breaks_is_answered_and_the_next_command_too(addresses: tuple[str, str]) -> None:
    def broken(request: Request) -> dict[str, Any]:
        return {"value": 1 // (0 if request.command.command == "break" else 1)}

    with serving(*addresses, broken), Client(addresses[0]) as client:
        with pytest.raises(StateError, match="journal"):
            client.call("break")
        assert client.call("go on") == {"value": 1}


def test_an_absent_server_is_named_and_gets_no_stale_command(addresses: tuple[str, str]) -> None:
    seen: list[str] = []

    def note(request: Request) -> dict[str, Any]:
        seen.append(request.command.command)
        return {}

    with Client(addresses[0], timeout_s=0.1) as client:
        with pytest.raises(PeerTimeout, match="is inspectd running"):
            client.call("stale")
        with serving(*addresses, note):
            client.call("fresh", timeout_s=5)
    assert seen == ["fresh"]


def test_the_last_words_of_a_server_that_ends_are_heard_by_a_client_that_is_late_to_listen(
    addresses: tuple[str, str],
) -> None:
    gone = threading.Event()
    looks: list[float] = []

    def serve_one() -> None:
        server = Server(*addresses, echo)
        while not looks[1:]:
            server.turn(0.01)
        server.turn(0.5)
        server.close()
        gone.set()

    def busy() -> float:
        """The client's clock; after it has sent, its thread gets no turn until the server is gone."""
        looks.append(time.monotonic())
        if len(looks) == 3:
            assert gone.wait(5)
            threading.Event().wait(0.2)  # its socket takes note of the end meanwhile
        return looks[0]

    server = threading.Thread(target=serve_one, name="test-server")
    server.start()
    with Client(addresses[0], clock=busy) as client:
        assert client.call("last")["command"] == "last"
    server.join(5)


def test_deferred_answers_come_from_any_thread_and_only_once(addresses: tuple[str, str]) -> None:
    outcomes: list[bool] = []
    threads: list[threading.Thread] = []

    def later(request: Request) -> None:
        def work() -> None:
            outcomes.append(request.answer({"n": request.command.arguments["n"]}))
            outcomes.append(request.answer({"n": "again"}))
            outcomes.append(request.refuse(StateError("too late")))

        thread = threading.Thread(target=work, name="later")
        threads.append(thread)
        thread.start()

    with serving(*addresses, later), Client(addresses[0]) as client:
        assert [client.call("x", {"n": n})["n"] for n in range(20)] == list(range(20))
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 20
    assert outcomes.count(False) == 40


def test_an_id_is_answered_from_the_ledger_without_a_second_effect(addresses: tuple[str, str], tmp_path: Path) -> None:
    effects: list[str] = []

    def effect(request: Request) -> dict[str, Any]:
        effects.append(request.request_id)
        return {"n": len(effects)}

    state = StateDir.create(tmp_path / "state")
    for _ in range(2):  # the second round is after a restart
        with LineStore(state) as store, serving(*addresses, effect, ledger=store.requests):
            with Client(addresses[0]) as client:
                assert client.call("go", {"a": 1}, request_id="one") == {"n": 1}
                assert client.call("go", {"a": 1}, request_id="one") == {"n": 1}
                with pytest.raises(ProtocolError, match="another command"):
                    client.call("go", {"a": 2}, request_id="one")
    assert effects == ["one"]


def test_an_id_asked_again_while_it_is_worked_on_shares_the_answer(addresses: tuple[str, str]) -> None:
    requests: list[Request] = []
    arrived = threading.Event()

    def hold(request: Request) -> dict[str, Any] | None:
        if request.command.command == "release":
            requests[0].answer({"done": True})
            return {}
        requests.append(request)
        arrived.set()
        return None

    with serving(*addresses, hold), Client(addresses[0]) as first, Client(addresses[0]) as second:
        results: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: results.append(first.call("go", request_id="same")), name="asking")
        asking.start()
        assert arrived.wait(5)
        with pytest.raises(PeerTimeout):
            second.call("go", request_id="same", timeout_s=0.2)
        with pytest.raises(ProtocolError, match="in use"):
            second.call("other", request_id="same")
        second.call("release")
        asking.join(5)
        assert results == [{"done": True}]
        assert len(requests) == 1


@pytest.fixture
def served(addresses: tuple[str, str], tmp_path: Path) -> Iterator[tuple[zmq.Socket[bytes], Client]]:
    """A raw socket and a good client at the same server, which keeps a ledger."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with (
        LineStore(StateDir.create(tmp_path / "state")) as store,
        serving(*addresses, ledger=store.requests),
        Client(addresses[0]) as client,
    ):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(addresses[0])
        yield dealer, client
        context.destroy(linger=0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(max_size=20),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
                max_leaves=8,
            ).map(lambda value: json.dumps(value).encode()),
            st.fixed_dictionaries(
                {"request_id": st.text(max_size=200) | st.integers(), "command": st.text(max_size=100) | st.none()},
                optional={"arguments": st.dictionaries(st.text(max_size=5), st.floats() | st.integers(), max_size=2)},
            ).map(lambda value: json.dumps(value).encode()),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_comes_in_is_answered_and_a_good_client_is_still_served(
    served: tuple[zmq.Socket[bytes], Client], frames: list[bytes]
) -> None:
    dealer, client = served
    dealer.send_multipart(frames)
    assert dealer.poll(5000), f"no answer to {frames!r}"
    answer = json.loads(dealer.recv_multipart()[-1])
    assert set(answer) == {"request_id", "error", "message", "result"}
    assert client.call("inspectd.ping", {"n": 1})["arguments"] == {"n": 1}


@pytest.mark.parametrize(
    "half",
    [
        b'{"request_id": "\\ud800", "command": "x"}',
        b'{"request_id": "\xed\xa0\x80", "command": "x"}',
        b'{"request_id": "a", "command": "x", "arguments": {"\\udc00": 1}}',
    ],
)
def test_half_a_character_is_told_and_ends_nothing(served: tuple[zmq.Socket[bytes], Client], half: bytes) -> None:
    dealer, client = served
    assert _answer(dealer, half)["error"] == ProtocolError.code
    assert client.call("x", {"a": "\U0001f642"})["arguments"] == {"a": "\U0001f642"}, "two halves are one character"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000])
def test_a_number_that_json_lacks_is_told_and_ends_nothing(
    served: tuple[zmq.Socket[bytes], Client], number: bytes
) -> None:
    dealer, client = served
    assert _answer(dealer, b'{"request_id": "a", "command": "x", "arguments": {"n": %s}}' % number)["error"] == (
        ProtocolError.code
    )
    assert client.call("x", {"n": 1.5})["arguments"] == {"n": 1.5}


def _answer(dealer: zmq.Socket[bytes], message: bytes) -> dict[str, Any]:
    dealer.linger, dealer.rcvtimeo = 0, 5000
    dealer.send(message)
    answer: dict[str, Any] = json.loads(dealer.recv())
    return answer


def test_a_req_socket_with_its_empty_delimiter_is_served(addresses: tuple[str, str]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with serving(*addresses):
        req = context.socket(zmq.REQ)
        req.connect(addresses[0])
        req.send(b'{"request_id": "r1", "command": "x"}')
        assert req.poll(5000)
        assert json.loads(req.recv())["request_id"] == "r1"
    context.destroy(linger=0)


def test_too_long_is_told_and_far_too_long_cuts_only_that_client_off(addresses: tuple[str, str]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with serving(*addresses), Client(addresses[0]) as client:
        with pytest.raises(ProtocolError, match="at most"):
            client.call("x", {"a": "b" * MAX_MESSAGE})
        dealer = context.socket(zmq.DEALER)
        dealer.connect(addresses[0])
        dealer.send(b"x" * (MAX_MESSAGE + 1000))
        assert dealer.poll(5000)
        assert "accepted" in json.loads(dealer.recv())["message"]
        dealer.send(b"x" * (2 * MAX_MESSAGE))
        assert not dealer.poll(300)
        assert client.call("still here")["command"] == "still here"
    context.destroy(linger=0)


def test_a_client_that_left_does_not_stop_the_server(addresses: tuple[str, str]) -> None:
    held: list[Request] = []

    def hold(request: Request) -> dict[str, Any] | None:
        if request.command.command == "answer the dead":
            for dead in held:
                dead.answer({})
            return {}
        held.append(request)
        return None

    with serving(*addresses, hold) as server, Client(addresses[0]) as client:
        for _ in range(50):  # libzmq notices a closed connection a little later than it is closed
            with Client(addresses[0]) as gone, pytest.raises(PeerTimeout):
                gone.call("go", timeout_s=0.05)
            client.call("answer the dead")
            if server.unroutable:
                break
        assert server.unroutable
        assert client.call("answer the dead") == {}


def test_a_taken_ipc_address_is_refused_and_its_owner_goes_on(addresses: tuple[str, str]) -> None:
    with serving(*addresses), Client(addresses[0]) as client:
        with pytest.raises(ConfigurationError, match="in use"):
            Server(*addresses, echo)
        assert client.call("still mine")["command"] == "still mine"


def test_a_taken_port_is_refused_in_one_line(tmp_path: Path) -> None:
    with serving("tcp://127.0.0.1:*", f"ipc://{tmp_path}/e") as server:
        with pytest.raises(ConfigurationError, match="in use") as caught:
            Server(server.commands, f"ipc://{tmp_path}/e2", echo)
        assert "\n" not in str(caught.value)


def test_a_left_over_socket_file_is_taken_over(addresses: tuple[str, str]) -> None:
    # A killed process leaves its file behind, with nobody listening.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(addresses[0].removeprefix("ipc://"))
    with serving(*addresses), Client(addresses[0]) as client:
        assert client.call("x")["command"] == "x"


@pytest.mark.parametrize(
    "address", ["", "tcp://", "tcp://127.0.0.1", "udp://127.0.0.1:1", "ipc://", f"ipc:///{'x' * 200}"]
)
def test_an_address_that_can_not_be_is_a_configuration_error(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Server(address, f"ipc://{tmp_path}/e", echo)


def _event(sequence: int) -> Event:
    return JobStarted(at=datetime.now(UTC), sequence=sequence, job_id=f"j{sequence}", part_id="p")


def _subscribed(server: Server, subscriber: Subscriber) -> None:
    # PUB forgets what it sends before the subscription has arrived.
    for _ in range(200):
        server.publish(JobStarted(at=datetime.now(UTC), sequence=0, job_id="hello", part_id="p"))
        if subscriber.next(0.05) is not None:
            break
    while subscriber.next(0.05) is not None:
        pass


def test_a_gap_is_filled_from_the_store_in_order(addresses: tuple[str, str]) -> None:
    stored = [_event(n) for n in range(1, 10)]
    with serving(*addresses) as server:
        with Subscriber(addresses[1], refill=lambda n: stored[n:], since=2) as subscriber:
            # What lies between 2 and now comes from the store first.
            assert [subscriber.next(1) for _ in range(7)] == stored[2:]
            _subscribed(server, subscriber)
            stored.extend(_event(n) for n in range(10, 15))
            server.publish(stored[13])
            assert [subscriber.next(5) for _ in range(5)] == stored[9:14]
            server.publish(stored[9])  # an old one that comes late is not given twice
            server.publish(_event(15))
            following = subscriber.next(5)
            assert following is not None
            assert following.sequence == 15
            assert subscriber.missed == 0


def test_a_gap_is_counted_when_nothing_fills_it(addresses: tuple[str, str]) -> None:
    with serving(*addresses) as server, Subscriber(addresses[1]) as subscriber:
        _subscribed(server, subscriber)
        for number in (3, 4, 8):
            server.publish(_event(number))
        assert [event.sequence for event in subscriber.stream(1.0)] == [3, 4, 8]
        assert subscriber.missed == 3
