"""Connected parts of a mask, numbered across the windows in which it is seen."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resdepth.geo.windows import Window
from resdepth.simulate.surface import Mask, Objects


class Parts:
    """Numbers for the connected parts (4-neighbours) of a mask that is given window by window.

    The windows tile the scene and come row by row. What is kept in memory grows with the number of parts;
    the numbers of pixels are in an array of the whole scene, which may be a file.

    Attributes:
        marks: (height, width) int32 of the whole scene, 0 outside the mask: which provisional part each
            pixel is in. `final` makes numbers of them.
    """

    def __init__(self, marks: NDArray[np.int32]) -> None:
        self.marks = marks
        self._parent = [0]
        self._numbers: NDArray[np.int32] | None = None

    def add(self, window: Window, mask: Mask) -> None:
        """Take in the mask of one window."""
        labels, n = ndimage.label(mask)
        first = len(self._parent)
        self._parent.extend(range(first, first + n))
        marks = np.where(labels > 0, labels + (first - 1), 0).astype(np.int32)
        self.marks[window.slices] = marks
        if window.row > 0:
            self._join(self.marks[window.row - 1, window.col : window.col_stop], marks[0])
        if window.col > 0:
            self._join(self.marks[window.row : window.row_stop, window.col - 1], marks[:, 0])

    def _join(self, before: NDArray[np.int32], here: NDArray[np.int32]) -> None:
        touching = (before > 0) & (here > 0)
        for one, other in np.unique(np.stack([before[touching], here[touching]]), axis=1).T.tolist():
            first, second = self._root(one), self._root(other)
            self._parent[max(first, second)] = min(first, second)

    def _root(self, mark: int) -> int:
        while self._parent[mark] != mark:
            self._parent[mark] = mark = self._parent[self._parent[mark]]
        return mark

    def final(self, window: Window) -> Objects:
        """(H, W) int32: the same positive number on all pixels of a part, 0 outside; once all is added."""
        if self._numbers is None:
            roots = np.array([self._root(mark) for mark in range(len(self._parent))], np.int32)
            self._numbers = np.unique(roots, return_inverse=True)[1].astype(np.int32)
        return self._numbers[self.marks[window.slices]]
