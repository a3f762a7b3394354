"""The process: one supervisor, its workers, and the channel between them.

Start and end    supervisor        the parent process: its list of services, signals
                 services          starts services in order, informs them, stops them in reverse
                 run_options       options, source of the configuration, number of workers, how a start fails
                 capacity          workers and memory that fit; `cgroups`: the limits of a container
                 shutdown          shutdown signals
                 background        background tasks
Services         listeners         binds all sockets and hands them to workers; `sockets` makes them
                 changes           the active configuration, and the only way to change it
                 workers           starts, drains and stops the fleet; replaces workers that hang
                 guardian          hands connections that a worker leaves waiting to the others
                 filter_watch      notices edits of filters: `source_watch`, its thread, `watched_paths`, `inotify`
                 pid_file, rolling (health checks and HTTP servers are in `control/`)
Workers          fleet             all workers as a unit; replaces those that died
                 worker_process    the supervisor's side of one worker
                 channel, messages frames with descriptors; commands down, reports up
In a worker      worker            the child process: executes commands, serves
                 handover          takes connections over from other workers
                 probes            finds a worker that serves nothing (both sides)
                 overload          overload state; `resources`: memory, garbage, open files
                 watchdog, stacks  find what blocks the event loop
Others           supervisor_plane  what the admin API can query and change
                 logs              log paths, opening logs
                 admin_socket      the unix socket of the admin API; `admin_client`: `pymosn reload` and `stop`
"""
