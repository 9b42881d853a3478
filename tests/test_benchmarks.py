"""`make bench` runs; its figures are for people to read."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_speed_benchmark_measures_everything_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick", "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    titles = [
        "refining, Mpx/s",
        "training, samples/s",
        "20,000 random patches: peak memory, MB",
        "drawing 20 samples from files: memory, MB",
        "published way: memory, MB",
        "ours: memory, MB",
    ]
    for title in titles:
        (row,) = (line for line in rows if line.startswith(f"| {title} |"))
        assert all(re.match(r"\d", cell.strip()) for cell in row.strip("|").split("|")[1:]), row
    assert "{" not in text, "a field of the page was not filled in"
    # The project's promise: 20,000 patches from 20,000 x 20,000 pixels in 50 MB.
    (row,) = (line for line in rows if "peak memory" in line)
    assert float(row.strip("|").split("|")[2]) < 50
