"""Notes every start of Python beneath a session of the tests: a `p`, and a `t` once it imports torch.

`tests/conftest.py` puts this folder on PYTHONPATH; `site` imports a module of this name wherever Python starts.
"""

import os
import sys

_FILE = os.environ.get("STARTS_OF_PYTHON", os.devnull)


def _note(what: str) -> None:
    file = os.open(_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, what.encode())
    os.close(file)


class _Watch:
    """Sees each import first and finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        """Note the import of torch, once."""
        if name == "torch":
            sys.meta_path.remove(self)
            _note("t")


_note("p")
sys.meta_path.insert(0, _Watch())
