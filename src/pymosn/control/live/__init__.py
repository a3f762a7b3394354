"""What the dashboard and `pymosn top` show: rates, tables, and the versions of the configuration.

`readings` makes numbers of metric groups, `sampler` takes them while someone watches, `tables` and `routes` sort, filter
and page rows, `versions` keeps what was active, `calls` has the paths. The page itself is in `control/ui/`, and
`control/pages.py` serves it.
"""
