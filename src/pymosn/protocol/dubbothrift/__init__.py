"""Thrift in the frames of Dubbo: the protocol that Apache Dubbo 2 calls thrift."""
