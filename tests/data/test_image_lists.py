"""Lists of images and of pairs, as people write them."""

from pathlib import Path

import pytest

from resdepth.data.scene import read_image_list, read_pair_list

IMAGES = tuple(Path("/data") / name for name in ("ortho1.tif", "ortho10.tif", "ortho 2.tif", "b.tif"))


def pairs(
    tmp_path: Path, text: str, n_views: int | None = 2, images: tuple[Path, ...] | None = IMAGES
) -> tuple[tuple[tuple[int, ...], ...], list[str]]:
    """The view sets, and the problems without the file's name."""
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    view_sets, problems = read_pair_list(path, images, n_views)
    return view_sets, [f"{problem.severity}: {problem}".replace(f"{path}: ", "") for problem in problems]


def test_images_lie_beside_their_list_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.tif").touch()
    (tmp_path / "b.tif").touch()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lists" / "images.txt"
    path.write_text("a.tif\nb.tif\n/data/c.tif\n")
    expected = (tmp_path / "lists" / "a.tif", tmp_path / "b.tif", Path("/data/c.tif"))
    assert read_image_list(path) == (expected, [])


@pytest.mark.parametrize(
    "text",
    ["/a b.tif\n/c.tif\n", "\n  /a b.tif \n\n\t/c.tif", "/a b.tif\r\n/c.tif\r\n", "\ufeff/a b.tif\n/c.tif"],
)
def test_blank_lines_spaces_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path, text: str) -> None:
    path = tmp_path / "images.txt"
    path.write_bytes(text.encode())
    assert read_image_list(path) == ((Path("/a b.tif"), Path("/c.tif")), [])


def test_images_of_one_name_are_stated_once_for_each_name(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    path.write_text("/a/x.tif\n/b/x.tif\n/c/x.tif\n/a/y.tif\n/b/y.tif\n/b/z.tif\n")
    images, problems = read_image_list(path)
    assert images is not None
    assert len(images) == 6
    assert [problem.message for problem in problems] == [
        "the file name 'x.tif' occurs 3 times; pair lists need unique names",
        "the file name 'y.tif' occurs 2 times; pair lists need unique names",
    ]


def test_a_list_that_cannot_be_read_gives_no_images(tmp_path: Path) -> None:
    images, (problem,) = read_image_list(tmp_path / "images.txt")
    assert images is None
    assert problem.where == str(tmp_path / "images.txt")


@pytest.mark.parametrize(
    "text",
    [
        "ortho1.tif, b.tif\nb.tif, ortho1.tif\n",
        "ortho1.tif,b.tif\nb.tif,ortho1.tif",
        "  ortho1.tif ,\tb.tif , \n\n\n b.tif,ortho1.tif,,\n",
        "\ufeffortho1.tif, b.tif\r\nb.tif, ortho1.tif\r\n",
    ],
)
def test_pairs_are_read_however_they_are_spaced(tmp_path: Path, text: str) -> None:
    assert pairs(tmp_path, text) == (((0, 3), (3, 0)), [])


def test_single_images_and_triples_are_read(tmp_path: Path) -> None:
    assert pairs(tmp_path, "ortho1.tif,\nb.tif\n", 1) == (((0,), (3,)), [])
    assert pairs(tmp_path, "ortho1.tif, ortho 2.tif, b.tif", 3) == (((0, 2, 3),), [])


def test_names_match_whole_file_names_only(tmp_path: Path) -> None:
    assert pairs(tmp_path, "ortho10.tif, ortho1.tif") == (((1, 0),), [])
    for name in ("ortho1", "rtho1.tif", "data", "/data/ortho1.tif", "ORTHO1.TIF"):
        view_sets, problems = pairs(tmp_path, f"{name}, b.tif")
        assert view_sets == ()
        assert problems == [
            f"error: line 1: {name}: not in the image list, "
            "which has ortho1.tif, ortho10.tif, ortho 2.tif, b.tif"
        ]


def test_everything_wrong_with_a_line_is_stated_with_its_number(tmp_path: Path) -> None:
    text = "ortho1.tif, b.tif\n\nc.tif, c.tif, ortho1.tif\n"
    view_sets, (problem,) = pairs(tmp_path, text)
    assert view_sets == ((0, 3),)
    assert problem.startswith("error: line 3: c.tif, c.tif: not in the image list")
    assert "; names one image twice (c.tif, c.tif, ortho1.tif)" in problem
    assert "; names 3 images (c.tif, c.tif, ortho1.tif); the network takes 2" in problem


def test_a_line_that_repeats_another_is_ignored_with_a_warning(tmp_path: Path) -> None:
    text = "ortho1.tif, b.tif\nb.tif, ortho1.tif\northo1.tif,b.tif\n"
    view_sets, problems = pairs(tmp_path, text)
    assert view_sets == ((0, 3), (3, 0))
    assert problems == ["warning: line 3: repeats line 1 (ortho1.tif,b.tif); ignored"]


def test_a_list_is_looked_at_though_the_images_or_the_network_are_unknown(tmp_path: Path) -> None:
    assert pairs(tmp_path, "x.tif, y.tif", images=None) == ((), [])
    assert len(pairs(tmp_path, "x.tif, x.tif", images=None)[1]) == 1
    assert pairs(tmp_path, "ortho1.tif, b.tif, ortho 2.tif", None) == (((0, 3, 2),), [])
    assert len(pairs(tmp_path, "ortho1.tif, c.tif", None)[1]) == 1


def test_long_lists_are_read_quickly(tmp_path: Path) -> None:
    images = tuple(Path(f"/data/{index}.tif") for index in range(300))
    lines = [f"{first}.tif, {second}.tif" for first in range(300) for second in range(300) if first != second]
    view_sets, problems = pairs(tmp_path, "\n".join(lines), images=images)
    assert len(view_sets) == 300 * 299
    assert problems == []


def test_a_list_of_junk_gives_short_messages(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("x" * 10**6 + "\n" + ",".join(["y" * 300] * 1000) + "\n\x01\x02,,,\n")
    _, problems = read_pair_list(path, [tmp_path / f"{number}.tif" for number in range(1000)], 2)
    assert len(problems) == 3
    assert max(len(str(problem)) for problem in problems) < 2500
