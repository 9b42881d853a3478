# Train on a data set with a configuration that is a dict, then refine with the model.
import json
import sys
from pathlib import Path

import resdepth

config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
config["training_settings"]["n_epochs"] = 1
run = resdepth.train(config)
model = resdepth.load_model(run)
print(model, resdepth.refine(sys.argv[2], sys.argv[3:], model, full=True).summary(), sep="\n")
