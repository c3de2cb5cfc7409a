"""What every room may use: collectives, keyed random numbers, files, the machine, text."""
