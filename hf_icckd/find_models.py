"""List architectures that could teach or learn: `hf-icckd models [PATTERN] [--max_params 5M]`."""

from __future__ import annotations

import textwrap

from hf_icckd.models.search import Architecture, find_architectures
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.utils.text import show

_WIDTH = 100


def main(argv: list[str] | None = None) -> None:
    """Print a table of the architectures that fit the options."""
    (args,) = parse_command("models", argv)
    set_up_logging()
    with readable_errors():
        low, high = args.params_range()
        found = find_architectures(args.pattern, low, high, args.pretrained_only)
        if not found:
            raise ValueError("no architecture fits; allow more parameters with --max_params, or another pattern")
        show(models_table(found))


def models_table(found: list[Architecture]) -> str:
    """Names, parameters, sizes of images, pretrained weights and their licences.

    Of a single architecture each of its weights gets a line.

    Args:
        found: At least one architecture.
    """
    name_width = max(len(each.name) for each in found) + 2
    head = f"{'architecture':<{name_width}}{'parameters':>11}  {'images':<9}  pretrained weights, licence"
    lines = [head, "-" * _WIDTH]
    for each in found:
        height, width = each.image_size
        start = f"{each.name:<{name_width}}{_short(each.parameters):>11}  {f'{width} x {height}':<9}  "
        words = [
            line
            for weights in _weights(each.licences, all_of_them=len(found) == 1)
            for line in textwrap.wrap(weights, _WIDTH - len(start), break_long_words=False, break_on_hyphens=False)
        ]
        lines += [start + words[0], *(" " * len(start) + each for each in words[1:])]
    count = "1 architecture" if len(found) == 1 else f"{len(found):,} architectures, largest first"
    return "\n".join([*lines, f"{count}; hf-icckd models NAME lists all weights of one"])


def _weights(licences: dict[str, str], all_of_them: bool) -> list[str]:
    if not licences:
        return ["none"]
    if all_of_them:
        return [f"{tag}, {licence}" for tag, licence in licences.items()]
    first, *others = licences
    differing = sorted({licences[tag] for tag in others} - {licences[first]})
    more = f" and {len(others)} more" if others else ""
    return [f"{first}{more}, {', '.join([licences[first], *differing])}"]


def _short(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} K"


if __name__ == "__main__":
    main()
