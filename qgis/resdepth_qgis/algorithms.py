"""The algorithms: what each command asks for, and what comes out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingOutputFolder,
    QgsProcessingOutputHtml,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputString,
)

from .algorithm import CommandAlgorithm, Made, json_in
from .command import Finished
from .parameters import (
    CRS,
    FILE,
    RASTER,
    RASTERS,
    extent,
    folder_output,
    masks,
    or_folder,
    or_polygons,
    page_output,
    raster_output,
)

DATA_SET = "Folder of a data set, instead"
PAGE = (QgsProcessingOutputHtml, "PAGE", "Page to look at")
TO_LOOK_AT = "to look at: "


class Prepare(CommandAlgorithm):
    """From a DSM, raw images and a reference DSM to a data set."""

    COMMAND = "prepare"
    KINDS = {
        "source": or_folder(FILE, "Folder of a finished run of a stereo pipeline"),
        "dsm": RASTER,
        "images": RASTERS,
        "reference": RASTER,
        "masks": masks("building", "water", "forest"),
        "output": folder_output("Data set"),
        "crs": CRS,
        "dsm_crs": CRS,
        "reference_crs": CRS,
        "extent": extent("CRS", "DSM"),
    }
    ADVANCED = {
        "source", "masks", "vertical", "dsm_vertical", "reference_vertical", "dsm_crs", "reference_crs",
        "coregister", "moves", "rpc_bias", "trusted", "keep_rpcs", "workers",
    }  # fmt: skip
    OUTPUTS = [(QgsProcessingOutputRasterLayer, "INITIAL", "Initial DSM of the data set"), PAGE]

    def results(self, finished: Finished, made: Made) -> dict[str, Any]:
        """The folder; its DSM, which is shown; and the page."""
        finished.refuse_failure()
        made.feedback.pushInfo(finished.printed)
        folder = str(made.values["output"])
        initial = Path(folder) / "data" / "dsm" / "initial.tif"
        page = finished.printed.rpartition(TO_LOOK_AT)[2].strip()
        return {"OUTPUT": folder, "INITIAL": made.show(initial, "Initial DSM"), "PAGE": page}


class Refine(CommandAlgorithm):
    """From an initial DSM to a refined one."""

    COMMAND = "refine"
    KINDS = {
        "dsm": or_folder(RASTER, DATA_SET),
        "images": RASTERS,
        "output": raster_output("Refined DSM"),
        "region": extent("DSM"),
    }
    ADVANCED = {
        "pairs", "fuse", "uncertainty", "mode", "precision", "compress", "device", "workers", "scheduler",
        "wait_for_workers", "tile_size", "stac",
    }  # fmt: skip
    OUTPUTS = [(QgsProcessingOutputRasterLayer, "PROVENANCE", "Where each height comes from"), PAGE]

    def results(self, finished: Finished, made: Made) -> dict[str, Any]:
        """The refined DSM and where its heights come from, both shown; and the page."""
        finished.refuse_failure()
        is_shown = made.is_shown(str(made.values["output"]))
        written = [Path(line) for line in finished.printed.splitlines() if line]  # one, or one for each pair
        found = {}
        for refined in reversed(written):  # the first of them is the output
            provenance = refined.with_name(f"{refined.stem}_provenance{refined.suffix}")
            found = {"OUTPUT": str(refined), "PROVENANCE": str(provenance)}
            if is_shown:
                made.show(provenance, f"{refined.stem}: where heights come from")
                made.show(refined, "Refined DSM" if len(written) == 1 else refined.stem)
        page = written[0].with_suffix(".html") if written else Path()
        return {**found, "PAGE": str(page)} if made.values["report"] else found


class Evaluate(CommandAlgorithm):
    """DSMs against a reference DSM."""

    COMMAND = "evaluate"
    KINDS = {
        "dsms": or_folder(RASTERS, DATA_SET),
        "reference": RASTER,
        "initial": RASTER,
        "masks": masks("ground_truth", "building", "water", "forest"),
        "ground": RASTER,
        "region": or_polygons(extent("REFERENCE")),
        "output": folder_output("Evaluation"),
    }
    ADVANCED = {"masks", "ground", "threshold", "align", "write_aligned", "no_rasters"}
    FIXED = {"as_json": True}
    OUTPUTS = [
        (QgsProcessingOutputFolder, "EVALUATION", "Folder of the evaluation"),
        PAGE,
        (QgsProcessingOutputString, "VERDICT", "Verdict"),
    ]

    def results(self, finished: Finished, made: Made) -> dict[str, Any]:
        """The folder, whose errors are shown; the page; and the verdict."""
        finished.refuse_failure()
        done = json_in(finished)
        folder = Path(done["folder"])
        for raster in sorted(folder.glob("errors_*.tif")):
            made.show(raster, raster.stem.replace("_", " "))
        verdict = (done["verdict"] or {}).get("sentence", "")
        made.feedback.pushInfo(verdict)
        return {"OUTPUT": str(folder), "EVALUATION": str(folder), "PAGE": done["page"], "VERDICT": verdict}


class Doctor(CommandAlgorithm):
    """What will hurt in data."""

    COMMAND = "doctor"
    KINDS = {
        "subject": or_folder(RASTER, DATA_SET),
        "images": RASTERS,
        "reference": RASTER,
        "page": page_output("Page"),
    }
    FIXED = {"as_json": True}
    OUTPUTS = [(QgsProcessingOutputString, "WORST", "Severity of the worst finding")]

    def results(self, finished: Finished, made: Made) -> dict[str, Any]:
        """The findings, into the log; how bad the worst is; and the page."""
        if not finished.printed:  # exit code 2 also stands for a fault that was found
            finished.refuse_failure()
        diagnosis = json_in(finished)
        for one in diagnosis["findings"]:
            say = made.feedback.pushInfo if one["severity"] == "note" else made.feedback.pushWarning
            say(f"{one['severity']}: {one['about']}: {one['text']} {one['remedy']}\n")
        return {"WORST": diagnosis["worst"] or "", "HTML": made.values["page"]}


ALGORITHMS = (Prepare, Refine, Evaluate, Doctor)
