"""Exporting finished traces: a bounded queue, batches, and one file for each of MOSN's trace drivers.

Workers only record spans and send them to the supervisor in batches. `service.py` receives them, `pipeline.py` queues and
sends them through an `Exporter` (`exporter.py`), which `drivers.py` makes. The libraries of a driver are imported only when
it is configured.
"""
