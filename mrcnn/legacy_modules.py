"""Map module names of medmrcnn 0.1 to those of this version.

The code of a model that was packaged with medmrcnn 0.1 imports `mrcnn` by the names of that version. MLflow puts the
model's own copy of `mrcnn` first on the path, but if this version of `mrcnn` is already imported, the imports resolve
to this version. Only names that packaged models import are mapped.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType

LEGACY_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "mrcnn.data.given_images": {
            "GivenImage": "mrcnn.serving.inputs:DecodedImage",
            "given_images": "mrcnn.serving.inputs:parse_images",
        },
        "mrcnn.ensemble": {"predictor_of": "mrcnn.inference.ensemble:make_predictor"},
        "mrcnn.model": {
            "SEGMENTERS": "mrcnn.models:SEGMENTERS",
            "Classifier": "mrcnn.models:Classifier",
            "load": "mrcnn.models:load",
        },
        "mrcnn.polygons": {"polygons_of": "mrcnn.geometry.polygons:mask_to_polygons"},
    }
)
"""Old module → old name → `module:name` of this version. `mrcnn.serving.scoring_server` defines its own old name."""


class LegacyFinder(MetaPathFinder, Loader):
    """Import removed modules with the names of `LEGACY_NAMES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in LEGACY_NAMES else None

    def exec_module(self, module: ModuleType) -> None:
        for name, place in LEGACY_NAMES[module.__name__].items():
            source, _, attribute = place.partition(":")
            setattr(module, name, getattr(importlib.import_module(source), attribute))


def install() -> None:
    """Append the finder of legacy modules to `sys.meta_path`, once; existing modules take precedence."""
    if not any(isinstance(finder, LegacyFinder) for finder in sys.meta_path):
        sys.meta_path.append(LegacyFinder())
