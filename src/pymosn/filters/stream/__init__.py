"""The shipped stream filters, one file each: settings, class and `SPEC`. `shipped` is their registry.

Parts of several or of large filters: problems (errors in settings), addresses, envoy_match (Envoy's conditions), vary,
compressors (gzip), flow_rules (flow_control), jwt_keys, jwt_provider and jwt_requirements (jwt_authn).
"""
