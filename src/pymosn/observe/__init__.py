"""Observability: process log, access logs, metrics.

`logs` holds all logs of a process by path; `process_log` and `access_log` format their lines; `destination` writes them;
`roller` rotates files. `variables` are those of access-log formats. `totals` adds up the workers' counters; `stats` and
`prometheus` export them.
"""
