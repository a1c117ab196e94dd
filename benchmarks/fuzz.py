"""Fuzz the readers with damaged files, and report exceptions other than `InputError`, timeouts and excessive memory.

    python -m benchmarks.fuzz [coco via masks lgg image dicom nifti packed_nifti] [--seconds 120] [--to DIR]
    python -m benchmarks.fuzz … --guided [--corpus DIR]

Prints the number of inputs tried and read, and each kind of crash once; files that cause crashes are saved to DIR. With
`--guided`, atheris (pip install atheris) mutates the files to reach new code, starting from those in `--corpus` too;
otherwise the mutations are random.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from types import FrameType

SLOWEST = 10  # seconds an input may take
MOST_BYTES = 3 << 30
LONGEST, MOST_REAL = 1 << 16, 50
"""Bytes of a real file to begin with, and how many of them for each reader."""


class TooSlow(BaseException):
    """An input took longer than `SLOWEST`; readers must not catch this exception."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def fuzz(name: str, seconds: float, keep: Path, seed: int) -> int:
    """Try damaged files for some time, print the results, and return the number of kinds of crash."""
    from benchmarks.fuzz_targets import TARGETS

    target, random = TARGETS[name], Random(seed)
    tried = read = 0
    crashes: dict[str, str] = {}
    signal.signal(signal.SIGALRM, _stop)
    begun, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begun < seconds:
            file = random.choice(sorted(target.seeds))
            content = target.damage(target.seeds[file], random)
            started = time.process_time()
            signal.alarm(SLOWEST * 3)
            try:
                read += target.try_one(Path(folder), file, content)
            except (Exception, TooSlow) as error:  # noqa: BLE001 any of them is a finding
                last = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
                if kind not in crashes:
                    crashes[kind] = str(error)[:100]
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{len(crashes)}-{Path(file).name}").write_bytes(content)
            finally:
                signal.alarm(0)
                (Path(folder) / file).unlink(missing_ok=True)
            slowest = max(slowest, time.process_time() - started)
            tried += 1
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name}: {tried} tried, {read} read, {len(crashes)} kinds of crash; slowest {slowest:.2f} s, {most:.0f} MB")
    for kind, message in crashes.items():
        print(f"  {kind}: {message}")
    return len(crashes)


def guided(name: str, seconds: float, keep: Path, real: Path | None) -> None:
    """Run atheris until a file crashes or the time is over; it ends the process.

    Args:
        name: one of `benchmarks.fuzz_targets.TARGETS`.
        seconds: time limit.
        keep: folder for the files that crash.
        real: a folder, whose files of the reader's suffixes it begins with besides ours.
    """
    import atheris

    with atheris.instrument_imports(include=["mrcnn.data", "PIL", "tifffile", "nibabel", "pydicom"]):
        from benchmarks.fuzz_targets import TARGETS

    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp())
    names = sorted(target.seeds)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, file in enumerate(names):
        (corpus / str(number)).write_bytes(bytes([number]) + target.seeds[file])
        alike = sorted(real.rglob(f"*{Path(file).suffix}")) if real else []
        short = [each for each in alike if each.stat().st_size < LONGEST]
        for each in short[:: max(1, len(short) // MOST_REAL)]:
            (corpus / f"{number}-{each.stem}").write_bytes(bytes([number]) + each.read_bytes())

    def try_one(data: bytes) -> None:
        if data:
            file = names[data[0] % len(names)]
            target.try_one(folder / "data", file, data[1:])

    keep.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds:.0f}", f"-timeout={SLOWEST * 3}", "-rss_limit_mb=4096", f"-max_len={LONGEST}"]
    told = [f"-artifact_prefix={keep}/{name}-", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *told, str(corpus)], try_one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--corpus", type=Path, help="of real files")
    parser.add_argument("--to", type=Path, default=Path("fuzz-crashes"))
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    if told.guided and len(told.targets) == 1:
        guided(told.targets[0], told.seconds, told.to, told.corpus)
    from benchmarks.fuzz_targets import TARGETS

    found = 0
    for name in told.targets or TARGETS:
        if told.guided:  # each in a process of its own, which it ends
            words = [name, "--guided", "--seconds", str(told.seconds), "--to", str(told.to)]
            words += ["--corpus", str(told.corpus)] if told.corpus else []
            found += subprocess.run([sys.executable, "-m", "benchmarks.fuzz", *words], check=False).returncode != 0
        else:
            found += fuzz(name, told.seconds, told.to, told.seed)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
