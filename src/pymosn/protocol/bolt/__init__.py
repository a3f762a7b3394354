"""SOFA Bolt, version 1 and 2."""
