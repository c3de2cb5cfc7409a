"""Distil a student from a teacher. Without options: from runs/teacher, on the embedded digits, into runs/student.

accelerate launch recipes/student.py [recipes/configs/cifar100/student.yaml] [--option value ...]
"""

from hf_icckd.student import main

if __name__ == "__main__":
    main()
