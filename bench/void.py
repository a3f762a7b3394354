"""The errors with which a measurement can fail."""


class Void(Exception):
    """A run that must not be counted: a request failed, or a response was not the expected one."""


class Unavailable(Exception):
    """A peer or a tool that is not available on this machine."""
