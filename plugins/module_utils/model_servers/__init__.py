"""What the model servers of a host run with, and what they report of themselves. Python 3.8, standard library."""
