"""The demo's server and page, with a detector that finds squares; the page in a real browser where there is one."""

import base64
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes

from experiments.cli import main
from experiments.commands.demo import command, listening_socket, phantom_files
from experiments.prediction.demo_app import CACHED_IMAGES, CachedImage, Demo, demo_app
from experiments.prediction.item_writer import overlay_picture
from experiments.prediction.results import to_answer
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def scene_png():
    image = np.zeros((90, 120), np.uint8)
    image[10:60, 12:70] = 120
    image[20:40, 24:50] = 230
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return image[..., None], file.getvalue()


@pytest.fixture
def demo(squares, scene_png, tmp_path):
    """Asks a running demo: (status, headers, body); `asked` counts the images that the network saw."""
    asked = []

    def find(images):
        asked.extend(images)
        return squares.find(images)

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
    (tmp_path / "example.png").write_bytes(scene_png[1])
    detector = replace(squares, find=find, findings="none", task="squares", data_name="scenes")
    app = demo_app(
        detector, Limits(megabytes=1, megapixels=1), hosts, model="models:/m@champion",
        examples=[tmp_path / "example.png"],
    )  # fmt: skip
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()

    def ask(path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        answer = response.status, response.headers, response.read().decode()
        connection.close()
        return answer

    while not server.started:
        time.sleep(0.02)
    ask.port, ask.asked = port, asked
    yield ask
    server.should_exit = True
    thread.join()


def test_an_image_is_found_in_once_and_shown_at_any_threshold(demo, squares, scene_png):
    image, file = scene_png
    status, _, text = demo("/find", file)
    assert status == 200, text
    word = json.loads(text)["image"]
    (found,) = squares.find([image])
    for confidence in (0.5, 0.7, 0.95, 0.5):
        status, _, text = demo("/show", json.dumps({"image": word, "confidence": confidence}))
        assert status == 200, text
        answer, expected = json.loads(text), found.above(confidence)
        assert [one["class"] for one in answer["instances"]] == [squares.class_names[i - 1] for i in expected.class_ids]
        assert [one["area"] for one in answer["instances"]] == expected.masks.sum((1, 2)).tolist()
        assert answer["notice"] == "Research use only"
        for one, mask in zip(answer["instances"], expected.masks, strict=True):
            drawn = Image.new("1", (120, 90))
            for outline in one["outlines"]:  # pixel centers are at .5 in outlines, and at whole numbers in Pillow
                ImageDraw.Draw(drawn).polygon([side - 0.5 for side in outline], fill=1)
            filled = binary_fill_holes(mask)  # outlines have no holes
            assert (np.asarray(drawn) & filled).sum() / (np.asarray(drawn) | filled).sum() > 0.9
    assert len(demo.asked) == 1


def test_an_image_is_saved_as_json_mask_and_picture(demo, squares, scene_png):
    image, file = scene_png
    opened = json.loads(demo("/find", file)[2])
    assert (opened["width"], opened["height"]) == (120, 90)
    (found,) = squares.find([image])

    def saved(form):
        status, _, text = demo("/save", json.dumps({"image": opened["image"], "confidence": 0.7, "form": form}))
        assert status == 200, text
        answer = json.loads(text)
        return answer["name"], base64.b64decode(answer["url"].partition(";base64,")[2])

    name, content = saved("json")
    assert (name, json.loads(content)) == ("instances.json", to_answer(found.above(0.7), squares.class_names, {}))
    name, content = saved("mask")
    assert name == "mask.png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), np.where(image[..., 0] >= 200, 2, 0))
    name, content = saved("picture")
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(content))), overlay_picture(image, found.above(0.7), squares.class_names)
    )


def test_an_image_unlike_the_training_images_has_a_warning(squares, scene_png):
    facts = {"image_sizes": {"512×512": 20}, "gray_levels": [0.0] * 15 + [1.0]}
    demo = Demo(replace(squares, fingerprint=facts), Limits())
    size, levels = json.loads(demo.find(scene_png[1]))["warnings"]
    assert size == "The image has 120 × 90 pixels, the training images had 512×512."
    assert levels.startswith("The gray levels are unlike those of the training images: 9")
    assert json.loads(Demo(squares, Limits()).find(scene_png[1]))["warnings"] == []  # nothing is recorded


