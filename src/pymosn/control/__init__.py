"""The control plane: admin API, health checks and service discovery (xDS planned).

`service` is the contract of everything that the supervisor runs; `plane` is the admin API's view of the process.
`admin` combines the API from the routes of its modules: `process_views`, `process_calls`, `statistics`, `log_levels`,
`views` and `updates`, with `handlers` (helpers) and `guard` (handles every request). `access` decides who may call what,
`hosts` which `Host` is answered. `explain` and its parts explain how a request would be routed. `health` and `probe`
are the active checks; `discovery` is STRICT_DNS, with `resolver` for the lookups. `http_server` runs an ASGI app in the
supervisor's event loop, with the deadlines of `http_connection`; `peer` is the client of a unix socket. `demo` is the
built-in example's upstream.
"""
