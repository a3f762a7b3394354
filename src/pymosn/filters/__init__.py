"""The stream filters that pymosn ships, and the loader of those that it does not.

settings      blocks and keys of settings; the configuration schema is made of them too
spec          the description of a shipped filter
stream/       shipped filters, each in a file of its name, and what they share; `shipped.py` is their registry
loading       filters in Python files and in installed packages
sources       the Python files of filters: read by the supervisor
modules       those files as modules of a worker, and a change of them: with folder_version, module_names, import_system,
              import_paths, collectors
typed_config  the `Config` of a filter
errors        errors of all of these, with file and line
"""
