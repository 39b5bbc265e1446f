"""The command `keras-normface`."""

__all__ = []
