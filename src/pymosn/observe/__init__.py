"""What happened: process log, access logs, metrics.

`logs` all logs of one process by path, `process_log` and `access_log` what is written to them, `destination` where the
lines go, `roller` when files are set aside; `variables` what an access-log format may name; `totals` adds up what workers
count, `stats` and `prometheus` show it.
"""
