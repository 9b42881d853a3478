"""What can be chosen by name: the lists that functions, configuration files and the command line share."""

from typing import Literal

Kind = Literal["train", "test"]
"""Of a configuration."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where a network runs; `auto` takes CUDA, then MPS, then the CPU."""
Precision = Literal["fp32", "bf16", "auto"]
"""What a network computes in; `auto` takes bf16 where the processor is made for it."""
Mode = Literal["exact", "seamless"]
"""How a DSM is refined: in tiles as published, or so that heights do not depend on tiles."""
Fuse = Literal["median", "mean", "uncertainty"]
"""How the results of several pairs become one; `uncertainty` weighs them by their expected errors."""
Compression = Literal["zstd", "deflate", "lzw", "none"]
"""Of a Cloud-Optimised GeoTIFF."""
Style = Literal["old-town", "suburb", "high-rise", "industrial"]
"""Of a simulated town."""
AnyStyle = Literal["any", Style]
"""Of a simulated town; `any` lets the seed choose."""
Motions = Literal["shift", "tilt", "none"]
Moves = Literal["dsm", "reference"]
