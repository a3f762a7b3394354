"""TARS: calls of Tencent's RPC framework, version 1 and the TUP forms."""
