"""`python -m hf_icckd COMMAND ...` is `hf-icckd COMMAND ...`."""

from hf_icckd.console import main

if __name__ == "__main__":
    main()
