"""Names of the files in the folder of a run."""

ARGS_FILE, METRICS_FILE, CARD_FILE = "all_args.yaml", "metrics.json", "README.md"
IMAGES_FILE, DUPLICATES_FILE = "image_hashes.npz", "duplicates.csv"  # never published
DATA_REPORT_FILE = "data_report.txt"  # with names of files, so it is never published
