"""Who may talk to the cell: addresses, CURVE keys and the ZAP answer to each handshake.

An ``ipc`` address is protected by its file's permissions. Every TCP address is CURVE-encrypted as soon as a folder of
keys is configured, and one that is not loopback is refused without. The folder of a server holds ``server.key`` and
``server.secret``, the public key of each client that may connect as ``clients/NAME.key``, and ``client.key`` and
``client.secret`` for the tools on the same machine. A client elsewhere holds ``server.key``, ``client.key`` and
``client.secret``, which :func:`issue_client` writes. Each file is one line of 40 Z85 characters; secrets are made
with mode 0600 and refused when others can read them.

Encryption alone lets any key in, so the handshake goes through ZAP (ZeroMQ RFC 27) with an enforced domain: when nobody
answers there, nobody is let in. Taking a client's file away shuts it out from its next connection on.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import stat
import struct
from pathlib import Path

import zmq
from zmq.utils import z85

from cell.errors import ConfigurationError, DataError

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = "inspectd"
_KEY_LENGTH = 40
#: Longest path of a UNIX socket on Linux, less its terminating zero.
_IPC_PATH_MAX = 107
_IN_USE = "stop the process that listens there or use another address"


def stays_on_host(address: str) -> bool:
    """Tell whether an address is ipc, inproc or TCP on loopback.

    Raises `ConfigurationError` when it is none of ``ipc://PATH``, ``inproc://NAME`` and ``tcp://HOST:PORT``.
    """
    scheme, _, rest = address.partition("://")
    if scheme in {"ipc", "inproc"} and rest:
        return True
    host, colon, _ = rest.rpartition(":")
    if scheme != "tcp" or not colon or not host:
        raise ConfigurationError(f"the address {address!r} is not understood; use ipc://PATH or tcp://HOST:PORT")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def needs_curve(address: str, keys: Path | None) -> bool:
    """Tell whether a socket at `address` speaks CURVE.

    Raises `ConfigurationError` when the address leaves the host and there are no keys.
    """
    local = stays_on_host(address)
    if not local and keys is None:
        raise ConfigurationError(
            f"the address {address} can be reached from other machines; set wire.keys to a folder of CURVE keys "
            "or use ipc:// or 127.0.0.1"
        )
    return keys is not None and address.startswith("tcp://")


def secure_server(server: zmq.Socket[bytes], keys: Path) -> None:
    """Make `server` speak CURVE with the enforced ZAP domain. Call before it binds; raises `ConfigurationError`."""
    server.curve_secretkey = _read_secret(keys / "server.secret")
    server.curve_publickey = _read_key(keys / "server.key")
    server.curve_server = True
    server.zap_domain = ZAP_DOMAIN.encode()
    # Without this option libzmq lets everybody in while no ZAP handler is there.
    server.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(client: zmq.Socket[bytes], keys: Path) -> None:
    """Make `client` speak CURVE. Call before it connects; raises `ConfigurationError`."""
    client.curve_serverkey = _read_key(keys / "server.key")
    client.curve_publickey = _read_key(keys / "client.key")
    client.curve_secretkey = _read_secret(keys / "client.secret")


def create_server_keys(keys: Path) -> None:
    """Write the server's key pair and one for the tools on this machine into `keys`.

    Raises `DataError` when there are keys already, `ConfigurationError` when the folder can't be written.
    """
    _write_pair(keys, "server")
    issue_client(keys, "local", keys)


def issue_client(keys: Path, name: str, target: Path) -> None:
    """Let a new client in: write what it needs into `target` and its public key into ``keys/clients``.

    Raises `DataError` when the name or the target is taken, `ConfigurationError` when files can't be read or written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise DataError(f"the client name {name!r} is not usable; use letters, digits, dots, dashes and underscores")
    allowed = keys / "clients" / f"{name}.key"
    if allowed.exists():
        raise DataError(f"there is a client named {name} already; take {allowed} away first or use another name")
    public = _write_pair(target, "client")
    if target != keys:
        _write(target / "server.key", _read_key(keys / "server.key"), 0o644)
    _write(allowed, public, 0o644)


