"""The process: one supervisor, its workers, and the channel between them.

supervisor  binds, starts, watches, drains      worker          one event loop that serves (`python -m`)
fleet       the workers and when to restart     worker_process  one worker as a child process
channel     framed messages and descriptors     messages        what the two sides say
plane       what the admin API may ask          sockets         listening sockets
"""
