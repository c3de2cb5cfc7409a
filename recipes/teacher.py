"""Train a teacher. Without options: the embedded digits on any machine, into runs/teacher.

accelerate launch recipes/teacher.py [recipes/configs/cifar100/teacher.yaml] [--option value ...]
"""

from hf_icckd.teacher import main

if __name__ == "__main__":
    main()
