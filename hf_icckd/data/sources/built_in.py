"""The data sets that come with this package, by the name that a user gives."""

from __future__ import annotations

from collections.abc import Callable

from hf_icckd.data.sources.digits import Digits
from hf_icckd.data.sources.source import Source
from hf_icckd.data.sources.synthetic import Synthetic

BUILT_IN: dict[str, Callable[[], Source]] = {"digits": Digits, "synthetic": Synthetic}
