"""What the site shows besides its pages: tables from the code, model cards and the changelog from where they are.

MkDocs loads this module as a hook. Where a page says `<!-- from the code: NAME -->`, the part of that name goes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
# The tree's own code, whatever is installed.
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from from_code import PARTS, bundle_json_schema  # noqa: E402
from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from streamer.bundle import shipped_bundles  # noqa: E402

_PART: Final = re.compile(r"^<!-- from the code: (.+?) -->$", re.MULTILINE)
#: Notes for who runs the page's commands; see tests/documented.py.
_NOTE: Final = re.compile(r"^ *<!-- .*? -->\n", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Model cards and the changelog into the navigation."""
    (models,) = (entry["Models"] for entry in config.nav or [] if isinstance(entry, dict) and "Models" in entry)
    models += [{name: f"models/{name}.md"} for name in shipped_bundles()]
    if config.nav:
        config.nav.append({"Changes": "changelog.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that stand elsewhere in the repository."""
    for name, folder in shipped_bundles().items():
        files.append(File.generated(config, f"models/{name}.md", abs_src_path=str(folder / "CARD.md")))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    files.append(File.generated(config, "reference/bundle.schema.json", content=bundle_json_schema()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with its parts."""

    def part(asked: re.Match[str]) -> str:
        if asked[1] not in PARTS:
            raise PluginError(f"no part {asked[1]!r}; expected one of {', '.join(PARTS)}")
        return PARTS[asked[1]]()

    return _NOTE.sub("", _PART.sub(part, markdown))
