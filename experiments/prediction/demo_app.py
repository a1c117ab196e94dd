"""Serve the demo page: predict uploaded images once, and show the detections at any confidence threshold."""

from __future__ import annotations

import base64
import io
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.evaluation.page import embedded, render
from experiments.findings import FINDINGS, ROWS
from experiments.prediction.detector import ALONE, Detector
from experiments.prediction.item_writer import overlay_picture
from experiments.prediction.results import to_answer
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.sample import Spacing
from mrcnn.data.shift import image_warnings
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.geometry.polygons import mask_to_polygons
from mrcnn.inference.drawing import PALETTE, to_display
from mrcnn.inference.label_map import to_label_map
from mrcnn.serving.limits import Limits
from mrcnn.serving.request import Fraction
from mrcnn.serving.request_limiter import RequestLimiter, error_response
from trackers.packaging.served import NOTICE

CACHED_IMAGES = 4
"""Maximum number of uploaded images in memory, for other thresholds."""
CACHED_BYTES = 256 << 20
"""Maximum size of their pixels; the last image is always cached."""
LONGEST_SIDE = 1600
"""Size of a displayed picture in pixels; the model gets the original image."""
THUMBNAIL_BYTES = 20_000
"""Size of the picture of an example."""


class ShowRequest(BaseModel):
    """The detections of an uploaded image at a confidence threshold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(strict=True, max_length=100)
    confidence: Fraction
    form: Literal["json", "mask", "picture"] = "json"


@dataclass(frozen=True)
class CachedImage:
    """An uploaded image and its detections at any confidence, with the masks as run lengths to save memory."""

    image: np.ndarray
    spacing_mm: Spacing | None
    detections: Detections

    @classmethod
    def compress(cls, image: np.ndarray, spacing_mm: Spacing | None, detections: Detections) -> CachedImage:
        """Compress the masks of the detections."""
        return cls(image, spacing_mm, replace(detections, masks=detections.instances.compressed()))


class Demo:
    """The requests of the page; each method takes the body of a request and returns JSON."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self._detector = detector
        self._limits = limits
        self._cache: OrderedDict[str, CachedImage] = OrderedDict()
        self._lock = Lock()

    def find(self, body: bytes) -> bytes:
        """Predict an image file and cache the detections under a random key for `show` and `save`.

        The answer has the key, the picture to draw on, and how the image differs from the training images.
        """
        started = time.perf_counter()
        image, spacing = decode_image(body, self._limits.pixels)
        decoded = time.perf_counter()
        with self._lock:
            (found,) = self._detector.find([self._detector.with_own_neighbors(image)])
            done = time.perf_counter()
            key = secrets.token_urlsafe()
            self._cache[key] = CachedImage.compress(image, spacing, found)
            while len(self._cache) > CACHED_IMAGES or (len(self._cache) > 1 and self._bytes() > CACHED_BYTES):
                self._cache.popitem(last=False)
        return _json(
            {
                "image": key,
                "width": image.shape[1],
                "height": image.shape[0],
                "picture": _picture(to_display(image), LONGEST_SIDE),
                "warnings": [
                    *image_warnings(self._detector.fingerprint, image),
                    *([ALONE] if self._detector.context_slices else []),
                ],
                "reading": decoded - started,
                "finding": done - decoded,
            }
        )

    def show(self, body: bytes) -> bytes:
        """Return instances with their outlines, and findings, of a cached image: `{"image": key, "confidence": …}`."""
        with self._lock:  # one at a time: drawing the masks of an image can need much memory
            cached, shown, _ = self._requested(body)
            findings = self._detector.findings
            finding = self._finding(cached, shown)
            return _json(
                {
                    "instances": self._instances(shown),
                    "findings": ROWS[findings](finding) if findings in ROWS else [],
                    "notice": NOTICE,
                }
            )

    def save(self, body: bytes) -> bytes:
        """Return a file of a cached image as `name` and data URL: `{"image": …, "confidence": …, "form": …}`.

        The forms are those of `mrcnn predict`: `json` as served, `mask` a label map of class ids, `picture` an overlay.
        """
        with self._lock:
            cached, shown, form = self._requested(body)
            names = self._detector.class_names
            if form == "json":
                text = json.dumps(to_answer(shown, names, self._finding(cached, shown)), allow_nan=False)
                url = "data:application/json;base64," + base64.b64encode(text.encode()).decode()
            else:
                draw = to_label_map(shown, names) if form == "mask" else overlay_picture(cached.image, shown, names)
                url = _picture(draw)
        return _json({"name": f"instances.{form}" if form == "json" else f"{form}.png", "url": url})

    def _requested(self, body: bytes) -> tuple[CachedImage, Detections, str]:
        """Return the image, its detections of at least the requested confidence, and the form of a file."""
        try:
            request = ShowRequest.model_validate_json(body)
        except ValidationError as error:
            fields = {each["loc"][0] for each in error.errors(include_url=False, include_input=False) if each["loc"]}
            message = "confidence: expected a number from 0 to 1" if fields == {"confidence"} else ""
            raise InputError(message or "expected an image and a confidence") from None
        cached = self._cache.get(request.image)
        if cached is None:
            raise InputError("this image is no longer in memory; choose it again")
        return cached, cached.detections.above(request.confidence), request.form

    def _bytes(self) -> int:
        return sum(cached.image.nbytes for cached in self._cache.values())

    def _finding(self, cached: CachedImage, shown: Detections) -> dict[str, Any]:
        names = self._detector.class_names
        return FINDINGS[self._detector.findings](cached.image, shown, names, cached.spacing_mm, None)

    def _instances(self, shown: Detections) -> list[dict[str, Any]]:
        names = self._detector.class_names
        return [
            {
                "class": names[class_id - 1],
                "score": round(float(score), 3),
                "area": area,
                "box": [round(float(side)) for side in (x1, y1, x2 - x1, y2 - y1)],
                "color": (class_id - 1) % len(PALETTE) + 1,
                "outlines": mask_to_polygons(crop.pixels, crop.top, crop.left),
            }
            for (x1, y1, x2, y2), score, class_id, area, crop in zip(
                shown.boxes, shown.scores, shown.class_ids.tolist(), shown.instances.areas.tolist(), shown.instances,
                strict=True,
            )
        ]  # fmt: skip


