"""python test.py CONFIG.json: the same as `resdepth test CONFIG.json`."""

from resdepth.cli import run_old_script

if __name__ == "__main__":
    run_old_script("test")
