"""Answers and refusals of the scoring server: in this process, and (slow) of `mlflow models serve` on loopback."""

import asyncio
import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image
from starlette.requests import Request

from mrcnn.serving.scoring_server import DECORATOR, SERVER, install_limits
from trackers.packaging.served import Served

LIMITS = {"MEGABYTES": "4", "MEGAPIXELS": "1", "IMAGES": "3", "WAITING": "4"}
JSON = {"Content-Type": "application/json"}
SECRETS = ("Zzyxwy", "Pusztay", "zx-4711", "19700131")  # with letters beyond those of run lengths


@pytest.fixture(scope="session")
def server(packaged_model, tmp_path_factory):
    """(port, folder of its log) of the champion's server, with small limits."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    binaries = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MRCNN_"))}
    environment |= {f"MRCNN_SERVE_{name}": value for name, value in LIMITS.items()}
    environment |= {
        "PATH": f"{binaries}:{environment['PATH']}",
        "MLFLOW_TRACKING_URI": packaged_model["store"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/mrcnn-ultrasound@champion", "--env-manager",
        "local", "-h", "127.0.0.1", "-p", str(port),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            try:
                if ask(port, None, path="/ping", method="GET")[0] == 200:
                    break
            except OSError:
                time.sleep(0.5)
        yield port, folder
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def ask(port, body, headers=JSON, *, path="/invocations", method="POST"):
    """(status, text) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def endpoint(network):
    """Answer (status, text) a body as the server's endpoint does, in this process."""
    served = Served()
    served.network, served.settings = network, {"confidence": 0.02, "class_names": network.config.class_names}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIMITS.items():
            patch.setenv(f"MRCNN_SERVE_{name}", value)
        server = ModuleType(SERVER)
        setattr(server, DECORATOR, None)
        patch.setitem(sys.modules, SERVER, server)
        patch.setitem(sys.modules, f"{SERVER}.app", ModuleType("app"))
        assert install_limits(served._answers, served.batcher.sizes[-1])
    handle = getattr(server, DECORATOR)(None)

    def ask(body, headers=JSON):
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        response = asyncio.run(handle(Request({"type": "http", "headers": named}, receive)))
        return response.status_code, response.body.decode()

    return ask


def request(*inputs, **params):
    return json.dumps({"inputs": inputs, "params": params}, separators=(",", ":")).encode()


def encoded(data):
    return base64.b64encode(data).decode()


