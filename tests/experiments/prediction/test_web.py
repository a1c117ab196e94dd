import http.server
import socket
import threading
import time

import pytest

from experiments.prediction.downloads import Limits, connect, fetch, is_address, is_public, shown
from mrcnn.errors import InputError

PUBLIC = "93.184.216.34"
CONTENT = bytes(range(256)) * 40
SEEN = []  # (host, path) of every request


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        SEEN.append((self.headers["Host"], self.path))
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
        elif page not in ("/unsaid", "/slow"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1]
        running.shutdown()


@pytest.fixture
def get(server, tmp_path):
    """Fetches a page of the test's server as if it stood at a public address, whatever its name."""

    def get(address, *, names=None, **limits):
        def resolver(host, port):
            return (names or {}).get(host, [PUBLIC])

        def connector(address, port, timeout):
            assert address == PUBLIC
            return connect("127.0.0.1", server, timeout)

        return fetch(address, tmp_path, limits=Limits(**limits), resolver=resolver, connector=connector)

    return get


def test_a_file_arrives_as_it_is(get):
    path = get("http://host/scans/a%20b.png?key=1")
    assert (path.name, path.read_bytes()) == ("a b.png", CONTENT)
    assert SEEN[-1] == ("host", "/scans/a%20b.png?key=1")
    assert get("http://host/unsaid").read_bytes() == CONTENT
    assert get("http://host/unsaid").name == "unsaid.png"  # from its content type
    assert get("http://host/..%2F..%2Fetc%2Fé.png").name == "_.._etc_é.png"


def test_it_follows_to_public_addresses_and_checks_every_hop(get):
    assert get("http://host/to/file").read_bytes() == CONTENT
    before = len(SEEN)
    with pytest.raises(InputError, match=r"^http://host/to/http://inner/a.png: inner is no public address"):
        get("http://host/to/http://inner/a.png", names={"inner": ["10.0.0.7"]})
    assert len(SEEN) == before + 1  # inner was never asked
    with pytest.raises(InputError, match=r"169\.254\.169\.254 is no public address"):
        get("http://host/to/http://169.254.169.254/meta", names={"169.254.169.254": ["169.254.169.254"]})
    with pytest.raises(InputError, match="leads on more than 5 times"):
        get("http://host/to/self")
    with pytest.raises(InputError, match="leads to file:; expected http or https"):
        get("http://host/to/file:///etc/passwd")


def test_one_private_address_among_public_ones_is_enough(get):
    with pytest.raises(InputError, match="host is no public address"):
        get("http://host/a.png", names={"host": [PUBLIC, "127.0.0.1"]})


def test_loopback_is_refused_as_it_comes(server, tmp_path):
    before = len(SEEN)
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]"):
        with pytest.raises(InputError, match=r"is no public address|is not known"):
            fetch(f"http://{host}:{server}/a.png", tmp_path)
    assert len(SEEN) == before


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("fe80::1%eth0", False),
        ("fd00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
        ("ff0e::1", False), ("::7f00:1", False), ("::a00:1", False), ("64:ff9b:1::a00:1", False), ("4000::1", False),
        ("2001:db8::1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::5db8:d822", True),
    ],
)  # fmt: skip
def test_what_is_public(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("page", "limits", "told"),
    [
        ("a.png", {"size": 1000}, "is larger than 0 MiB"),
        ("unsaid", {"size": 1000}, "is larger than 0 MiB"),
        ("short", {}, r"broke off|IncompleteRead"),
        ("gone", {}, "the server answers 404; expected a file"),
        ("zip", {}, "comes compressed"),
    ],
)
def test_limits_and_refusals_are_told(get, page, limits, told):
    with pytest.raises(InputError, match=told):
        get(f"http://host/{page}?key=secret", **limits)


def test_a_server_that_drips_is_cut_off(get):
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^http://host/slow: takes longer than 0.4 s$"):
        get("http://host/slow", seconds=0.4)
    assert time.monotonic() - start < 2


