"""Which release of the package this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("resdepth")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"