def image_file(pixels, form, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return encoded(file.getvalue())


def huge_png():
    """A header of 100,000 × 100,000 pixels, and hardly anything behind it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def tall_tiff(side):
    """A small TIFF whose header is changed to claim `side` rows and columns."""
    data = tiff(np.zeros((2, 2), np.uint8))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
        kinds = [file.pages[0].tags[name].dtype for name in ("ImageWidth", "ImageLength")]
    for place, kind in zip(places, kinds, strict=True):
        form = "<H" if kind == 3 else "<I"
        data = data[:place] + struct.pack(form, side) + data[place + struct.calcsize(form) :]
    return data


GRAY = np.random.default_rng(5).integers(0, 256, (40, 56), np.uint8)
PNG = image_file(GRAY, "PNG")
WHOLE = base64.b64decode(PNG)
REFUSED = {
    "empty body": (b"", "empty body"),
    "blank body": (b" \n", "empty body"),
    "no JSON": (b"Zzyxwy^Pusztay{", "body is not JSON"),
    "no text": (b"\xff\xfe\x00", "body is not JSON"),
    "deep JSON": (b"[" * 100_000, "body is not JSON"),
    "a list": (b"[]", "body is a JSON list"),
    "a word": (b'"x"', "body is a JSON str"),
    "no field": (b"{}", "inputs: missing"),
    "instances": (b'{"instances": [[[1]]]}', "instances: no such field"),
    "two fields": (b'{"inputs": [[[1]]], "dataframe_split": {}}', "dataframe_split: no such field"),
    "no list": (b'{"inputs": "' + PNG.encode() + b'"}', "inputs: missing, empty or no list"),
    "no image": (request(), "inputs: missing, empty or no list"),
    "too many images": (request(PNG, PNG, PNG, PNG), "4 images; expected at most 3"),
    "null": (request(None), "image 1: object array"),
    "an object": (request({"b64": PNG}), "image 1: object array"),
    "a number": (request(3), r"image 1: int64 array of shape \(\)"),
    "an empty array": (request([[]]), "image 1: .* shape"),
    "ragged": (request([[1, 2], [3]]), "image 1: rows of different lengths"),
    "text in an array": (request([["a"]]), "image 1: holds str"),
    "a long word in an array": (request([["a" * 10**6] + [0] * 10**5]), "image 1: holds str"),
    "huge whole numbers": (request([[10**400]]), "image 1: object array"),
    "whole numbers of many digits": (b'{"inputs": [[[' + b"9" * 5000 + b"]]]}", "body is not JSON"),
    "NaN": (b'{"inputs": [[[NaN]]]}', "body holds NaN"),
    "Infinity": (b'{"inputs": [[[-Infinity]]]}', "body holds -Infinity"),
    "beyond the range": (b'{"inputs": [[[1e999, 0]]]}', "image 1: image has pixels that are NaN or infinite"),
    "beyond 32 bits": (b'{"inputs": [[[1e300, 0]]]}', "image 1: image has pixels that are NaN or infinite"),
    "channels": (request(PNG, np.zeros((4, 4, 5)).tolist()), "image 2: image has 5 channels; expected"),
    "many axes": (request(np.zeros((2, 2, 2, 2, 2)).tolist()), "image 1: .* shape"),
    "a large array": (request([[0] * 1025] * 1024), "image 1: 1024 × 1025 pixels; expected at most 1048576"),
    "an empty text": (request(""), "image 1: no bytes"),
    "not base64": (request("%%%"), "image 1: text that is no base64"),
    "truncated base64": (request(PNG[:-3]), "image 1: text that is no base64"),
    "half a file": (request(PNG[: len(PNG) // 8 * 4]), "image 1: damaged image"),
    "damaged": (request(encoded(WHOLE[:60] + b"\0\0\0\0" + WHOLE[64:])), "image 1: damaged image"),
    "no image file": (request(encoded(b"hello, I am text")), "image 1: expected a PNG"),
    "a GIF": (request(image_file(GRAY, "GIF")), "image 1: expected a PNG"),
    "PostScript": (request(encoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")), "image 1: expected a PNG"),
    "a huge PNG": (request(encoded(huge_png())), "image 1: .*pixels; expected at most"),
    "a large PNG": (
        request(image_file(np.zeros((1100, 1100), np.uint8), "PNG")),
        "1100 × 1100 pixels; expected at most",
    ),
    "a huge TIFF": (request(encoded(tall_tiff(60_000))), "pixels; expected at most"),
    "pages": (request(encoded(tiff(np.zeros((2, 9, 9), np.uint8)))), "TIFF of several pages"),
    "a TIFF that unpacks": (
        request(encoded(tiff(np.zeros((9, 9, 3), np.uint16), photometric="rgb", compression="zlib"))),
        "compressed TIFF",
    ),
    "a path": (request("/etc/passwd"), "image 1: text that is no base64"),
    "a path like base64": (request("/etc/hostnam"), "image 1: expected a PNG"),
    "an address": (request("http://127.0.0.1/image.png"), "image 1: text that is no base64"),
    "a data address": (request(f"data:image/png;base64,{PNG}"), "image 1: text that is no base64"),
    "an unknown parameter": (request(PNG, size=3), "size: no such parameter"),
    "params of another kind": (b'{"inputs": [[[1]]], "params": [1]}', "params: expected an object"),
    "a threshold above 1": (request(PNG, confidence=1.5), r"confidence=1\.5: expected a number from 0 to 1"),
    "a threshold in words": (request(PNG, confidence="high"), "confidence=high: expected a number"),
    "masks": (request(PNG, masks="png"), "masks=png: expected rle or polygons"),
    "a spacing": (request(PNG, spacing_mm=[-1, 2]), "spacing_mm.*: expected the row's and the column's size in mm"),
    "a size beyond any scanner's": (request(PNG, spacing_mm=[1e308, 1e308]), "spacing_mm: expected"),
    "a size below any microscope's": (request(PNG, spacing_mm=[1e-320, 1]), "spacing_mm: expected"),
    "a threshold of many digits": (request(PNG, confidence=10**4000), "confidence: expected a number from 0 to 1"),
    "deep parameters": (
        b'{"inputs": [[[1]]], "params": {"masks": ' + b"[" * 900 + b"]" * 900 + b"}}",
        "masks: expected",
    ),
    "a large body": (request("A" * (5 << 20)), "body is larger than 4194304 bytes"),
}


def is_one_line(text, told):
    answer = json.loads(text)
    assert answer.keys() == {"error_code", "message"}
    message = answer["message"]
    assert re.search(told, message) and message.isprintable() and len(message) <= 400, message
    assert not any(word in text for word in ("Traceback", 'File "', "site-packages", " object at 0x", *SECRETS))


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_requests_are_refused_in_one_line(endpoint, name):
    body, told = REFUSED[name]
    status, text = endpoint(body)
    assert status == 400, text
    is_one_line(text, told)


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/csv"}, {"Content-Type": "application/x-parquet"}, {"Content-Type": ";;"}]
)
def test_other_media_types_are_refused(endpoint, headers):
    status, text = endpoint(request(PNG), headers)
    assert status == 400
    is_one_line(text, "Content-Type .*: expected application/json")


def test_dicom_files_that_are_not_decoded_are_refused(endpoint, dicom_base64):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    bad = {
        "at most 1048576": dicom_base64(GRAY, Rows=60_000, Columns=60_000),
        "DICOM with 3 frames": dicom_base64(GRAY, NumberOfFrames=3),
        "deflated DICOM": dicom_base64(GRAY, DeflatedExplicitVRLittleEndian),
        "damaged DICOM": dicom_base64(GRAY, PixelData=b"\0" * 10),
        "damaged DICOM, or": dicom_base64(GRAY, PhotometricInterpretation="zx-4711", RescaleSlope="1"),
    }
    for told, image in bad.items():
        status, text = endpoint(request(image))
        assert status == 400, (told, text)
        is_one_line(text, f"image 1: .*{told}")


def same(answer, expected):
    """Two processes add in another order: the last digits differ, and with them a pixel of a mask's edge."""
    assert answer.keys() == expected.keys() and len(answer["instances"]) == len(expected["instances"])
    assert (answer["width"], answer["height"], answer["notice"]) == (
        expected["width"], expected["height"], expected["notice"],
    )  # fmt: skip
    assert is_near(answer["findings"], expected["findings"], 0.02)
    for found, awaited in zip(answer["instances"], expected["instances"], strict=True):
        assert found["class"] == awaited["class"]
        assert found["score"] == pytest.approx(awaited["score"], abs=1e-5)
        assert found["bbox"] == pytest.approx(awaited["bbox"], abs=1e-3)
        sizes = answer["height"], answer["width"]
        mask, other = drawn(found["segmentation"], *sizes), drawn(awaited["segmentation"], *sizes)
        assert (mask ^ other).sum() <= 0.01 * other.sum()


def is_near(found, awaited, part):
    """Whether two JSON values are alike but for numbers that differ by at most `part` of the awaited."""
    if isinstance(awaited, dict):
        return found.keys() == awaited.keys() and all(is_near(found[key], awaited[key], part) for key in awaited)
    if isinstance(awaited, list):
        return len(found) == len(awaited) and all(map(is_near, found, awaited, [part] * len(found)))
    if isinstance(awaited, float):
        return found == pytest.approx(awaited, rel=part)
    return type(found) is type(awaited) and found == awaited


def drawn(segmentation, height, width):
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, height, width)) if segmentation else None
    return np.zeros((height, width), bool) if segmentation is None else coco.decode(segmentation).astype(bool)


