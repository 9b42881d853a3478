"""Statistics files and tables. The layout is compared with the published files in test_golden.py."""

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from resdepth.evaluation.metrics import Statistics, statistics
from resdepth.evaluation.result import Evaluation
from resdepth.report.tables import (
    format_overall_statistics,
    format_statistics,
    summary_table,
    write_statistics,
)

EMPTY = statistics(np.empty(0, np.float32))
REFINED = statistics(np.array([-1, 0.25, 3], np.float32))
INITIAL = statistics(np.array([-10, 4, 30], np.float32))


def evaluation(**refined: Statistics) -> Evaluation:
    return Evaluation(
        {"overall": REFINED, **refined}, {"overall": INITIAL, **dict.fromkeys(refined, INITIAL)}, 0.25
    )


def section(text: str, title: str) -> dict[str, str]:
    """The figures below a title, by label."""
    lines = text.split(f"{title}\n", 1)[1].split("\n\n\n", maxsplit=1)[0].splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_the_text_has_a_section_before_and_after_for_each_class() -> None:
    text = format_statistics(evaluation(building=REFINED, terrain=REFINED), "UNet", "best.pth")
    titles = [line for line in text.splitlines() if line.startswith("STATISTICS")]
    assert titles == [
        f"STATISTICS, {label}: {surface} DSM"
        for label in ("OVERALL", "BUILDING PIXELS", "TERRAIN PIXELS")
        for surface in ("INITIAL", "REFINED")
    ]
    assert text.startswith("Model name:\tUNet\nModel weights:\tbest.pth\n")
    assert "Number of pixels:\t\t\t3\nArea [km^2]:\t\t\t\t0.00\n" in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("building", "BUILDING PIXELS"),
        ("terrain", "TERRAIN PIXELS"),
        ("terrain_without_water", "TERRAIN PIXELS WITHOUT WATER"),
        ("terrain_without_forest", "TERRAIN PIXELS WITHOUT FOREST"),
        ("terrain_without_water_forest", "TERRAIN PIXELS WITHOUT WATER/FOREST"),
    ],
)
def test_each_class_has_its_title(name: str, title: str) -> None:
    for text in (
        format_statistics(evaluation(**{name: REFINED}), "UNet", ""),
        format_overall_statistics(evaluation(**{name: REFINED}), "UNet", ""),
    ):
        underlined = f"STATISTICS, {title}: REFINED DSM"
        assert f"\n{underlined}\n{'-' * len(underlined)}\n" in text


def test_figures_stand_behind_their_labels() -> None:
    text = format_statistics(evaluation(), "UNet", "")
    before, after = (
        section(text, f"STATISTICS, OVERALL: {surface} DSM") for surface in ("INITIAL", "REFINED")
    )
    assert {label: value.strip() for label, value in after.items()} == {
        "Maximum residual error [m]": "3.000 m",
        "Minimum residual error [m]": "-1.000 m",
        "Mean absolute residual error (MAE) [m]": "1.417 m",
        "RMSE residual error [m]": "1.831 m",
        "Absolute median residual error [m]": "1.000 m",
        "Median residual error [m]": "0.250 m",
        "Normalized median absolute deviation (NMAD) [m]": "1.853 m",
        "NMAD (ResDepth 2022) [m]": "2.965 m",
    }
    assert before["Minimum residual error [m]"].strip() == "-10.000 m"


def test_figures_line_up_in_one_column() -> None:
    text = format_statistics(evaluation(), "UNet", "").expandtabs(8)
    columns = {line.rindex(" m") for line in text.splitlines() if line.endswith(" m")}
    assert len(columns) == 1


def test_an_empty_class_prints_two_dashes() -> None:
    text = format_statistics(evaluation(building=EMPTY), "UNet", "")
    figures = section(text, "STATISTICS, BUILDING PIXELS: REFINED DSM")
    assert len(figures) == 8
    assert {value.strip() for value in figures.values()} == {"-- m"}
    assert "nan" not in text


def test_nothing_to_evaluate_at_all_is_printable() -> None:
    text = format_statistics(Evaluation({"overall": EMPTY}, {"overall": EMPTY}, 0.25), "UNet", "")
    assert "Number of pixels:\t\t\t0\n" in text
    assert "nan" not in text


def test_over_all_pairs_only_the_refined_surfaces_are_evaluated() -> None:
    text = format_overall_statistics(evaluation(building=REFINED), "UNet", "best.pth")
    assert "Statistics over all predictions" in text
    assert "INITIAL" not in text
    assert text.count("REFINED DSM") == 2


def test_beside_the_text_lies_a_json_file_with_the_same_figures(tmp_path: Path) -> None:
    evaluated = evaluation(building=EMPTY)
    write_statistics(tmp_path / "dsm_statistics.txt", "text\n", evaluated)
    assert (tmp_path / "dsm_statistics.txt").read_text() == "text\n"
    content = json.loads((tmp_path / "dsm_statistics.json").read_text())
    assert content == evaluated.as_json()
    assert content["classes"]["overall"]["refined"]["nmad"] == REFINED.nmad
    assert content["classes"]["building"]["refined"]["nmad"] is None


def test_the_table_is_markdown_with_a_row_before_and_after() -> None:
    table = summary_table(
        {"zurich Stereopair_0_1": evaluation(), "all": Evaluation({"overall": EMPTY}, None, 1)}
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == [
        "data set",
        "pixels",
        "surface",
        "n",
        "MAE [m]",
        "RMSE [m]",
        "MedAE [m]",
        "NMAD [m]",
        "median [m]",
        "MAE, median removed [m]",
        "RMSE, median removed [m]",
    ]
    assert set("".join(rows[1])) == {"-", ":"}
    assert rows[2][:5] == ["zurich Stereopair_0_1", "overall", "initial", "3", "14.667"]
    assert rows[3] == [
        "zurich Stereopair_0_1",
        "overall",
        "refined",
        "3",
        "1.417",
        "1.831",
        "1.000",
        "1.853",
        "0.250",
        "1.333",
        "1.744",
    ]
    assert rows[4] == ["all", "overall", "refined", "0", *["--"] * 7]
    assert len({len(line) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("module", ["pictures", "tables"])
def test_what_train_and_test_need_of_the_reports_comes_with_every_installation(module: str) -> None:
    """The packages that these modules import are dependencies, not extras."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {re.split(r"\W", one.replace("-", "_"))[0] for one in project["dependencies"]}
    tree = ast.parse((root / "src" / "resdepth" / "report" / f"{module}.py").read_text(encoding="utf-8"))
    plain = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    parts = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported = {name.partition(".")[0] for name in (*plain, *parts)}
    foreign = {"pillow" if name == "PIL" else name for name in imported - set(sys.stdlib_module_names)}
    assert foreign - {"resdepth"} <= brought
