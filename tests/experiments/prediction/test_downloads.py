import http.server
import socket
import threading
import time

import pytest

from experiments.prediction.downloads import DownloadLimits, download, is_web_address, redact_address
from mrcnn.errors import InputError

CONTENT = bytes(range(256)) * 40
REQUESTS = []  # path and headers of each request


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        REQUESTS.append((self.path, self.headers))
        page = self.path.partition("?")[0]
        if page.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", {"/to/file": "/a.png", "/to/self": "/to/self"}.get(page, page[4:]))
            self.end_headers()
            return
        if page == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        if page == "/slow":
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return
        if page == "/zip":
            self.send_header("Content-Encoding", "gzip")
        if page == "/short":
            self.send_header("Content-Length", str(len(CONTENT) + 9))
        elif page not in ("/no-length", "/slow"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """Address of a server on the loopback interface: private addresses are allowed."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture
def serve_endlessly():
    """Start a server that sends `first`, then `repeated` until the client disconnects; returns its port."""

    def start(first, repeated):
        listening = socket.create_server(("127.0.0.1", 0))

        def serve():
            with listening, listening.accept()[0] as connection:
                connection.recv(1 << 16)
                try:
                    connection.sendall(first)
                    while True:
                        connection.sendall(repeated)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return listening.getsockname()[1]

    return start


def test_file_is_downloaded_from_a_private_address(server, tmp_path):
    path = download(f"{server}/scans/a%20b.png?key=1", tmp_path)
    assert (path.name, path.read_bytes()) == ("a b.png", CONTENT)
    assert REQUESTS[-1][0] == "/scans/a%20b.png?key=1"
    path = download(f"{server}/no-length", tmp_path)
    assert (path.name, path.read_bytes()) == ("no-length.png", CONTENT)  # the suffix comes from the content type
    assert download(f"{server}/..%2F..%2Fetc%2Fé.png", tmp_path).name == "_.._etc_é.png"


def test_environment_adds_no_proxy_and_no_credentials(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    download(f"{server}/a.png", tmp_path)
    assert "Authorization" not in REQUESTS[-1][1]


def test_redirects(server, tmp_path):
    assert download(f"{server}/to/file", tmp_path).read_bytes() == CONTENT
    before = len(REQUESTS)
    with pytest.raises(InputError, match="more than 5 redirects"):
        download(f"{server}/to/self", tmp_path)
    assert len(REQUESTS) == before + 6
    with pytest.raises(InputError, match="redirects to another scheme; expected http or https"):
        download(f"{server}/to/file:///etc/passwd", tmp_path)


@pytest.mark.parametrize(
    ("page", "limits", "message"),
    [
        ("a.png", {"max_bytes": 1000}, "is larger than 0 MiB"),
        ("no-length", {"max_bytes": 1000}, "is larger than 0 MiB"),
        ("short", {}, "download failed"),
        ("gone", {}, "the server returned status 404; expected a file"),
        ("zip", {}, "compressed body"),
        ("slow", {"total_seconds": 0.4}, r"takes longer than 0\.4 s"),
        ("to/http://127.0.0.1:1/?key=secret", {}, "download failed"),
    ],
)
def test_limits_and_errors(server, tmp_path, page, limits, message):
    start = time.monotonic()
    with pytest.raises(InputError, match=message) as error:
        download(f"{server}/{page}?key=secret", tmp_path, limits=DownloadLimits(**limits))
    assert time.monotonic() - start < 2
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("limits", [{"total_seconds": 0.3}, {"read_seconds": 0.3}])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silent_server(tmp_path, scheme, limits):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        limits = DownloadLimits(**{"connect_seconds": 0.3, **limits})
        with pytest.raises(InputError, match=r"takes longer than 0\.3 s|download failed \(.*Timeout\)"):
            download(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a.png", tmp_path, limits=limits)
        assert time.monotonic() - start < 2


def test_slow_name_look_up(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"http://host/a\.png: takes longer than 0\.2 s"):
        download("http://host/a.png", tmp_path, limits=DownloadLimits(total_seconds=0.2))
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("first", "repeated", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", "download failed"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096, "download failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + bytes(1024) + b"\r\n", "is larger"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", bytes(1024), "is larger"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", bytes(1024), "is larger"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", bytes(1 << 20), "download failed"),
    ],
)
def test_endless_responses(serve_endlessly, tmp_path, first, repeated, message):
    address = f"http://127.0.0.1:{serve_endlessly(first, repeated)}/a.png"
    with pytest.raises(InputError, match=message):
        download(address, tmp_path, limits=DownloadLimits(max_bytes=1 << 16, total_seconds=3))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 16


def test_web_addresses_and_paths():
    assert is_web_address("https://host/a.png") and is_web_address("HTTP://host")
    assert not is_web_address("scans/a.png") and not is_web_address("C:\\scans") and not is_web_address("a/b://c")
    with pytest.raises(InputError, match=r"ftp://host/a\.png: expected http:// or https://"):
        is_web_address("ftp://host/a.png")


@pytest.mark.parametrize(
    ("address", "redacted"),
    [
        ("http://", "http://"),
        ("http://ho st/", "http://ho st/"),
        ("http://me:secret@host:1/a.png?secret#secret", "http://host:1/a.png"),
        ("http://me:sec/secret@host/a.png", "http://…"),
        ("http://me/secret@localhost/a.png", "http://…"),
        ("http://[::1/secret", "http://…"),
        ("http://host:99999/secret", "http://…"),
        ("http://host/a\x1b[2J\x9b1m.png", "http://host/a?[2J?1m.png"),
    ],
)
def test_messages_contain_no_secret(address, redacted, tmp_path):
    assert redact_address(address) == redacted
    with pytest.raises(InputError) as error:
        download(address, tmp_path, limits=DownloadLimits(total_seconds=5, connect_seconds=1))
    assert str(error.value).startswith(f"{redacted}: ") and "secret" not in str(error.value)
