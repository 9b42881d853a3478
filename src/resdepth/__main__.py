"""python -m resdepth."""

from resdepth.cli import main

main(prog_name="resdepth")
