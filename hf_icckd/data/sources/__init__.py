"""Sources of images; a new one is a file in this folder."""
