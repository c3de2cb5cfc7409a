"""The command `hf-icckd COMMAND [--option value ...]`; a command's module is imported only when it runs."""

from __future__ import annotations

import sys

from hf_icckd._version import __version__
from hf_icckd.options.commands import COMMANDS
from hf_icckd.options.help import HELP_WORDS, asks_for_help, command_help, overview
from hf_icckd.utils.text import show, suggest


def main(argv: list[str] | None = None) -> None:
    """Run a command, or print help or the version."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in HELP_WORDS:
        show(overview())
        raise SystemExit(0 if words else 2)
    if words[0] == "--version":
        show(f"hf-icckd {__version__}")
        return
    name, *rest = words
    if name not in COMMANDS:
        raise SystemExit(f"error: unknown command {name!r}{suggest(name, COMMANDS)}; hf-icckd --help lists all")
    if asks_for_help(rest):
        try:
            show(command_help(name, rest))
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error
        return
    sys.argv[0] = "hf-icckd"  # as it stands in records, however it was started
    COMMANDS[name].load()(rest)


if __name__ == "__main__":
    main()