def test_requests_that_share_batches_get_the_answers_of_single_ones(endpoint):
    rng = np.random.default_rng(7)
    bodies = [request(image_file(rng.integers(0, 256, (30 + 9 * row, 56), np.uint8), "PNG")) for row in range(4)]
    single = [endpoint(body) for body in bodies]
    assert any(json.loads(text)["predictions"][0]["instances"] for _, text in single)
    with ThreadPoolExecutor(4) as pool:
        for shared in (list(pool.map(endpoint, bodies)) for _ in range(3)):
            for (status, text), (_, expected) in zip(shared, single, strict=True):
                assert status == 200, text
                same(json.loads(text)["predictions"][0], json.loads(expected)["predictions"][0])


@pytest.fixture(scope="module")
def detected(packaged_model):
    """What the network itself finds in an image, offline, as the server should tell it."""
    from experiments.findings import FINDINGS
    from trackers.packaging.served import as_dict

    network, names = packaged_model["network"], packaged_model["network"].config.class_names

    def find(image, spacing=None, confidence=packaged_model["confidence"], masks="rle"):
        (found,) = network.detect([image], batch_size=1)
        shown = found.above(confidence)
        findings = FINDINGS["nodules"](image, shown, names, spacing, None)
        return json.loads(json.dumps(as_dict(shown, *image.shape[:2], names, findings, masks)))

    return find


