"""Trainers, exact resume, epoch boundaries, signals, teacher targets, progress."""
