"""What a workflow writes down about itself: complete configurations, warnings, log files."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resdepth.config.schema import Section
from resdepth.errors import Problem
from resdepth.geo.windows import Window
from resdepth.runtime.surroundings import logged_from
from resdepth.workflows.check import Area

logger = logging.getLogger(__name__)


def complete_config(config: Section, areas: list[dict[str, Any]]) -> dict[str, Any]:
    """A configuration with every default filled in, and what follows from it for each data set."""
    content = config.model_dump(mode="json", by_alias=True)
    for dataset, area in zip(content["datasets"], areas, strict=True):
        dataset.update(area)
    return {
        section: {key: value for key, value in values.items() if value is not None}
        if isinstance(values, dict)
        else [{key: value for key, value in item.items() if value is not None} for item in values]
        for section, values in content.items()
    }


def extents(regions: Iterable[Window]) -> dict[str, list[list[int]]]:
    """Regions as the published configurations list them, with inclusive ends."""
    windows = list(regions)
    return {
        "x_extent": [[window.col, window.col_stop - 1] for window in windows],
        "y_extent": [[window.row, window.row_stop - 1] for window in windows],
    }


def describe_training_area(area: Area) -> dict[str, Any]:
    """What follows from the configuration for one training data set."""
    regions = {"train": area.train, "val": area.val}
    described: dict[str, Any] = {
        "area_defn": {role: extents(windows) for role, windows in regions.items() if windows}
    }
    if area.scene.image_paths:
        described["image_list"] = [str(path) for path in area.scene.image_paths]
        described["image_pairs"] = [list(view_set) for view_set in area.train_sets or area.val_sets]
    return described


def warn(problems: Iterable[Problem]) -> None:
    """Log what may make the result differ from the request."""
    for problem in problems:
        logger.warning("%s", problem)


class _QuietFileHandler(logging.FileHandler):
    """Where the disk is full, the message on the terminal must not drown in logging's own complaints."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - of logging
        """Continue."""


@contextmanager
def log_file(path: Path) -> Iterator[Callable[[str], None]]:
    """Write the package's log messages into a file as well, as long as the block runs.

    Yields:
        A function that writes into this file alone, for what the caller tells the user another way.
    """
    package = logging.getLogger("resdepth")
    handler = _QuietFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def note(text: str) -> None:
        handler.handle(package.makeRecord(package.name, logging.ERROR, __file__, 0, text, (), None))

    package.addHandler(handler)
    try:
        with logged_from(min(package.getEffectiveLevel(), logging.INFO), [package.name]):
            yield note
    finally:
        package.removeHandler(handler)
        handler.close()
