"""Which pairs of images are used."""

import pytest

from resdepth.stereo.pairs import MOST_PAIRS, StereoPair, best_pairs

# Measured on a simulated scene of five images, three of one date and two of another.
WIDE = StereoPair(0, 2, 0.55, 0.865, 0.862)
GOOD = StereoPair(1, 2, 0.34, 0.948, 0.932)
OTHER_DATE = StereoPair(3, 4, 0.23, 0.984, 0.939)
NARROW = StereoPair(0, 1, 0.22, 0.967, 0.946)
TWO_DATES = StereoPair(1, 4, 0.22, 0.972, 0.899)
SEEN = [WIDE, GOOD, OTHER_DATE, NARROW, TWO_DATES]


def test_pairs_of_two_dates_and_those_that_see_other_sides_of_things_are_left_out() -> None:
    assert best_pairs(SEEN) == [GOOD, NARROW, OTHER_DATE]


def test_a_pair_of_two_dates_is_used_if_there_is_no_other() -> None:
    assert best_pairs([TWO_DATES]) == [TWO_DATES]


def test_a_narrow_pair_has_to_agree_better() -> None:
    assert StereoPair(0, 1, 0.1, 1.0, 0.95).height_error == pytest.approx(0.7)
    assert best_pairs([StereoPair(0, 1, 0.1, 1.0, 0.95), StereoPair(0, 2, 0.3, 1.0, 0.95)]) == [
        StereoPair(0, 2, 0.3, 1.0, 0.95)
    ]


def test_no_more_than_some_pairs_are_used() -> None:
    assert len(best_pairs([StereoPair(0, number, 0.3) for number in range(1, 9)])) == MOST_PAIRS


def test_what_matches_little_is_left_out() -> None:
    assert best_pairs([StereoPair(0, 1, 0.3, 0.9), StereoPair(0, 2, 0.3, 0.5)]) == [
        StereoPair(0, 1, 0.3, 0.9)
    ]
