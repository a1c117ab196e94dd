"""Files fetched from the web, within limits: public addresses only, so many bytes, so many seconds.

Every hop is resolved once, all its addresses are checked, and the connection goes to a checked one, so that a name
cannot be public when it is looked at and private when it is used. No proxy of the environment is used, and nothing of
the machine's, such as cookies or passwords, is sent.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from mrcnn.errors import InputError

PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16
_SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/tiff": ".tif", "image/bmp": ".bmp", "application/dicom": ".dcm",
    "video/mp4": ".mp4", "video/x-msvideo": ".avi",
}  # fmt: skip

Resolver = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


@dataclass(frozen=True)
class Limits:
    """Of one file: bytes, seconds from the first look-up to the last byte, and hops after the first."""

    size: int = 512 << 20
    seconds: float = 120
    hops: int = 5


def is_address(word: str) -> bool:
    """Whether an input is an address of the web and no path. Raises `InputError` for one of another scheme."""
    scheme, separator, _ = word.partition("://")
    if not separator or "/" in scheme:
        return False
    if scheme.lower() not in PORTS:
        raise InputError(f"{shown(word)}: expected http:// or https://")
    return True


def shown(address: str) -> str:
    """An address without what may be secret in it: name, password, query, fragment; and on one line."""
    scheme = address.partition("://")[0]
    try:
        parts = urlsplit(address)
        clear = parts.port != 0 and "@" not in parts.path
    except ValueError:
        clear = False
    if not clear:  # a password with a slash in it ends the host, and seems to be a port or a path
        return _printable(f"{scheme}://…")
    return _printable(f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, as the machine looks names up."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def connect(address: str, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((address, port), timeout)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet's, also where it wraps one of another version."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):  # RFC 6052, of NAT64
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        # Whatever else has not been given out as an address of the open internet (RFC 4291, section 2.4).
        if found not in ipaddress.ip_network("2000::/3"):
            return False
    return found.is_global and not found.is_multicast


def fetch(
    address: str, folder: Path, *, limits: Limits = Limits(), resolver: Resolver = resolve, connector: Connect = connect
) -> Path:
    """Fetches a file into `folder`, called as the address ends.

    Args:
        resolver: (host, port) → IP addresses.
        connector: (IP address, port, seconds) → a connected socket.

    Raises:
        InputError: the address, or one that it leads to, is not public or of another scheme; the file is too large or
            too slow; the server says no.
    """
    deadline = time.monotonic() + limits.seconds
    hop, name = address, shown(address)
    for _ in range(limits.hops + 1):
        parts = _checked(hop, name)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
        checked = _public_address(host, port, name, resolver, deadline, limits)
        try:
            sock = connector(checked, port, _left(deadline, limits, name))
        except OSError as error:
            raise InputError(f"{name}: cannot be reached ({error.strerror or error})") from error
        # A server that sends a byte now and then never runs into a time-out: at the deadline the line is cut.
        line = [sock]
        watch = threading.Timer(_left(deadline, limits, name), _cut, [line])
        watch.daemon = True
        watch.start()
        try:
            location = _answer(parts, line, folder, name, deadline, limits)
        except (OSError, http.client.HTTPException) as error:
            _left(deadline, limits, name)
            raise InputError(f"{name}: broke off ({type(error).__name__})") from error
        finally:
            watch.cancel()
            line[0].close()
        if isinstance(location, Path):
            return location
        following = urljoin(hop, location)
        if urlsplit(hop).scheme == "https" and urlsplit(following).scheme == "http":
            raise InputError(f"{name}: leads from https to http; expected https")
        hop = following
    raise InputError(f"{name}: leads on more than {limits.hops} times")


def _checked(address: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{name}: expected an address such as https://example.org/image.png") from error
    if parts.scheme not in PORTS:
        raise InputError(f"{name}: leads to {parts.scheme}:; expected http or https")
    if not parts.hostname or port == 0 or parts.username or parts.password:
        raise InputError(f"{name}: expected an address with a host, and no name or password in it")
    if not address.isprintable() or " " in address:
        raise InputError(f"{name}: expected an address without spaces")
    return parts


def _public_address(host: str, port: int, name: str, resolver: Resolver, deadline: float, limits: Limits) -> str:
    """One address of the host; all must be public."""
    found: list[Sequence[str] | Exception] = []

    def look_up() -> None:
        try:
            found.append(resolver(host, port))
        except (OSError, UnicodeError) as error:
            found.append(error)

    # The system takes as long as its name servers let it wait, and cannot be told otherwise.
    looking = threading.Thread(target=look_up, daemon=True)
    looking.start()
    looking.join(_left(deadline, limits, name))
    if looking.is_alive():
        raise _too_slow(name, limits)
    (addresses,) = found
    if isinstance(addresses, Exception):
        raise InputError(f"{name}: {host} is not known") from addresses
    if not addresses or not all(is_public(each) for each in addresses):
        raise InputError(f"{name}: {host} is no public address; files are fetched from the open internet alone")
    return addresses[0]


def _answer(
    parts: SplitResult, line: list[socket.socket], folder: Path, name: str, deadline: float, limits: Limits
) -> Path | str:
    """The file, or where the server leads on to. With TLS the socket in `line` is replaced by that around it."""
    if parts.scheme == "https":
        line[0] = ssl.create_default_context().wrap_socket(
            line[0], server_hostname=parts.hostname, do_handshake_on_connect=False
        )
        line[0].do_handshake()
    talk = http.client.HTTPConnection(parts.hostname, parts.port or PORTS[parts.scheme])
    talk.sock = line[0]
    with talk.sock:
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe="/?%&=:@!$'()*+,;~[]")
        talk.request("GET", target, headers={"User-Agent": "medmrcnn", "Accept-Encoding": "identity"})
        reply = talk.getresponse()
        if reply.status in REDIRECTS and reply.getheader("Location"):
            return reply.getheader("Location")
        if reply.status != 200:
            raise InputError(f"{name}: the server answers {reply.status}; expected a file")
        if reply.getheader("Content-Encoding", "identity") != "identity":
            raise InputError(f"{name}: comes compressed; expected the file as it is")
        if (reply.length or 0) > limits.size:
            raise _too_large(name, limits)
        path = folder / _file_name(parts.path, reply.getheader("Content-Type", ""))
        with path.open("wb") as file:
            _copy(reply, file, name, deadline, limits)
        return path


def _copy(reply: http.client.HTTPResponse, file: BinaryIO, name: str, deadline: float, limits: Limits) -> None:
    expected, size = reply.length, 0
    while chunk := reply.read1(_CHUNK):
        _left(deadline, limits, name)
        size += len(chunk)
        if size > limits.size:
            raise _too_large(name, limits)
        file.write(chunk)
    _left(deadline, limits, name)
    if expected is not None and size != expected:
        raise InputError(f"{name}: broke off after {size} of {expected} bytes")


def _file_name(path: str, content_type: str) -> str:
    name = "".join(
        letter if letter.isalnum() or letter in "._- " else "_" for letter in unquote(PurePosixPath(path).name)
    )
    name = name.strip(". ")[-100:] or "fetched"
    if PurePosixPath(name).suffix:
        return name
    return name + _SUFFIXES.get(content_type.partition(";")[0].strip().lower(), "")


def _left(deadline: float, limits: Limits, name: str) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_slow(name, limits)
    return left


def _too_slow(name: str, limits: Limits) -> InputError:
    return InputError(f"{name}: takes longer than {limits.seconds:g} s")


def _too_large(name: str, limits: Limits) -> InputError:
    return InputError(f"{name}: is larger than {limits.size >> 20} MiB")


def _cut(line: list[socket.socket]) -> None:
    try:
        socket.socket.shutdown(line[0], socket.SHUT_RDWR)  # also of one with TLS, whose own would say goodbye first
    except OSError:
        return  # it has just been closed
