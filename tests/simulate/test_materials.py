"""Randomness that belongs to a place; cars."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resdepth.geo.windows import Window
from resdepth.simulate.surface import CAR_HEIGHT_M, SurfaceClass, draw_cars, hashed, pixel_noise, smooth_noise

WINDOWS = st.builds(
    Window, st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 60), st.integers(1, 60)
)


@settings(max_examples=40)
@given(WINDOWS, st.floats(0.5, 40), st.integers(0, 2**64 - 1))
def test_noise_belongs_to_the_place(window: Window, spacing: float, seed: int) -> None:
    outer = Window(window.row - 7, window.col - 3, window.height + 12, window.width + 9)
    for noise in (smooth_noise(outer, spacing, seed), pixel_noise(outer, seed)):
        assert noise.min() >= -1
        assert noise.max() <= 1
    inner = window.relative_to(outer).slices
    np.testing.assert_array_equal(
        smooth_noise(outer, spacing, seed)[inner], smooth_noise(window, spacing, seed)
    )


def test_every_bit_of_a_seed_counts() -> None:
    numbers = np.arange(1000)
    seen = {hashed(2**bit, numbers).tobytes() for bit in range(64)}
    assert len(seen) == 64
    bits = np.unpackbits(hashed(3, numbers).view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.02


def test_cars_stand_on_asphalt_along_the_road_and_elsewhere_another_day() -> None:
    classes = np.full((200, 200), SurfaceClass.GRASS, dtype=np.uint8)
    classes[90:110] = SurfaceClass.ASPHALT  # a road from west to east
    window = Window(0, 0, 200, 200)
    rise, paint = draw_cars(classes, window, 0.25, seed=1, date=0, density=0.8)
    assert rise.max() == np.float32(CAR_HEIGHT_M)
    assert (rise[classes != SurfaceClass.ASPHALT] == 0).all()
    assert ((paint > 0) == (rise > 0)).all()
    rows, cols = np.nonzero(rise > 0)
    runs = [np.ptp(cols[rows == row]) for row in np.unique(rows)]
    assert len(runs) > 5
    length = np.abs(np.diff((rise > 0).astype(int), axis=1)).sum()
    breadth = np.abs(np.diff((rise > 0).astype(int), axis=0)).sum()
    assert length < breadth  # longer along the road than across it
    another = draw_cars(classes, window, 0.25, seed=1, date=1, density=0.8)[0]
    assert (another != rise).mean() > 0.02
    assert not draw_cars(classes, window, 0.25, seed=1, date=0, density=0.0)[0].any()
