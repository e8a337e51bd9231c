"""Where strflab writes what it can make again: parsed recordings, downloads, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder for what strflab writes: $STRFLAB_CACHE, or the user's cache folder."""
    if root := os.environ.get("STRFLAB_CACHE"):
        return Path(root).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("strflab"))
