"""Run or resume a study of teachers and students: many runs, one report.

python recipes/study.py recipes/configs/study/synthetic.yaml --output_dir results/synthetic [--minutes 9]
"""

from hf_icckd.study.__main__ import main

if __name__ == "__main__":
    main()
