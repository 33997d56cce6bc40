"""The server around the engine, in rings: see docs/explanation/architecture.md."""

import os

# Before NumPy is loaded. Two BLAS threads on a core that training has too are slower than one, at
# times fifty times; workers and calls are what runs side by side.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
