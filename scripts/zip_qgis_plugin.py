"""Zip the plugin for QGIS, with the licence, for "Install from ZIP".

python scripts/zip_qgis_plugin.py FILE.zip
"""

import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PLUGIN = REPOSITORY / "qgis" / "resdepth_qgis"


def write(file: Path) -> None:
    """Write the archive: one folder, called as the module is."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(PLUGIN.iterdir()):
            if path.is_file():
                archive.write(path, f"{PLUGIN.name}/{path.name}")
        archive.write(REPOSITORY / "LICENSE", f"{PLUGIN.name}/LICENSE")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
