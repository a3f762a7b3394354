"""MOSN's configuration schema, and the pipeline from text to a validated configuration.

    text -> nodes (json_nodes, yaml_nodes)  values with line and column
         -> schema (read)                   typed blocks; unknown keys, wrong types and keys without effect are reported
         -> check/                          cross-field validation: references, duplicates, addresses

`load` runs these steps for a file, `update` for a body of the admin API; both report all errors at once. `dump` converts a
configuration back to MOSN's shape, without secrets. `typed` reads parts that were kept untyped. `diagnostics` has the errors
and warnings; `compatibility` makes docs/compatibility.md from the schema and a template.

`assembly` builds run-time objects from the result. A worker only needs `schema` and `typed`, so nothing here imports the
parsers at import time.
"""
