"""The one error of this package."""

from __future__ import annotations


class Unread(Exception):  # noqa: N818 - a state of a model, and the key of the module's answer
    """A model, or a file of one, that could not be read; the text is the reason, for a person."""


class Unreachable(Unread):
    """A hub that did not answer; asking it for another model is no use."""
