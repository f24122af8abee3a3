"""Settings every test shares."""

import os

# Two test processes on two cores: more threads each would only wait for one another.
for name in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
