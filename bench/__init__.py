"""The benchmark: compares pymosn with nginx, HAProxy, Envoy and a byte relay in one run. `python -m bench --help`.

The metric is CPU time per request, because it does not depend on the speed of the load generator. The proxy has one
core to itself; load generator and upstream share another.

`cases` defines the requests, `peers/` the proxies, `upstream` the server they forward to; `load` and `memory` generate
load, `verify` checks the responses, `measure` reads CPU time and memory; `report` and `plot` show the results, `targets`
checks them against pymosn's targets.
"""
