"""Interoperability tests with Apache Dubbo and SOFARPC from Maven Central, directly and through pymosn. `make interop`."""
