"""What the package index is told besides pyproject.toml: the README with links that work there, and the addresses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "docs"))

from index_page import for_index  # noqa: E402


class IndexPage(MetadataHookInterface):
    """Fills in the README and, once ``repository`` is set in pyproject.toml, the addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add to the metadata of the project."""
        repository = self.config["repository"]
        text = for_index((ROOT / "README.md").read_text(encoding="utf-8"), repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        if repository:
            changes = f"{repository}/blob/HEAD/CHANGELOG.md"
            metadata["urls"] = {"Repository": repository, "Changelog": changes, "Issues": f"{repository}/issues"}
