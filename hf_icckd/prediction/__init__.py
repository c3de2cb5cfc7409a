"""Classes of images that have no labels: find the files, run the model, order and write what it says."""
