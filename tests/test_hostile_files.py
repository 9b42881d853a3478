"""Every reader, given damaged files by the hundred: each is read, or refused with a message that names it."""

import json
import pickle
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
import shapely
import torch
from test_sources import City, gable_house, points_of, write_points
from test_vectors import some_polygons, write

from conftest import make_model, make_scene, write_raster
from mutations import damaged_bytes, damaged_values, survive
from resdepth.config.parse import load_train_config
from resdepth.data.scene import read_image_list, read_pair_list
from resdepth.errors import InputProblems, ResDepthError
from resdepth.evaluation.request import Request
from resdepth.evaluation.result import read_result
from resdepth.geo.grid import Grid
from resdepth.geo.raster import FileBand, read_tags
from resdepth.geo.vectors import open_vector_mask
from resdepth.geo.windows import Window
from resdepth.models.model import load_safetensors, save_model
from resdepth.models.published import read_architecture, read_checkpoint, read_moments
from resdepth.report.page_tables import tables_of
from resdepth.report.tables import summary_rows
from resdepth.runtime.progress import Silent
from resdepth.simulate.sources.citymodel import CitySource
from resdepth.simulate.sources.pointcloud import PointSource
from resdepth.simulate.sources.raw_surface import SourceOptions
from resdepth.stereo.ortho import read_rpc
from resdepth.workflows.check import check
from resdepth.workflows.evaluate import evaluate_files

X, Y = 465000.0, 5248000.0
COUNT = 200
MOST_MB = 1500


