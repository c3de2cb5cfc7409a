"""The embedded data set; README.md beside this file gives source and licence."""