def test_only_the_last_images_are_kept(demo, scene_png):
    words = [json.loads(demo("/find", scene_png[1])[2])["image"] for _ in range(CACHED_IMAGES + 1)]
    statuses = [demo("/show", json.dumps({"image": word, "confidence": 0.5}))[0] for word in words]
    assert statuses == [400] + [200] * CACHED_IMAGES


def test_masks_are_kept_as_run_lengths_and_large_images_are_fewer(squares, monkeypatch):
    masks = np.zeros((50, 300, 400), bool)
    masks[:, 20:90, 30:200] = True
    scores = np.linspace(1, 0, 50, dtype=np.float32)
    found = Detections(np.zeros((50, 4), np.float32), scores, np.ones(50, np.int32), masks)
    demo = Demo(replace(squares, find=lambda images: [found]), Limits())
    file = io.BytesIO()
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(file, "PNG")
    demo.find(file.getvalue())  # what is imported and compiled then
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(CACHED_IMAGES):
        demo.find(file.getvalue())
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < (CACHED_IMAGES + 1) * 300 * 400 < masks.nbytes  # the images, and little more
    cached = CachedImage.compress(np.zeros((300, 400, 1), np.uint8), None, found)
    np.testing.assert_array_equal(cached.detections.above(0.5).masks, masks[:25])
    monkeypatch.setattr("experiments.prediction.demo_app.CACHED_BYTES", 2 * 300 * 400)
    demo.find(file.getvalue())
    assert len(demo._cache) == 2


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/find", b"", "no bytes; expected a PNG"),
        ("/find", b"hello", "expected a PNG"),
        ("/find", bytes(2 << 20), "body is larger than 1048576 bytes"),
        ("/show", b"", "expected an image and a confidence"),
        ("/show", b"[]", "expected an image and a confidence"),
        ("/show", b'{"image": "x", "confidence": 2}', "confidence: expected a number from 0 to 1"),
        ("/show", b'{"image": "x", "confidence": NaN}', "confidence: expected"),
        ("/show", b'{"image": "x", "confidence": 1' + b"0" * 4000 + b"}", "confidence: expected"),
        ("/show", b'{"image": "x", "confidence": "0.5"}', "confidence: expected"),
        ("/show", b'{"image": "x", "confidence": ' + b"[" * 90_000, "expected an image and a confidence"),
        ("/show", b'{"image": 7, "confidence": 0.5}', "expected an image and a confidence"),
        ("/show", b'{"image": "x", "confidence": 0.5}', "this image is no longer in memory"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(demo, path, body, told):
    status, _, text = demo(path, body)
    assert status == 400 and told in json.loads(text)["message"]


def test_other_sites_are_turned_away(demo, scene_png):
    assert demo("/", Host="evil.example")[0] == 400
    assert demo("/find", scene_png[1], Host=f"evil.example:{demo.port}")[0] == 400
    assert demo("/find", scene_png[1], Origin="https://evil.example")[0] == 400
    assert demo("/find", scene_png[1], Origin="null")[0] == 400
    assert not demo.asked
    assert demo("/find", scene_png[1], Origin=f"http://localhost:{demo.port}")[0] == 200
    assert demo("/docs")[0] == 404 and demo("/openapi.json")[0] == 404


def test_the_page_fetches_nothing_from_elsewhere_and_says_what_it_is_for(demo, read_page):
    status, headers, text = demo("/")
    read = read_page(text)
    assert status == 200 and "Research use only: not a medical device." in read.text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'nonce-")
    assert headers["Cache-Control"] == "no-store"
    assert "models:/m@champion" in read.text and "scenes" in read.text and "bright" in read.text
    assert all(source.startswith("data:image/") for source in read.values("src"))
    assert not read.values("href") and "://" not in text
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=60)
    connection.request("GET", "/examples/1")
    assert Image.open(io.BytesIO(connection.getresponse().read())).size == (120, 90)
    assert demo("/examples/2")[0] == 404 and demo("/examples/x")[0] == 422
    fields = {value for tag, name, value in read.attributes if tag == "input" and name == "id"}
    assert fields <= set(read.values("for"))
    assert ('id="confidence" min="0" max="1" step="any" value="0.5"') in text


