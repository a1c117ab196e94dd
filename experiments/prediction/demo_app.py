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
from threading import Lock
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.evaluation.page import render
from experiments.findings import FINDINGS, ROWS
from experiments.prediction.detector import Detector
from experiments.prediction.item_writer import overlay_picture
from experiments.prediction.results import to_answer
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.sample import Spacing
from mrcnn.detections import Detections
from mrcnn.errors import InputError
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


class ShowRequest(BaseModel):
    """The detections of an uploaded image at a confidence threshold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(strict=True, max_length=100)
    confidence: Fraction


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
        """Predict an image file and cache the detections under a random key for `show`."""
        started = time.perf_counter()
        image, spacing = decode_image(body, self._limits.pixels)
        decoded = time.perf_counter()
        with self._lock:
            (found,) = self._detector.find([image])
            done = time.perf_counter()
            key = secrets.token_urlsafe()
            self._cache[key] = CachedImage.compress(image, spacing, found)
            while len(self._cache) > CACHED_IMAGES or (len(self._cache) > 1 and self._bytes() > CACHED_BYTES):
                self._cache.popitem(last=False)
        return _json({"image": key, "reading": decoded - started, "finding": done - decoded})

    def show(self, body: bytes) -> bytes:
        """Return overlay, instances and findings of a cached image: `{"image": key, "confidence": 0 … 1}`."""
        try:
            request = ShowRequest.model_validate_json(body)
        except ValidationError as error:
            fields = {each["loc"][0] for each in error.errors(include_url=False, include_input=False) if each["loc"]}
            message = "confidence: expected a number from 0 to 1" if fields == {"confidence"} else ""
            raise InputError(message or "expected an image and a confidence") from None
        with self._lock:  # one at a time: drawing the masks of an image can need much memory
            cached = self._cache.get(request.image)
            if cached is None:
                raise InputError("this image is no longer in memory; choose it again")
            return self._render(cached, request.confidence)

    def _bytes(self) -> int:
        return sum(cached.image.nbytes for cached in self._cache.values())

    def _render(self, cached: CachedImage, confidence: float) -> bytes:
        names, shown = self._detector.class_names, cached.detections.above(confidence)
        finding = FINDINGS[self._detector.findings](cached.image, shown, names, cached.spacing_mm, None)
        instances = to_answer(shown, names, finding)["instances"]
        areas = shown.instances.areas.tolist()
        height, width = cached.image.shape[:2]
        return _json(
            {
                "width": width,
                "height": height,
                "overlay": _picture(overlay_picture(cached.image, shown, names)),
                "instances": [
                    {
                        "class": instance["class"],
                        "score": round(instance["score"], 3),
                        "box x, y, w, h (px)": ", ".join(f"{side:.0f}" for side in instance["bbox"]),
                        "area (px)": area,
                    }
                    for instance, area in zip(instances, areas, strict=True)
                ],
                "findings": ROWS[self._detector.findings](finding) if self._detector.findings in ROWS else [],
                "notice": NOTICE,
            }
        )


def demo_app(detector: Detector, limits: Limits, hosts: Sequence[str]) -> FastAPI:
    """Create the server.

    Args:
        detector: model to serve.
        limits: limits of requests and images.
        hosts: allowed values of the Host header, with port. This check rejects DNS rebinding; the check of the Origin
            header rejects requests from pages of other sites.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    demo = Demo(detector, limits)
    origins = {f"http://{host}" for host in hosts}

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
            nonce=nonce,
        )
        return Response(page, 200, headers, "text/html; charset=utf-8")

    app.post("/find")(RequestLimiter(demo.find, limits).handle)
    app.post("/show")(RequestLimiter(demo.show, limits).handle)
    return app


def _picture(pixels: np.ndarray) -> str:
    """Encode an image as a data URL."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode()
