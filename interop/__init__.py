"""Real peers: Apache Dubbo and SOFARPC from Maven Central, run against each other and against pymosn. `make interop`."""
