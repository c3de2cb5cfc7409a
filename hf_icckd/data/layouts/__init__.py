"""Files of images: which folders are splits, which are classes, and other places of labels."""
