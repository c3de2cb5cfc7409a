"""Tools for every room: collectives, keyed random numbers, files, the machine, text."""
