"""Options: dataclasses, their checks, the command line and the launcher."""
