"""The two ways in which a measurement fails."""


class Void(Exception):
    """A run that must not be counted: a request failed, or an answer was not the expected one."""


class Unavailable(Exception):
    """A peer or a tool that cannot be had on this machine."""
