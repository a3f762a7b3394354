"""The stream filters that pymosn ships, and the loader of those that it does not.

settings      blocks and keys of settings; the configuration schema is made of them too
spec          the description of a shipped filter
stream/       one file for each shipped filter; `shipped.py` is their registry
loading       filters in Python files and in installed packages
modules       the Python files of filters as modules: imported again after each edit
typed_config  the `Config` of a filter
errors        errors of all of these, with file and line
"""