def demo_app(
    detector: Detector, limits: Limits, hosts: Sequence[str], *, model: str = "", examples: Sequence[Path] = ()
) -> FastAPI:
    """Create the server.

    Args:
        detector: model to serve.
        limits: limits of requests and images.
        hosts: allowed values of the Host header, with port. This check rejects DNS rebinding; the check of the Origin
            header rejects requests from pages of other sites.
        model: name of the model on the page.
        examples: image files that the page offers.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    demo = Demo(detector, limits)
    origins = {f"http://{host}" for host in hosts}
    offered = [path.read_bytes() for path in examples]
    small = [
        embedded(to_display(decode_image(content, limits.pixels)[0]), max_bytes=THUMBNAIL_BYTES) for content in offered
    ]

    @app.middleware("http")
    async def check_origin(request: Request, call_next: Any) -> Response:
        if request.headers.get("host", "") not in hosts:
            return error_response(400, f"expected the host {' or '.join(hosts)}")
        if "origin" in request.headers and request.headers["origin"] not in origins:
            return error_response(400, "requests from pages of other sites are not allowed")
        response = await call_next(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @app.get("/")
    async def show_page() -> Response:
        nonce = secrets.token_urlsafe()
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy}
        page = render(
            "demo.html",
            title="Mask R-CNN demo",
            notice="Research use only: not a medical device.",
            confidence=detector.confidence,
            facts=model_facts(detector, model),
            classes=detector.class_names,
            examples=small,
            nonce=nonce,
        )
        return Response(page, 200, headers, "text/html; charset=utf-8")

    @app.get("/examples/{number}")
    async def show_example(number: int) -> Response:
        if not 0 < number <= len(offered):
            return error_response(404, f"example {number}: expected a number from 1 to {len(offered)}")
        return Response(offered[number - 1], 200, media_type="application/octet-stream")

    app.post("/find")(RequestLimiter(demo.find, limits).handle)
    app.post("/show")(RequestLimiter(demo.show, limits).handle)
    app.post("/save")(RequestLimiter(demo.save, limits).handle)
    return app


def model_facts(detector: Detector, model: str) -> list[tuple[str, str]]:
    """Return name and value of what is known about the model and its training data."""
    whole = detector.fingerprint.get("whole")
    data = detector.data_name or "not recorded"
    if whole:
        patients = f"patients: {whole['patients']}, " if detector.fingerprint.get("patients_named", True) else ""
        data += f" (images: {whole['images']}, {patients}instances: {sum(whole['instances'].values())})"
    rows = [("Model", model), ("Task", detector.task), ("Training data", data)]
    return [row for row in rows if row[1]]


def _picture(pixels: np.ndarray, longest_side: int | None = None) -> str:
    """Encode an image as the data URL of a PNG, reduced to `longest_side`."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if longest_side:
        picture.thumbnail((longest_side, longest_side))
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode()