def test_a_server_that_says_nothing_is_cut_off(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in ("http", "https"):
            start = time.monotonic()
            with pytest.raises(InputError, match=r"takes longer than 0\.3 s"):
                fetch(
                    f"{scheme}://host/a.png",
                    tmp_path,
                    limits=Limits(seconds=0.3),
                    resolver=lambda *_: [PUBLIC],
                    connector=lambda _, __, timeout: connect("127.0.0.1", silent.getsockname()[1], timeout),
                )
            assert time.monotonic() - start < 2


@pytest.mark.parametrize("address", ["http://", "http://host:99999/", "http://me:hidden@host/", "http://ho st/"])
def test_what_is_no_address(get, address):
    with pytest.raises(InputError, match="expected an address") as told:
        get(address)
    assert "hidden" not in str(told.value)


def test_words_that_are_addresses():
    assert is_address("https://host/a.png") and is_address("HTTP://host")
    assert not is_address("scans/a.png") and not is_address("C:\\scans") and not is_address("a/b://c")
    assert shown("https://me:word@host:1/a?b=c#d") == "https://host:1/a"


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(server, tmp_path):
    asked, connected = [], []

    def rebinding(host, port):
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    def connector(address, port, timeout):
        connected.append(address)
        return connect("127.0.0.1", server, timeout)

    assert fetch("http://host/a.png", tmp_path, resolver=rebinding, connector=connector).read_bytes() == CONTENT
    assert (asked, connected) == (["host"], [PUBLIC])
    asked.clear()
    with pytest.raises(InputError, match="host is no public address"):  # the second hop looks up anew
        fetch("http://host/to/file", tmp_path, resolver=rebinding, connector=connector)
    assert connected == [PUBLIC, PUBLIC]


@pytest.mark.parametrize("host", ["0177.0.0.1", "0x7f.1", "0x7f000001", "017700000001", "127.0.0.1.", "①②⑦.0.0.1"])
def test_loopback_in_other_numbers(server, tmp_path, host):
    before = len(SEEN)
    with pytest.raises(InputError, match=r"is no public address|is not known"):
        fetch(f"http://{host}:{server}/a.png", tmp_path)
    assert len(SEEN) == before


def test_a_name_server_that_does_not_answer_takes_no_longer_than_allowed(tmp_path):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"http://host/a\.png: takes longer than 0\.2 s"):
        fetch("http://host/a.png", tmp_path, limits=Limits(seconds=0.2), resolver=lambda *_: time.sleep(30))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://me:secret@host/a.png?secret#secret", "http://host/a.png"),
        ("http://me:sec/secret@host/a.png", "http://…"),
        ("http://me/secret@host/a.png", "http://…"),
        ("http://[::1/secret", "http://…"),
        ("http://host:99999/secret", "http://…"),
        ("ftp://[::1/secret", "ftp://…"),
        ("http://host/a\x1b[2J\x9b1m.png", "http://host/a?[2J?1m.png"),
    ],
)
def test_what_is_told_of_an_address(address, told, tmp_path):
    assert shown(address) == told
    with pytest.raises(InputError) as error:
        is_address(address) and fetch(address, tmp_path, resolver=lambda *_: [])
    assert str(error.value).startswith(f"{told}: ") and "secret" not in str(error.value)


def endless(first, then):
    """The port of a server that answers with `first`, and then with `then` until the other side has gone."""

    def serve():
        with listening, listening.accept()[0] as line:
            line.recv(1 << 16)
            line.sendall(first)
            try:
                while True:
                    line.sendall(then)
            except OSError:
                return

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1]


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096, "broke off"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", r"takes longer than 3 s|broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + bytes(1024) + b"\r\n", "is larger"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", bytes(1024), "is larger"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", bytes(1024), "is larger"),
    ],
)
def test_answers_without_end(tmp_path, first, then, told):
    port = endless(first, then)
    with pytest.raises(InputError, match=told):
        fetch(
            "http://host/a.png", tmp_path, limits=Limits(size=1 << 16, seconds=3), resolver=lambda *_: [PUBLIC],
            connector=lambda *_: connect("127.0.0.1", port, 3),
        )  # fmt: skip
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 17
