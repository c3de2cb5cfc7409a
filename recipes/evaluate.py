"""Measure a model: any run's folder, Hub id or pretrained timm name, on any data set.

python recipes/evaluate.py --model runs/student --teacher runs/teacher
"""

from hf_icckd.evaluate import main

if __name__ == "__main__":
    main()
