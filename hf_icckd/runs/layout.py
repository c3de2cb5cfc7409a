"""Names of the files in the folder of a run."""

ARGS_FILE, METRICS_FILE, CARD_FILE = "all_args.yaml", "metrics.json", "README.md"
STAGING = ".push"  # folder of a model that is being pushed while the next one is trained
