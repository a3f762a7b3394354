"""What may be said: the MOSN configuration schema, and the way from a text to a checked configuration.

    text -> nodes (json_nodes, yaml_nodes)  values with their line and column
         -> schema (read)                   typed blocks; unknown keys, wrong types and keys without effect are faults
         -> check/                          what one key alone cannot tell: references, duplicates, addresses
         -> build                           run-time objects for the data path

`load` walks the first three steps and reports every fault at once. `transport` carries a checked configuration to the
workers, `dump` turns it back into MOSN's own shape with the secrets taken out. A worker needs `schema`, `transport`
and `build` only, so nothing here imports the parsers on its own.
"""
