"""Read and write video files as RGB frames with PyAV, an optional dependency that includes FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.errors import InputError

# Explicit, because FFmpeg would detect the format and open the URLs of a playlist.
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".avi": "avi", ".mkv": "matroska", ".webm": "matroska"}
SUFFIXES = tuple(_FORMATS)
_QUALITY = "18"
"""Constant rate factor of x264; 18 is visually almost lossless."""
_BIT_RATE = 8_000_000
"""Bits per second of the MPEG-4 fallback without x264."""


@dataclass(frozen=True)
class VideoHeader:
    """Describe a video: size in pixels, frames per second, and approximate number of frames (0: unknown)."""

    height: int
    width: int
    rate: Fraction
    count: int


def read_video_header(path: Path) -> VideoHeader:
    """Read the header of a video. Raises `InputError` like `read_frames`."""
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = container.duration / 1e6 if container.duration else 0
        return VideoHeader(stream.height, stream.width, rate, stream.frames or round(seconds * rate))


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield each frame (H, W, 3) uint8 in display order; rotation metadata is ignored.

    Raises:
        InputError: PyAV or the file is missing, or the video is damaged, has no frames, or changes its size.
    """
    import_av()
    from av.error import FFmpegError

    size = None
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                image = frame.to_ndarray(format="rgb24")
                if size not in (None, image.shape):
                    raise InputError(f"{path}: its frames change size; expected one size")
                size = image.shape
                yield image
        except (FFmpegError, EOFError) as error:
            raise _unreadable(path, error) from error
    if size is None:
        raise InputError(f"{path}: holds no frame; expected a video")


class VideoWriter:
    """Write frames of one size as H.264 in MP4 with `rate` frames per second; a context manager.

    Frames are padded with black to even sides, as the codec requires.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._path, self._rate = path, rate
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        av = import_av()
        self._container = av.open(str(self._path), "w", format="mp4")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def write(self, image: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8."""
        av = import_av()
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))
        if self._stream is None:
            self._stream = self._new_stream(av, *image.shape[:2])
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))

    def _new_stream(self, av: Any, height: int, width: int) -> Any:
        modern = "libx264" in av.codecs_available
        rate = self._rate.limit_denominator(60_000)  # limit of MPEG-4
        stream = self._container.add_stream("libx264" if modern else "mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if modern:
            stream.options = {"crf": _QUALITY, "preset": "veryfast"}
        else:
            stream.bit_rate = _BIT_RATE
        return stream


def import_av() -> Any:
    """Import PyAV. Raises `InputError` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise InputError("videos need one more package: pip install 'medmrcnn[video]'") from error
    return av


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = import_av()
    from av.error import FFmpegError

    try:
        container = av.open(str(path), format=_FORMATS[path.suffix.lower()], options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with container:
        if not container.streams.video:
            raise InputError(f"{path}: holds no picture; expected a video")
        yield container, container.streams.video[0]


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    return InputError(f"{path}: expected a readable video ({type(error).__name__})")
