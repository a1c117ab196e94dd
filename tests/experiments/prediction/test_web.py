import http.server
import socket
import threading
import time

import pytest

from experiments.prediction.web import Limits, connect, fetch, is_address, is_public, shown
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
        ("ff0e::1", False),
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
