"""The benchmark: pymosn beside nginx, HAProxy, Envoy and a bare byte relay, in one run. `python -m bench --help`.

The figure is CPU time per request, because it does not depend on how fast the load generator is. The proxy has one
core to itself; load generator and upstream share the other.

`cases` what is asked, `peers/` who is asked, `upstream` who answers, `load` and `memory` the asking, `verify` whether
the answers are right, `measure` what it cost, `report` and `plot` the outcome, `targets` what pymosn has promised.
"""
