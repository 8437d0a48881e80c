"""Who is let in: known keys alone, and nobody when nobody decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import zmq

from cell.errors import ConfigurationError, DataError, PeerTimeout
from cell.wire import security
from cell.wire.client import Client
from cell.wire.server import Server
from tests.wire.servers import echo, serving

LOOPBACK = "tcp://127.0.0.1:*"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    security.create_server_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_secrets_are_for_their_owner_alone(keys: Path) -> None:
    for secret in keys.rglob("*.secret"):
        assert secret.stat().st_mode & 0o777 == 0o600
    (keys / "server.secret").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Server(LOOPBACK, "tcp://127.0.0.1:*", echo, keys=keys)


def test_keys_are_never_written_over(keys: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        security.create_server_keys(keys)
    with pytest.raises(DataError, match="already"):
        security.issue_client(keys, "local", keys.parent / "x")
    with pytest.raises(DataError, match="not usable"):
        security.issue_client(keys, "../evil", keys.parent / "x")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://192.0.2.1:5000", "tcp://plc.example:1"])
def test_an_address_that_leaves_the_host_needs_keys(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="keys"):
        Server(address, f"ipc://{tmp_path}/e", echo)
    with pytest.raises(ConfigurationError, match="keys"):
        Client(address)


def test_known_keys_get_in_and_a_client_issued_later_too(keys: Path, tmp_path: Path) -> None:
    with serving(LOOPBACK, LOOPBACK, keys=keys) as server:
        with Client(server.commands, keys) as local:
            assert local.call("x")["command"] == "x"
        security.issue_client(keys, "plc", tmp_path / "plc")
        with Client(server.commands, tmp_path / "plc") as plc:
            assert plc.call("y")["command"] == "y"


def test_an_unknown_key_is_refused_by_name_and_counted(keys: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    security.create_server_keys(stranger)
    shutil.copy(keys / "server.key", stranger / "server.key")
    with serving(LOOPBACK, LOOPBACK, keys=keys) as server:
        with Client(server.commands, stranger, timeout_s=0.7) as client, pytest.raises(PeerTimeout):
            client.call("x")
        assert server.refused_handshakes >= 1
        with Client(server.commands, keys) as local:
            assert local.call("still served")["command"] == "still served"


def test_a_client_whose_key_is_taken_away_is_out_at_its_next_connection(keys: Path, tmp_path: Path) -> None:
    security.issue_client(keys, "plc", tmp_path / "plc")
    with serving(LOOPBACK, LOOPBACK, keys=keys) as server:
        with Client(server.commands, tmp_path / "plc") as plc:
            plc.call("x")
        (keys / "clients" / "plc.key").unlink()
        with Client(server.commands, tmp_path / "plc", timeout_s=0.7) as plc, pytest.raises(PeerTimeout):
            plc.call("x")


def test_a_client_without_encryption_is_refused(keys: Path) -> None:
    with serving(LOOPBACK, LOOPBACK, keys=keys) as server:
        with Client(server.commands, timeout_s=0.7) as plain, pytest.raises(PeerTimeout):
            plain.call("x")


def test_nobody_gets_in_when_nobody_answers_the_handshake(keys: Path) -> None:
    # A secured socket in a context without a doorkeeper: the enforced domain must fail closed.
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    security.secure_server(router, keys)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    with Client(f"tcp://127.0.0.1:{port}", keys, timeout_s=0.7) as client, pytest.raises(PeerTimeout):
        client.call("x")
    assert not router.poll(0)
    context.destroy(linger=0)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 41, b"\xff" * 40, b"~" * 40])
def test_what_is_no_key_is_told_in_one_line(keys: Path, content: bytes) -> None:
    (keys / "server.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a CURVE key"):
        Server(LOOPBACK, LOOPBACK, echo, keys=keys)


def test_a_missing_key_is_told(keys: Path) -> None:
    (keys / "client.key").unlink()
    with pytest.raises(ConfigurationError, match="can't read the key"):
        Client("tcp://127.0.0.1:1", keys)
