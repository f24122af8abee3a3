"""Script: prints the array in a LIBERO file of initial states in NumPy's own format.

python libero_states.py FILE > states.npy

The files are pickles that `torch.save` wrote. This reads them in a process of its own, without
torch, and admits only the four names that an array of numbers needs.
"""

import io
import pickle
import sys
import zipfile
from typing import Any

import numpy as np

_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):  # trusted: names that make an array of numbers, no more
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def main(file: str) -> None:
    """Writes the array to standard output."""
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as pickled:
            states = _ArrayUnpickler(pickled).load()
    plain = io.BytesIO()  # NumPy cannot write to a pipe
    np.save(plain, np.asarray(states, np.float64), allow_pickle=False)
    sys.stdout.buffer.write(plain.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
