"""Download input files over HTTP, with limits of size, time and redirects.

Addresses of a private network are allowed: a hospital's archive has one. The environment's proxies and `.netrc` are not
used. Messages contain neither credentials nor queries, and no text of the HTTP library, which quotes whole addresses.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import requests

from mrcnn.errors import InputError

SCHEMES = ("http", "https")
CHUNK_BYTES = 1 << 16
SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/tiff": ".tif", "image/bmp": ".bmp", "application/dicom": ".dcm",
    "video/mp4": ".mp4", "video/x-msvideo": ".avi",
}  # fmt: skip


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of one download.

    Attributes:
        max_bytes: size of the file.
        total_seconds: time from the name look-up to the last byte.
        connect_seconds, read_seconds: time to connect, and between two packets.
        max_redirects: number of redirects followed.
    """

    max_bytes: int = 512 << 20
    total_seconds: float = 120
    connect_seconds: float = 15
    read_seconds: float = 60
    max_redirects: int = 5


def is_web_address(text: str) -> bool:
    """Return True for an http or https address and False for a path. Raises `InputError` for another scheme."""
    scheme, separator, _ = text.partition("://")
    if not separator or "/" in scheme:
        return False
    if scheme.lower() not in SCHEMES:
        raise InputError(f"{redact_address(text)}: expected http:// or https://")
    return True


def redact_address(address: str) -> str:
    """Remove credentials, query, fragment and unprintable characters from an address."""
    text = address.partition("://")[0] + "://…"
    try:
        parts = urlsplit(address)
        # A slash in a password ends the host, so that the password looks like a port or a path.
        if parts.port != 0 and "@" not in parts.path:
            text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        pass
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def download(address: str, folder: Path, *, limits: DownloadLimits = DownloadLimits()) -> Path:
    """Download a file into `folder` and return its path; the file name comes from the address.

    Raises:
        InputError: the address is malformed, the server cannot be reached or does not return a file, or the file
            exceeds a limit.
    """
    name = redact_address(address)
    _check_address(address, name)
    deadline = time.monotonic() + limits.total_seconds
    result: list[Path | InputError] = []

    def transfer() -> None:
        try:
            result.append(_transfer(address, folder, name, limits, deadline))
        except InputError as error:
            result.append(error)
        except requests.TooManyRedirects:
            result.append(InputError(f"{name}: more than {limits.max_redirects} redirects"))
        except requests.exceptions.InvalidSchema:
            result.append(InputError(f"{name}: redirects to another scheme; expected http or https"))
        except Exception as error:  # noqa: BLE001 - from requests, urllib3, ssl or the disk, for one input of several
            result.append(InputError(f"{name}: download failed ({type(error).__name__})"))

    # The timeouts of requests restart with each packet, so only a second thread can enforce the total time.
    thread = threading.Thread(target=transfer, daemon=True)
    thread.start()
    thread.join(limits.total_seconds)
    if not result or time.monotonic() > deadline:
        raise InputError(f"{name}: takes longer than {limits.total_seconds:g} s")
    if isinstance(result[0], InputError):
        raise result[0]
    return result[0]


def _check_address(address: str, name: str) -> None:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{name}: expected an address such as https://example.org/image.png") from error
    if not parts.hostname or port == 0 or parts.username or parts.password:
        raise InputError(f"{name}: expected an address with a host, and without user name and password")
    if not address.isprintable() or " " in address:
        raise InputError(f"{name}: expected an address without spaces")


def _transfer(address: str, folder: Path, name: str, limits: DownloadLimits, deadline: float) -> Path:
    def check_redirect(response: requests.Response, **_: object) -> None:
        if response.is_redirect:
            response.close()  # requests would read its body, which has no limit of size
            target = urljoin(response.url, response.headers["location"])
            if urlsplit(response.url).scheme == "https" and urlsplit(target).scheme == "http":
                raise InputError(f"{name}: redirects from https to http; expected https")

    with requests.Session() as session:
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        session.max_redirects = limits.max_redirects
        session.hooks["response"].append(check_redirect)
        headers = {"User-Agent": "medmrcnn", "Accept-Encoding": "identity"}
        timeout = (limits.connect_seconds, limits.read_seconds)
        with session.get(address, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code != 200:
                raise InputError(f"{name}: the server returned status {response.status_code}; expected a file")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise InputError(f"{name}: the server returned a compressed body; expected an uncompressed one")
            path = folder / _file_name(response)
            size = response.raw.length_remaining or 0
            with path.open("wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    size = max(size, file.tell() + len(chunk))
                    if size > limits.max_bytes:
                        raise InputError(f"{name}: is larger than {limits.max_bytes >> 20} MiB")
                    if time.monotonic() > deadline:
                        raise TimeoutError  # the caller has reported it; this thread ends
                    file.write(chunk)
            return path


def _file_name(response: requests.Response) -> str:
    name = unquote(PurePosixPath(urlsplit(response.url).path).name)
    name = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name)
    name = name.strip(". ")[-100:] or "download"
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return name if PurePosixPath(name).suffix else name + SUFFIXES.get(content_type, "")
