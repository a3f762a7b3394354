"""Dubbo 2 over TCP: the protocol of Apache Dubbo 2.x and 3.x, with hessian2."""
