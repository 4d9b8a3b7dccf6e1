"""The one exception that reaches an operator."""


class FleetError(Exception):
    """A sentence for the operator: what was found, where, and what to do. Shown without a traceback."""
