"""The process: one supervisor, its workers, and the channel between them.

supervisor  binds, starts, drains, stops       worker          one event loop that serves (`python -m`)
fleet       the workers as one                 worker_process  one worker as a child process
restart     when to replace one                channel         framed messages and descriptors
listeners   all listeners' sockets             messages        what the two sides say
sockets     one address's sockets              plane           what the admin API may ask
logs        where the logs are                 rolling         setting log files aside
stop_wish   what signals have asked            launch          what to run, how a start fails
sizing      how many workers and files         pid_file        the file with the process id
changes     the one way to another config      reload          the other side of `pymosn reload`
"""
