"""Report of a study: frames, statistics, tables, plots."""