@pytest.fixture(autouse=True)
def memory_is_bounded() -> Iterator[None]:
    """An allocation far beyond what is in use fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MB * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def outcomes(path: Path, contents: Iterator[bytes], read: Callable[[Path], object]) -> tuple[int, int]:
    """How many files are read, and how many refused."""
    found = []
    for content in contents:
        path.write_bytes(content)
        found.append(survive(lambda: read(path), path))
    return sum(found), len(found) - sum(found)


def texts(values: Iterator[Any]) -> Iterator[bytes]:
    """JSON as files may hold it, NaN and half characters included."""
    for value in values:
        yield json.dumps(value).encode()


# JSON


def test_damaged_configurations(tmp_path: Path) -> None:
    made = make_scene(tmp_path, 32, 80)
    path = tmp_path / "config.json"

    def checked(file: Path) -> None:
        if problems := check(file):
            raise InputProblems(problems)

    def loaded(file: Path) -> None:
        if problems := load_train_config(file)[1]:
            raise InputProblems(problems)

    config = made.train_config()
    assert outcomes(path, texts(damaged_values(config, COUNT)), loaded)[1] > COUNT // 10
    outcomes(path, damaged_bytes(json.dumps(config).encode(), COUNT // 2), loaded)
    config["scheduler"] = {"enabled": False}  # which would load half of torch
    outcomes(path, texts(damaged_values(config, COUNT // 25, seed=1)), checked)


def test_damaged_evaluations(tmp_path: Path) -> None:
    made = make_scene(tmp_path, 32, 40)
    request = Request({"one": Path(made.path("initial.tif"))}, Path(made.path("reference.tif")))
    path, content = tmp_path / "evaluation.json", evaluate_files(request)[1].as_json()

    def shown(file: Path) -> None:
        outcome = read_result(file)
        assert summary_rows(outcome)
        assert tables_of(outcome)

    for result in content["surfaces"]["one"]["classes"].values():  # or nothing but histograms is damaged
        result["histogram"] = {name: values[:3] for name, values in result["histogram"].items()}
    assert min(outcomes(path, texts(damaged_values(content, COUNT // 2)), shown)) > 0
    outcomes(path, damaged_bytes(json.dumps(content).encode(), COUNT // 2), shown)


def test_damaged_descriptions_of_networks(tmp_path: Path) -> None:
    made = make_model()
    content = {"name": "UNet", "input_channels": "geom-stereo", "settings": dict(made.architecture.settings)}
    outcomes(tmp_path / "model_config.json", texts(damaged_values(content, COUNT)), read_architecture)


def test_damaged_city_models(tmp_path: Path) -> None:
    city = City()
    city.add("house", "Building", "Solid", gable_house(city), semantics={
        "surfaces": [{"type": "RoofSurface"}, {"type": "GroundSurface"}], "values": [[0, 0, None, None, 1]],
    })  # fmt: skip
    city.add_terrain()
    path = city.write(tmp_path / "city.json")
    content = json.loads(path.read_text())

    def read(file: Path) -> None:
        reference = CitySource(file, SourceOptions())
        reference.read(Window(0, 0, min(reference.grid.height, 32), min(reference.grid.width, 32)))

    sound, refused = outcomes(path, texts(damaged_values(content, COUNT)), read)
    assert min(sound, refused) > COUNT // 10
    outcomes(path, damaged_bytes(json.dumps(content).encode(), COUNT), read)


# Models


def test_damaged_models(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(make_model(), path)
    raw = path.read_bytes()
    length = 8 + int.from_bytes(raw[:8], "little")
    sound, _ = outcomes(path, damaged_bytes(raw, COUNT, focus=length), load_safetensors)
    assert sound > 10  # what is damaged in a weight nobody sees
    header = json.loads(raw[8:length])
    for header_text in texts(damaged_values(header, COUNT // 2)):
        path.write_bytes(len(header_text).to_bytes(8, "little") + header_text + raw[length:])
        survive(lambda: load_safetensors(path), path)
    described = json.loads(header["__metadata__"]["resdepth"])
    for text in texts(damaged_values(described, COUNT // 2)):
        changed = {**header, "__metadata__": {"resdepth": text.decode()}}
        header_text = json.dumps(changed).encode()
        path.write_bytes(len(header_text).to_bytes(8, "little") + header_text + raw[length:])
        survive(lambda: load_safetensors(path), path)


@pytest.mark.parametrize("old_format", [False, True])
def test_damaged_checkpoints(tmp_path: Path, old_format: bool) -> None:
    path = tmp_path / "x.pth"
    content = {"model_state_dict": {"a": torch.zeros(4)}, "loss_val": np.float64(1), "epoch": np.int64(3)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert (
        outcomes(path, damaged_bytes(path.read_bytes(), COUNT, focus=500), read_checkpoint)[1] > COUNT // 10
    )


def test_damaged_normalisations(tmp_path: Path) -> None:
    raw = pickle.dumps({"mean": np.float64(1.5), "std": np.float64(2.5)}, protocol=4)
    outcomes(tmp_path / "x.p", damaged_bytes(raw, 2 * COUNT), read_moments)


# Lists


def test_damaged_lists(tmp_path: Path) -> None:
    text = b"ortho1.tif, ortho2.tif\northo2.tif, ortho3.tif\n"

    def read(file: Path) -> None:
        images, problems = read_image_list(file)
        if images:
            problems += read_pair_list(file, images, 2)[1]
        if problems:
            raise InputProblems(problems)

    outcomes(tmp_path / "pairs.txt", damaged_bytes(text, 2 * COUNT), read)


# Rasters


def pixels_of(path: Path) -> None:
    band = FileBand(path)
    read_tags(path)
    band.read(Window(0, 0, min(band.grid.height, 64), min(band.grid.width, 64)))


@pytest.mark.parametrize(
    "layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"}]
)
@pytest.mark.filterwarnings("ignore")  # of rasterio, about what it guesses
def test_damaged_rasters(tmp_path: Path, layout: dict[str, Any]) -> None:
    values = np.random.default_rng(0).normal(400, 3, (32, 48)).astype(np.float32)
    path = write_raster(tmp_path / "dsm.tif", values, nodata=-9999.0, **layout)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (1.0,)
        dataset.update_tags(RESDEPTH_JOB="x")
    raw = path.read_bytes()
    sound, refused = outcomes(path, damaged_bytes(raw, COUNT, focus=1500), pixels_of)
    assert min(sound, refused) > COUNT // 10


RPC = "".join(
    f"<MDI key='{name}'>{value}</MDI>"
    for name, value in {
        **{f"{axis}_OFF": 10 for axis in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")},
        **{f"{axis}_SCALE": 10 for axis in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")},
        **{f"{axis}_{part}_COEFF": "1 " + "0 " * 19 for axis in ("LINE", "SAMP") for part in ("NUM", "DEN")},
    }.items()
)
SIDECAR = f"""<PAMDataset><SRS>EPSG:32632</SRS><GeoTransform>465000, 0.5, 0, 5248000, 0, -0.5</GeoTransform>
<Metadata domain="RPC">{RPC}</Metadata>
<PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue><Scale>0.5</Scale><Offset>1</Offset>
<UnitType>m</UnitType><Metadata><MDI key="STATISTICS_MAXIMUM">410</MDI></Metadata></PAMRasterBand>
</PAMDataset>
"""


@pytest.mark.filterwarnings("ignore")
def test_damaged_sidecars_of_rasters(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "dsm.tif", np.ones((16, 16), np.float32), crs=None)
    words = ("nan", "inf", "-1e400", "x", "", "9" * 400, "0", "\u00e9")
    numbers = [
        f">{number}<" for number in ("465000, 0.5, 0, 5248000, 0, -0.5", "-9999", "0.5", "1", "410", "10")
    ]
    spoilt = [SIDECAR.replace(old, f">{new}<") for old in numbers for new in words]
    spoilt += [SIDECAR.replace("1 0 ", f"{new} 0 ") for new in words]
    spoilt += [
        SIDECAR.replace("EPSG:32632", new) for new in ("EPSG:0", "EPSG:4978", "x", "LOCAL_CS", "\ud800x")
    ]

    def read(file: Path) -> None:
        pixels_of(path)
        read_rpc(path)

    sidecar = path.with_name("dsm.tif.aux.xml")
    for text in spoilt:
        sidecar.write_bytes(text.encode("utf-8", "surrogatepass"))
        survive(lambda: read(path), path)
    for raw in damaged_bytes(SIDECAR.encode(), COUNT):
        sidecar.write_bytes(raw)
        survive(lambda: read(path), path)


@pytest.mark.parametrize("edge", [1e308, -1e308, 1e20, float("nan"), float("inf"), -float("inf"), 0.0])
@pytest.mark.parametrize(
    "transform", [(0.5, 0, X, 0, -0.5, Y), (1e-300, 0, 0, 0, -1e-300, 0), (1e300, 0, 0, 0, -1e300, 0)]
)
def test_regions_of_absurd_numbers(edge: float, transform: tuple[float, ...]) -> None:
    grid = Grid(100, 100, transform)
    for place in range(4):
        bounds = [X, Y - 10, X + 10, Y]
        bounds[place] = edge
        try:
            window = grid.window_of(tuple(bounds))
        except ResDepthError:
            continue
        assert grid.whole.shape[0] >= window.row_stop > window.row >= 0


# Polygons


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_polygons(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"roofs{suffix}", some_polygons(4))
    grid = Grid(40, 40, (0.5, 0, X, 0, -0.5, Y))
    raw = path.read_bytes()

    def read(file: Path) -> None:
        open_vector_mask(file, grid).read(grid.whole)

    outcomes(path, damaged_bytes(raw, COUNT // 4, focus=2000), read)


@pytest.mark.parametrize(
    "shape",
    [
        shapely.Polygon(),
        shapely.Polygon([(0, 0), (1e308, 0), (1e308, 1e308), (0, 1e308)]),
        shapely.Polygon([(X, Y), (X + 9, Y - 9), (X + 9, Y), (X, Y - 9)]),
        shapely.Polygon([(X, Y), (X, Y), (X, Y), (X, Y)]),
        shapely.Polygon([(X, Y, np.nan), (X + 9, Y, 1), (X + 9, Y - 9, 2)]),
        shapely.GeometryCollection([shapely.GeometryCollection([shapely.box(X, Y - 9, X + 9, Y)])]),
        shapely.LineString([(X, Y), (X + 1, Y)]),
    ],
    ids=["empty", "huge", "bow", "point", "nan", "nested", "line"],
)
@pytest.mark.filterwarnings("ignore")
def test_odd_polygons(tmp_path: Path, shape: Any) -> None:
    path = write(tmp_path / "odd.gpkg", [shape])
    grid = Grid(40, 40, (0.5, 0, X, 0, -0.5, Y))
    survive(lambda: open_vector_mask(path, grid).read(grid.whole), path)


# Points


@pytest.mark.parametrize("name", ["town.las", "town.laz"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_point_clouds(tmp_path: Path, name: str) -> None:
    path = write_points(tmp_path / name, points_of(np.full((10, 10), 3.0)))
    (tmp_path / "work").mkdir()

    def read(file: Path) -> None:
        reference = PointSource(file, SourceOptions(), tmp_path / "work", Silent())
        reference.read(Window(0, 0, min(reference.grid.height, 16), min(reference.grid.width, 16)))

    outcomes(path, damaged_bytes(path.read_bytes(), COUNT, focus=375), read)


def test_bounds_of_a_point_cloud_that_its_points_do_not_fill_take_no_room(tmp_path: Path) -> None:
    path = write_points(tmp_path / "town.las", points_of(np.full((10, 10), 3.0)))
    with laspy.open(path) as file:
        header = file.header
    raw = bytearray(path.read_bytes())
    raw[179:187] = np.float64(header.maxs[0] + 30_000).tobytes()  # the largest x
    raw[203 - 8 : 203] = np.float64(header.maxs[1] + 30_000).tobytes()
    path.write_bytes(raw)
    (tmp_path / "work").mkdir()
    with pytest.raises(ResDepthError, match=r"town\.las: .*repair_bb"):
        PointSource(path, SourceOptions(), tmp_path / "work", Silent())
    assert list((tmp_path / "work").iterdir()) == []
