"""resdepth in the Processing toolbox of QGIS."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """The plugin; `iface` is None where QGIS runs without windows."""
    from .provider import Plugin

    return Plugin(iface)