@pytest.mark.slow
def test_answers_are_what_the_network_finds_offline(server, detected, dicom_base64, packaged_model):
    color, deep = packaged_model["images"]["rgb_8_bit"], packaged_model["images"]["deep"]
    jpeg = np.asarray(Image.open(io.BytesIO(base64.b64decode(image_file(color, "JPEG")))))
    cases = [
        (GRAY.tolist(), GRAY, None),
        (packaged_model["images"]["float"].tolist(), packaged_model["images"]["float"], None),
        (PNG, GRAY[..., None], None),
        (image_file(color, "PNG"), color, None),
        (image_file(deep, "PNG"), deep.astype(np.float32)[..., None], None),
        (image_file(color, "JPEG"), jpeg, None),
        (image_file(color, "BMP"), color, None),
        (image_file(deep, "TIFF"), deep.astype(np.float32)[..., None], None),
        (encoded(tiff(color.astype(np.uint16), photometric="rgb")), color.astype(np.float32), None),
        (dicom_base64(GRAY, PixelSpacing=[0.5, 0.25]), GRAY[..., None], (0.5, 0.25)),
        (dicom_base64(deep), deep.astype(np.float32)[..., None], None),
    ]
    for given, pixels, spacing in cases:
        status, text = ask(server[0], request(given))
        assert status == 200, text
        assert not any(secret in text for secret in SECRETS)
        (answer,) = json.loads(text)["predictions"]
        same(answer, detected(pixels, spacing))
    assert answer["instances"]


@pytest.mark.slow
def test_parameters_and_several_images(server, detected):
    asked = {"confidence": 0.3, "spacing_mm": [0.5, 0.5], "masks": "polygons"}
    status, text = ask(server[0], request(PNG, GRAY[:20].tolist(), **asked))
    assert status == 200, text
    first, second = json.loads(text)["predictions"]
    same(first, detected(GRAY[..., None], (0.5, 0.5), 0.3, "polygons"))
    same(second, detected(GRAY[:20], (0.5, 0.5), 0.3, "polygons"))


@pytest.mark.slow
def test_more_than_can_wait_are_sent_away_and_the_others_answered(server):
    body = request(*[image_file(np.random.default_rng(1).integers(0, 256, (500, 500), np.uint8), "PNG")] * 3)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(server[0], body), range(32)))
    assert {status for status, _ in answers} == {200, 503}
    first, *others = [json.loads(text)["predictions"] for status, text in answers if status == 200]
    for other in others:
        for answer, expected in zip(other, first, strict=True):
            same(answer, expected)
    for status, text in answers:
        if status == 503:
            is_one_line(text, "busy: 4 requests are waiting")


@pytest.mark.slow
def test_the_log_holds_no_trace_and_nobody(server):
    log = (server[1] / "log").read_text(errors="replace")
    assert "Traceback" not in log and not any(secret in log for secret in SECRETS)


@pytest.mark.slow
def test_sixteen_clients_of_good_and_hostile_requests(server, detected):
    """Each gets its own answer or its own refusal, nothing breaks, and no memory is left behind."""
    (expected,) = [detected(GRAY[..., None])]
    kinds = [None, *REFUSED] * 3

    def client(number):
        """What went wrong."""
        wrong = []
        for kind in np.random.default_rng(number).permutation(np.array(kinds, object)):
            body, told = (request(PNG), None) if kind is None else REFUSED[kind]
            while (answered := ask(server[0], body))[0] == 503 and "busy" in answered[1]:
                time.sleep(0.05)
            status, text = answered
            try:
                if kind is None:
                    assert status == 200, text
                    same(json.loads(text)["predictions"][0], expected)
                else:
                    assert status == 400, text
                    is_one_line(text, told)
            except AssertionError as error:
                wrong.append((kind, status, str(error)[:200]))
        return wrong

    def memory():
        (listening,) = {each.pid for each in psutil.net_connections("tcp4") if each.status == psutil.CONN_LISTEN
                        and each.laddr.port == server[0] and each.pid}  # fmt: skip
        family = [psutil.Process(listening), *psutil.Process(listening).children(recursive=True)]
        return sum(process.memory_info().rss for process in family)

    after = []
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            assert [wrong for each in pool.map(client, range(16)) for wrong in each] == []
            after.append(memory())
    assert after[2] < 1.1 * after[0], after
