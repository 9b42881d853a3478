"""Refine and evaluate as the dialogs of QGIS do, and open the layers. Run by the Python of QGIS.

python3 loading.py FOLDER, with initial.tif and reference.tif
"""

import os
import sys
from pathlib import Path

sys.path[:0] = ["/usr/share/qgis/python/plugins", str(Path(__file__).resolve().parents[2] / "qgis")]

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
)


def main(folder: str) -> None:
    application = QgsApplication([], True)
    application.initQgis()
    from processing.core.Processing import Processing
    from processing.gui.Postprocessing import handleAlgorithmResults
    from resdepth_qgis import classFactory

    Processing.initialize()
    plugin = classFactory(None)
    plugin.initProcessing()
    project, context, feedback = QgsProject.instance(), QgsProcessingContext(), QgsProcessingFeedback()
    context.setProject(project)
    opened = QgsProcessingOutputLayerDefinition(f"{folder}/opened.tif", project)
    initial, reference = f"{folder}/initial.tif", f"{folder}/reference.tif"
    for name, given in {
        "refine": {"DSM": initial, "OUTPUT": opened, "DEVICE": "cpu", "FORCE": True},
        "evaluate": {"DSMS": [initial], "REFERENCE": reference, "OUTPUT": f"{folder}/opened"},
    }.items():
        algorithm = application.processingRegistry().createAlgorithmById(f"resdepth:{name}")
        _, is_done = algorithm.run(given, context, feedback)
        assert is_done, feedback.textLog()
    assert handleAlgorithmResults(algorithm, context, feedback)
    del context  # takes what opened the layers with it
    for layer in project.mapLayers().values():
        print(f"{layer.name()}|{layer.renderer().type()}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
