"""Writes the committed loss curves again, and says what changed: `python -m tests.invariants`.

To be run when the training was changed on purpose; the reason belongs in the commit message.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.invariants.curves import CURVES_FILE, TRAININGS, Curves, differences, read_curves


def rewrite(path: Path, curves: dict[str, Curves]) -> list[str]:
    """Write curves to a file unless all are the same within the tolerance; what changed, a line each."""
    before = read_curves(path) if path.is_file() else {}
    changes = [f"{name}: gone" for name in before.keys() - curves.keys()]
    for name, curve in curves.items():
        changes += [f"{name}: {line}" for line in differences(before.get(name, {}), curve)]
    if changes:
        path.write_text(json.dumps(curves, indent=1, sort_keys=True) + "\n")
    return changes


def main() -> None:
    """Train all of them and rewrite the file."""
    with tempfile.TemporaryDirectory() as folder:
        curves = {name: train(Path(folder, name)) for name, train in TRAININGS.items()}
    changes = rewrite(CURVES_FILE, curves)
    sys.stdout.write("\n".join(changes or ["nothing changed"]) + "\n")


if __name__ == "__main__":
    main()
