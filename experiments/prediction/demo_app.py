"""The demo's server: a page, images in, and what was found, at any threshold without asking the network again."""

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

from experiments.findings import FINDINGS, ROWS
from experiments.prediction.answers import answer_of
from experiments.prediction.demo_page import page
from experiments.prediction.detector import Detector
from experiments.prediction.pictures import overlay_picture
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.sample import Spacing
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits
from mrcnn.serving.request import Fraction
from mrcnn.serving.request_limiter import RequestLimiter, error_response
from trackers.packaging.served import NOTICE

KEPT = 4
"""Images, the last that were sent, which can be looked at with another threshold."""
MOST_BYTES = 256 << 20
"""Of their pixels; fewer images are kept where these are large."""
LONGEST_SIDE = 1600
"""Pixels of a picture; the images themselves are worked on as they are."""


class Asked(BaseModel):
    """What is asked of an image that was sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(strict=True, max_length=100)
    confidence: Fraction


@dataclass(frozen=True)
class Seen:
    """An image that was sent, and all that the network found in it: the masks as run lengths, which are small."""

    image: np.ndarray
    spacing_mm: Spacing | None
    found: Detections

    @classmethod
    def of(cls, image: np.ndarray, spacing_mm: Spacing | None, found: Detections) -> Seen:
        return cls(image, spacing_mm, replace(found, masks=found.instances.compressed()))


class Demo:
    """What the page asks for; each method takes a request's body and returns JSON."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self._detector = detector
        self._limits = limits
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._turn = Lock()

    def find(self, body: bytes) -> bytes:
        """Asks the network about an image file, and keeps what it found under a word for `show`."""
        started = time.perf_counter()
        image, spacing = decode_image(body, self._limits.pixels)
        decoded = time.perf_counter()
        with self._turn:
            (found,) = self._detector.find([image])
            done = time.perf_counter()
            word = secrets.token_urlsafe()
            self._seen[word] = Seen.of(image, spacing, found)
            while len(self._seen) > KEPT or (len(self._seen) > 1 and self._bytes() > MOST_BYTES):
                self._seen.popitem(last=False)
        return _json({"image": word, "reading": decoded - started, "finding": done - decoded})

    def show(self, body: bytes) -> bytes:
        """Overlay, instances and findings of a kept image: `{"image": word, "confidence": 0 … 1}`."""
        try:
            asked = Asked.model_validate_json(body)
        except ValidationError as error:
            fields = {each["loc"][0] for each in error.errors(include_url=False, include_input=False) if each["loc"]}
            told = "confidence: expected a number from 0 to 1" if fields == {"confidence"} else ""
            raise InputError(told or "expected an image and a confidence") from None
        with self._turn:  # one at a time, as the masks of an image may take much memory while they are drawn
            seen = self._seen.get(asked.image)
            if seen is None:
                raise InputError("this image is kept no longer; choose it again")
            return self._shown(seen, asked.confidence)

    def _bytes(self) -> int:
        return sum(seen.image.nbytes for seen in self._seen.values())

    def _shown(self, seen: Seen, confidence: float) -> bytes:
        names, shown = self._detector.class_names, seen.found.above(confidence)
        finding = FINDINGS[self._detector.findings](seen.image, shown, names, seen.spacing_mm, None)
        instances = answer_of(shown, names, finding)["instances"]
        areas = shown.instances.areas.tolist()
        height, width = seen.image.shape[:2]
        return _json(
            {
                "width": width,
                "height": height,
                "overlay": _picture(overlay_picture(seen.image, shown, names)),
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
    """The server.

    Args:
        hosts: with their ports, under which the page may be asked for. A page of another site that has its own name
            lead here (DNS rebinding) is turned away by the name, and one that sends images here by its origin.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    demo = Demo(detector, limits)
    origins = {f"http://{host}" for host in hosts}

    @app.middleware("http")
    async def from_here(request: Request, call_next: Any) -> Response:
        if request.headers.get("host", "") not in hosts:
            return error_response(400, f"this page is for {' or '.join(hosts)}")
        if "origin" in request.headers and request.headers["origin"] not in origins:
            return error_response(400, "another site's page may not ask here")
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
        return Response(page(detector.confidence, nonce), 200, headers, "text/html; charset=utf-8")

    app.post("/find")(RequestLimiter(demo.find, limits).handle)
    app.post("/show")(RequestLimiter(demo.show, limits).handle)
    return app


def _picture(pixels: np.ndarray) -> str:
    """As an address that an `img` takes."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode()
