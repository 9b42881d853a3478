"""Pictures of the plugin in QGIS: its dialogs, and rasters with their styles. Run by the Python of QGIS.

QT_QPA_PLATFORM=offscreen /usr/bin/python3 scripts/draw_qgis.py FOLDER [ALGORITHM | RASTER.tif]...
"""

import os
import sys
from pathlib import Path

sys.path[:0] = ["/usr/share/qgis/python/plugins", str(Path(__file__).resolve().parents[1] / "qgis")]

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer  # noqa: E402
from qgis.PyQt.QtCore import QSize, Qt  # noqa: E402
from qgis.PyQt.QtWidgets import QMainWindow  # noqa: E402

WIDTH, HEIGHT = 1000, 700


def draw_raster(path: Path, picture: Path) -> None:
    """Open a raster as QGIS does, with the style beside it, and draw it."""
    layer = QgsRasterLayer(str(path), path.stem)
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    # Pixel by pixel: other sizes QGIS draws in two halves, with a line where their reliefs meet.
    settings.setOutputSize(QSize(layer.width(), layer.height()))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().scaledToHeight(HEIGHT, Qt.SmoothTransformation).save(str(picture))
    sys.stdout.write(f"{picture}: {layer.renderer().type()}\n")


def draw_dialog(algorithm: str, picture: Path, application: QgsApplication, window: QMainWindow) -> None:
    """Open the dialog of an algorithm of the plugin, with all it hides at first, and draw it."""
    from processing.gui.AlgorithmDialog import AlgorithmDialog

    made = application.processingRegistry().createAlgorithmById(f"resdepth:{algorithm}")
    dialog = AlgorithmDialog(made, parent=window)
    dialog.resize(WIDTH, HEIGHT)
    dialog.show()
    application.processEvents()
    dialog.grab().save(str(picture))
    sys.stdout.write(f"{picture}: {dialog.windowTitle()}\n")


def main(folder: Path, subjects: list[str]) -> None:
    """Draw each subject into the folder."""
    application = QgsApplication([], True)  # noqa: FBT003
    application.initQgis()
    window = QMainWindow()
    from processing.core.Processing import Processing
    from resdepth_qgis import classFactory

    Processing.initialize()
    plugin = classFactory(None)  # kept while the application runs
    plugin.initProcessing()
    for subject in subjects:
        path = Path(subject)
        if path.suffix == ".tif":
            draw_raster(path, folder / f"{path.stem}.png")
        else:
            draw_dialog(subject, folder / f"{subject}.png", application, window)
    sys.stdout.flush()
    os._exit(0)  # windows and QGIS must not be taken down in an order that Python decides


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
