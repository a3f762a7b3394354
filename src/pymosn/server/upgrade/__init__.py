"""Hot upgrade: another generation of this process takes over the sockets, and then the connections.

`predecessor.py` and `successor.py` are the two sides of the protocol in `messages.py`. docs/upgrade.md describes it.
"""
