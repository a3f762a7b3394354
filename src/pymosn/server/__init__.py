"""The process: one supervisor, its workers, and the channel between them.

Start and end    supervisor        the parent process: its list of services, signals
                 services          starts services in order, informs them, stops them in reverse
                 run_options       options of a run, exit codes, how a start fails
                 config_source     reads the configuration, at the start and at each reload
                 shutdown, sizing  shutdown signals; the number of workers and open files
                 background        background tasks and delayed calls
Services         process_sockets   binds all sockets; `listeners` and `sockets` do the work
                 changes           the active configuration, and the only way to change it
                 workers           starts, drains and stops the fleet
                 filter_watch, hang_watch, pid_file, rolling (health checks and HTTP servers are in `control/`)
Workers          fleet             all workers as a unit; `restart`: when to replace one that died
                 worker_process    the supervisor's side of one worker
                 channel, messages frames with descriptors; commands down, reports up
In a worker      worker            the child process: executes commands, serves
                 overload, memory  overload state; `garbage`: when to collect garbage
                 watchdog          finds what blocks the event loop; `allocations`: traces memory of filters
Others           supervisor_plane  what the admin API can query and change
                 logs              log paths, opening logs
                 reload            the client side of `pymosn reload`
"""
