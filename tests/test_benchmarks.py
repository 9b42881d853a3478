"""`make bench` runs; its figures are for people to read."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
def test_the_speed_benchmark_measures_everything_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick", "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    titles = [
        "exact, fp32",
        "exact, bf16",
        "seamless, fp32",
        "seamless, bf16",
        "ours",
        "256 x 256 pixels, fp32",
        "256 x 256 pixels, bf16",
        "512 x 512 pixels, bf16",
        "512 x 512 pixels, null network",
        "matrix products, GFLOP/s",
        "the network on one image, GFLOP/s",
        "2",
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
    (row,) = (line for line in rows if "patches: peak memory" in line)
    assert float(row.strip("|").split("|")[2]) < 50


def test_a_task_leaves_nothing_that_one_beside_it_could_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quick benchmark runs two at once, on the same rasters."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from setting import write_scene

    rasters = sorted(write_scene(tmp_path / "huge", 64, 64, with_reference=False).folder.iterdir())
    for task in ("file_huge", "null_huge"):
        monkeypatch.setattr(sys, "argv", ["tasks.py", task, str(tmp_path), "--quick"])
        runpy.run_path(str(BENCHMARKS / "tasks.py"), run_name="__main__")
        assert json.loads(capsys.readouterr().out)["mpx_per_second"] > 0
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == rasters


def test_the_scaling_benchmark_refines_many_blocks_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--blocks", "36", "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["blocks"] == 36
    text = page.read_text(encoding="utf-8")
    assert "36 blocks of 64 x 64 pixels" in text
    assert "nan" not in text


def test_the_evaluating_benchmark_evaluates_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "evaluation-speed.md"
    command = [sys.executable, str(BENCHMARKS / "evaluating.py"), "--side", "600", "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nmad"] > 0.4
    text = page.read_text(encoding="utf-8")
    assert "| pixels | 600 x 600" in text
    assert "{" not in text
    assert "nan" not in text


@pytest.mark.slow
def test_the_accuracy_protocol_trains_and_evaluates_on_unseen_towns(tmp_path: Path) -> None:
    """`make accuracy`, on towns and a network of the smallest size."""
    page = tmp_path / "accuracy.md"
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), "--size", "tiny", "--page", str(page)]
    requests = tmp_path / "requests.json"
    requests.write_text('{"optimizer": {"learning_rate": 0.0001}}')
    command += ["--work", str(tmp_path / "work"), "--config", str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    rows = [
        line for line in text.splitlines() if re.match(r"\| (old-town|suburb|high-rise|industrial)", line)
    ]
    # The network's four scenes, and those of the median filters.
    assert [len(row.strip("|").split("|")) for row in rows] == [9] * 4 + [11] * 4
    assert "{" not in text, "a field of the page was not filled in"
    config = json.loads((tmp_path / "work" / "train.json").read_text())
    assert config["optimizer"] == {"learning_rate": 0.0001}
    trained = {dataset["name"] for dataset in config["datasets"]}
    assert not trained & {row.strip("| ").split(" ")[0] for row in rows}, "a test scene was trained on"


def test_without_the_real_data_the_comparison_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["simulation.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="aligned/reunion"):
        runpy.run_path(str(BENCHMARKS / "simulation.py"), run_name="__main__")


@pytest.mark.slow
def test_the_benchmark_of_the_size_prepares_a_small_town() -> None:
    command = [sys.executable, str(BENCHMARKS / "preparing_size.py"), "--side", "1280"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "1,280 x 1,280 pixels of 0.1 m, 4 raw images of 0.5 m:" in done.stdout
    assert re.search(r"\d+ s, \d+ s of processors, 0\.\d+ GB at most", done.stdout)
