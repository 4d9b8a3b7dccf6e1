"""The lab's tiny models: real architectures, trained by rote until the verification's questions have right answers.

They are kept here, in trained/ (15 MB), instead of being made by each lab: a first deployment then waits a minute less,
and every machine serves the same bytes. `scripts/train-lab-models` makes them again when the questions have changed.
"""
