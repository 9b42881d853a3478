"""The plugin, and the provider of its algorithms, whose setting names the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import SETTING
from .algorithms import ALGORITHMS
from .command import NAME, VARIABLE

ICON = str(Path(__file__).with_name("icon.svg"))


class Provider(QgsProcessingProvider):
    """The algorithms, and the setting."""

    def load(self) -> bool:
        """Add the setting and the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        text = f"Path of the command {NAME} (else that of the variable {VARIABLE}, or found on PATH)"
        ProcessingConfig.addSetting(Setting(self.name(), SETTING, text, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        """What stands before the names of its algorithms: resdepth:refine."""
        return NAME

    def name(self) -> str:
        """What the toolbox calls it."""
        return NAME

    def icon(self) -> QIcon:
        """Houses."""
        return QIcon(ICON)


class Plugin:
    """Adds the provider to Processing, and takes it away again."""

    def __init__(self, iface: Any) -> None:
        """The plugin has no window of its own, so `iface` is not needed."""
        self.provider: Provider | None = None

    def initProcessing(self) -> None:
        """Add the provider; all that `qgis_process` calls."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the provider."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the provider away."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
