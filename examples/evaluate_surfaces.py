# Compare two DSMs with a reference DSM, and with median filters; look at a page.
import sys

import resdepth

initial, refined, reference = sys.argv[1:]
found = resdepth.evaluate(
    refined, reference, initial=initial, align=True, baselines=True, output="evaluated", overwrite=True
)
print(found.summary())
print(found.folder / "evaluation.html")
