"""What the files of a model say of it, read from a directory or a hub without loading it.

Python 3.8, standard library only. Imports are relative: the package is shipped to hosts with the module model_facts,
and used by a filter on the controller.
"""