class Doorkeeper:
    """The ZAP handler of one context; the loop that owns it polls `socket` and calls :meth:`answer`.

    It must exist before a secured socket binds. While the loop does not run, nobody new gets in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Path) -> None:
        self._clients = keys / "clients"
        self.refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)

    def answer(self) -> None:
        """Answer one handshake that waits. Does nothing when none does."""
        try:
            request = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        name = self._name_of(request)
        if name is None:
            self.refused += 1
        status = (b"200", b"OK") if name is not None else (b"400", b"this key is not known here")
        request_id = request[1] if len(request) > 1 else b""
        self.socket.send_multipart([b"1.0", request_id, *status, (name or "").encode(), b""])

    def close(self) -> None:
        """Close the socket; from then on nobody gets in."""
        self.socket.close()

    def _name_of(self, request: list[bytes]) -> str | None:
        # RFC 27: version, request id, domain, address, identity, mechanism, credentials...
        if len(request) != 7 or request[0] != b"1.0" or request[2] != ZAP_DOMAIN.encode() or request[5] != b"CURVE":
            return None
        public = z85.encode(request[6])
        for file in self._clients.glob("*.key"):
            try:
                known = file.read_bytes().strip()
            except OSError:
                continue  # taken away between listing and reading: not known any more
            if known == public:
                return file.stem
        return None


def refuse_taken_ipc(address: str) -> None:
    """Raise `ConfigurationError` when a living process listens at an ipc address, or the path can't be used.

    libzmq unlinks the file of whoever listens there and takes the address over without a word, so it is asked first.
    """
    if not address.startswith("ipc://"):
        return
    path = address.removeprefix("ipc://")
    if len(path.encode()) > _IPC_PATH_MAX:
        raise ConfigurationError(f"the path of {address} is longer than {_IPC_PATH_MAX} bytes; use a shorter one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as error:
            raise ConfigurationError(f"can't use the address {address}: {error.strerror}; check the path") from error
    raise ConfigurationError(f"the address {address} is in use; {_IN_USE}")


def unusable(address: str, error: zmq.ZMQError) -> ConfigurationError:
    """Return the error for an address at which libzmq can't bind or connect."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"the address {address} is in use; {_IN_USE}")
    reason = (error.strerror or "unknown reason").lower()
    return ConfigurationError(f"the address {address} can't be used: {reason}; check the path or the host and port")


def _write_pair(folder: Path, name: str) -> bytes:
    for suffix in ("key", "secret"):
        if (folder / f"{name}.{suffix}").exists():
            raise DataError(f"{folder / name}.{suffix} exists already; take it away first or use another folder")
    public, secret = zmq.curve_keypair()
    _write(folder / f"{name}.secret", secret, 0o600)
    _write(folder / f"{name}.key", public, 0o644)
    return public


def _write(file: Path, data: bytes, mode: int) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # The mode is given at creation: a secret is never readable by others, not even for a moment.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data + b"\n")
    except OSError as error:
        raise ConfigurationError(f"can't write the key {file}: {error.strerror}; check the folder") from error


def _read_key(file: Path) -> bytes:
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"can't read the key {file}: {error.strerror}; make keys with `inspectctl keys`"
        ) from error
    try:
        valid = len(key) == _KEY_LENGTH and len(z85.decode(key)) == 32
    except (ValueError, KeyError, struct.error):
        valid = False
    if not valid:
        raise ConfigurationError(f"{file} is not a CURVE key (one line of 40 Z85 characters); make keys anew")
    return key


def _read_secret(file: Path) -> bytes:
    key = _read_key(file)
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigurationError(f"the secret {file} can be read by others; run chmod 600 on it")
    return key
