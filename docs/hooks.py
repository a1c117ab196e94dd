"""Hooks of MkDocs: README.md and others as pages, and tables of options from the program itself."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic_core import to_jsonable_python

from experiments.cli import COMMANDS, group
from experiments.config.config_options import kind, options

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the project with the pages that they become."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colors of a terminal in the outputs of a notebook."""
SECTIONS = {
    "": "Task",
    "data": "Data",
    "data.masks": "Mask images",
    "data.via": "VGG Image Annotator",
    "data.volumes": "Volumes",
    "model": "Model",
    "train": "Training",
    "augment": "Augmentation",
    "evaluate": "Evaluation",
    "baseline": "Baselines",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of PAGES."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r'<a href="[^":]+">(<img [^>]+>)</a>', r"\1", text)  # badges: their targets have no page
        text = text.replace('src="docs/', 'src="').replace("](docs/", "](")
        header = "---\nhide: [navigation]\n---\n\n" if page == "index.md" else ""
        files.append(File.generated(config, page, content=header + LINK.sub(_page_link, text)))
    for source in [file.src_uri for file in files if file.src_uri.endswith(".ipynb")]:
        path = PurePosixPath(source)
        text, pictures = notebook_page(path, json.loads((ROOT / "docs" / path).read_text(encoding="utf-8")))
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, str(path.with_name(name)), content=content))
    return files


def notebook_page(path: PurePosixPath, notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return a notebook with its stored outputs as Markdown, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        lines = []
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Picture that the cell returns]({name})")
            else:
                lines.append(ANSI.sub("", "".join(data["text/plain"])).rstrip("\n"))
        if lines:
            parts.append("\n".join(["```text", *lines, "```"]))
    parts.append(f'<a href="{path.name}" download>Download the notebook</a>')
    return "\n\n".join(parts), pictures


def on_page_markdown(markdown: str, **_: object) -> str:
    """Insert the generated tables, and adapt links to files outside `docs`."""
    for marker, table in (("<!-- options -->", option_tables), ("<!-- commands -->", command_tables)):
        if marker in markdown:
            markdown = markdown.replace(marker, "\n".join(table()))
    markdown = markdown.replace(".ipynb)", ".md)")  # the page that is made of the notebook
    return re.sub(r"\[([^\]]*)\]\(\.\./\.\./([^)#\s]+)[^)]*\)", _outside_link, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Mark the name of an option in running text, so that no line breaks after its dashes."""
    return re.sub(r"<code>(--[\w.-]+)", r'<code><span class="option">\1</span>', html)


def option_tables() -> Iterator[str]:
    """Yield a table for each section of a task's configuration."""
    sections: dict[str, list[str]] = {}
    for key, field in options():
        section, _, name = key.rpartition(".")
        if field.is_required():
            default = "required"
        else:
            value = to_jsonable_python(field.default, exclude_none=True)
            text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n")
            default = f"`{text.strip()}`"
        row = _row(f"`{name}`", default, kind(field.annotation, field.metadata), field.description or "")
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        title = SECTIONS.get(section, section)
        yield f"\n## {title}{f' (`{section}`)' if section else ''}\n"
        yield "| option | default | values | meaning |\n|---|---|---|---|"
        yield from rows


def command_tables() -> Iterator[str]:
    """Yield the purpose and the options of each command; those of the configuration are on the page of options."""
    context = click.Context(group, info_name="mrcnn")
    for name, (_, summary) in COMMANDS.items():
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        arguments = [param.make_metavar(context) for param in command.params if isinstance(param, click.Argument)]
        yield f"\n## mrcnn {name}\n\n{_escape(summary[0].upper() + summary[1:])}.\n"
        yield f"```\nmrcnn {' '.join([name, *arguments])} [OPTIONS]\n```\n"
        own = [param for param in command.params if isinstance(param, click.Option) and _belongs_to(param)]
        if own:
            yield "| option | meaning |\n|---|---|"
        for param in own:
            yield _row(f"`{param.opts[0]}`", param.help or "")


def _belongs_to(param: click.Option) -> bool:
    """Whether an option is the command's own, not one of the configuration."""
    return not hasattr(param, "field")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell if cell.startswith('`') else _escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return re.sub(r"([|*_\[\]])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _page_link(match: re.Match[str]) -> str:
    """Return a link to a page of the site, or the text alone for another file of the project."""
    text, target = match.groups()
    path, hash_sign, anchor = target.partition("#")
    if path in PAGES:
        return f"[{text}]({PAGES[path]}{hash_sign}{anchor})"
    return match.group(0) if path.endswith((".md", ".ipynb")) else text


def _outside_link(match: re.Match[str]) -> str:
    text, path = match.groups()
    return f"[{text}](../{PAGES[path]})" if path in PAGES else text
