"""How far refinement moves heights, and when that cannot be right."""

import numpy as np
import pytest

from resdepth.refinement.provenance import (
    LARGEST_SHARES,
    Moved,
    NotTrusted,
    in_words,
    refuse_untrusted,
)


def moved_by(*distances: float, sigma_m: float = 1.0) -> Moved:
    before = np.zeros(len(distances), np.float32)
    return Moved.between(before, np.array(distances, np.float32), sigma_m)


def test_heights_up_and_down_count_and_voids_do_not() -> None:
    found = moved_by(-11, 4, 2, np.nan, 6)
    assert (found.heights, found.beyond) == (4, (3, 1, 2))
    assert found.shares == {"3 m": 75.0, "10 m": 25.0, "5 m (5 height sigmas)": 50.0}


def test_blocks_add_up_and_tags_keep_them() -> None:
    total = moved_by(4, 0) + moved_by(20, np.nan)
    assert Moved.from_tags(total.as_tags()) == total == moved_by(4, 0, 20)


@pytest.mark.parametrize(
    ("moved", "sentence"),
    [
        (
            moved_by(-11, 4, 2, np.nan, 6),
            "heights change by 5.75 m on average, up or down; 75.0 % of them by more than 3 m, 25.0 % by "
            "more than 10 m, 50.0 % by more than 5 m (5 height sigmas)",
        ),
        (moved_by(0.5, -1), "heights change by 0.75 m on average, up or down; none by more than 3 m"),
        (
            Moved(1.0, 10_000, (5, 0, 0), None),
            "heights change; less than 0.1 % of them by more than 3 m, none by more than 10 m, none by "
            "more than 5 m (5 height sigmas)",
        ),
        (moved_by(np.nan), "nothing, as there is no height to refine"),
    ],
)
def test_page_and_terminal_say_in_words_what_has_changed(moved: Moved, sentence: str) -> None:
    assert in_words(moved) == sentence


def test_blocks_of_which_one_states_no_average_have_none() -> None:
    earlier = Moved.from_tags({"RESDEPTH_MOVED": '{"sigma_m": 1.0, "heights": 2, "beyond": [1, 0, 0]}'})
    assert earlier is not None
    assert (moved_by(4) + earlier).mean_m is None


@pytest.mark.parametrize("text", ["", "[1]", '{"sigma_m": 1, "heights": 2, "beyond": [1, 2]}', '{"a": 1}'])
def test_tags_of_others_state_nothing(text: str) -> None:
    assert Moved.from_tags({"RESDEPTH_MOVED": text}) is None
    assert Moved.from_tags({}) is None


@pytest.mark.parametrize("index", range(3))
def test_above_a_share_it_is_a_warning_with_figures(index: int) -> None:
    counts = [0, 0, 0]
    counts[index] = round(1000 * LARGEST_SHARES[index])
    assert Moved(1.0, 1000, tuple(counts)).warning is None
    counts[index] += 1
    warning = Moved(1.0, 1000, tuple(counts)).warning
    assert warning is not None
    assert f"(at most {100 * LARGEST_SHARES[index]:.0f} %)" in warning


def test_no_heights_are_no_reason_to_warn() -> None:
    assert moved_by(np.nan).warning is None
    refuse_untrusted([])
    with pytest.raises(NotTrusted, match="force=True"):
        refuse_untrusted(["a: b"])