class Browser:
    """Headless Chromium, told what to do through a pipe (Chrome DevTools Protocol)."""

    def __init__(self, profile):
        (theirs_in, self._in), (self._out, theirs_out) = os.pipe(), os.pipe()
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        wrapped = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command]
        self._process = subprocess.Popen(
            wrapped, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._replies, self._number, self._session = os.fdopen(self._out, "rb"), 0, None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __call__(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            text = bytearray()
            while (letter := self._replies.read(1)) != b"\0":
                assert letter, "Chromium ended"
                text += letter
            reply = json.loads(text)
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return reply["result"]

    def value(self, script):
        result = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script, seconds=120):
        end = time.monotonic() + seconds
        while not (value := self.value(script)):
            assert time.monotonic() < end, script
            time.sleep(0.1)
        return value

    def size(self, width, height):
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def picture(self, path):
        data = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self("Browser.close")
        self._process.wait(60)
        os.close(self._in)
        self._replies.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_person_chooses_a_file_and_moves_the_slider(demo, scene_png, tmp_path):
    (tmp_path / "scene.png").write_bytes(scene_png[1])
    (tmp_path / "<b>note.png").write_bytes(b"no image")
    browser = Browser(tmp_path / "profile")
    try:
        browser.size(1280, 900)
        browser("Page.navigate", url=f"http://127.0.0.1:{demo.port}/")
        browser.wait("document.readyState === 'complete' && !!document.getElementById('file')")
        document = browser("DOM.getDocument")["root"]["nodeId"]

        def choose(name):
            place = browser("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
            browser("DOM.setFileInputFiles", nodeId=place, files=[str(tmp_path / name)])

        choose("scene.png")
        said = browser.wait("!at('result').hidden && at('status').textContent")
        assert said.startswith("120 × 90 pixels; found: 2; reading ")
        rows = "[...document.querySelectorAll('#instances tbody tr')].map(row => row.cells[1].textContent).join()"
        assert browser.value(rows) == "bright,dim"
        browser.value("document.querySelector('#instances button').click()")
        assert browser.value("document.querySelectorAll('#stage path.on, #instances tr.on').length") == 2
        browser.value("at('larger').click()")
        assert browser.value("at('zoom').textContent") == "150 %"
        browser.value("at('confidence').focus(); at('confidence').value = 0.69")
        for kind in ("keyDown", "keyUp"):
            browser("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
        browser.wait(f"({rows}) === 'bright'")
        assert browser.value("document.querySelectorAll('#stage path').length") == len(demo.asked) == 1
        assert browser.value("at('overlay').getAttribute('aria-label')") == "Outlines of 1 instance: 1 bright 0.9"
        browser.picture(tmp_path / "desktop.png")
        browser.size(390, 844)
        assert browser.value("document.documentElement.scrollWidth") <= 390
        browser.picture(tmp_path / "phone.png")
        choose("<b>note.png")
        told = browser.wait("at('status').className === 'wrong' && at('status').textContent")
        assert told.startswith("<b>note.png: expected a PNG") and browser.value("at('result').hidden")
        assert browser.value("document.querySelectorAll('b').length") == 0
    finally:
        browser.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "1"], "MODEL: missing; usage: mrcnn demo [OPTIONS] MODEL"),
        (["nothing.keras"], "model=nothing.keras: expected a .keras file that is there"),
        (["last", "--port", "70000"], "--port 70000: expected a number from 0 to 65535"),
        (["last", "--share", "true"], "--share: no such option; expected --port, --host, --examples, --task"),
        (["last", "--examples", "none"], "none: no images; expected a folder with files that end in .png, .jpg"),
    ],
)
def test_a_command_line_that_is_wrong_is_told_in_one_line(words, told, capsys):
    assert main(["demo", *words]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_a_model_of_phantoms_has_new_ones_as_examples(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    assert phantom_files(None) == []
    examples = phantom_files("thyroid")
    assert len(examples) == 8 and all(Image.open(file).size for file in examples)


def test_a_port_in_use_is_told_before_the_model_loads(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["demo", "last", "--port", str(taken.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err


def test_it_listens_on_this_machine_alone_unless_told():
    assert command.parse(["last"]).host == "127.0.0.1"
    with pytest.raises(InputError, match=r"--host no\.such\.host\.invalid"):
        listening_socket("no.such.host.invalid", 0)
