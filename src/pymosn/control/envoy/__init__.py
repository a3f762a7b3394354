"""Envoy's admin API beside MOSN's, for tools that read it: `istioctl proxy-config`, Istio's agent, scrapers.

calls        the paths                          stats      names and values of metrics
config_dump  the received resources             statuses   clusters, listeners, certificates, the server
json_form    messages as JSON, without secrets  queries    parameters that select a part of a dump
facts        what the views need to know of xDS
"""
