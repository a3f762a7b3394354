"""The configuration of `pymosn start` without a file: MOSN's two-hop HTTP example."""

from typing import Final

DEFAULT_NAME: Final = "<built-in example>"

# curl -> clientListener :2045 -> serverListener :2046 -> the demo upstream at :8080
DEFAULT_CONFIG: Final = """{
  "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 34901}}},
  "servers": [{
    "mosn_server_name": "example",
    "default_log_path": "stdout",
    "routers": [
      {"router_config_name": "client_router", "virtual_hosts": [{"name": "client", "domains": ["*"], "routers": [
        {"match": {"prefix": "/"}, "route": {"cluster_name": "clientCluster"}}]}]},
      {"router_config_name": "server_router", "virtual_hosts": [{"name": "server", "domains": ["*"], "routers": [
        {"match": {"prefix": "/"}, "route": {"cluster_name": "serverCluster"}}]}]}
    ],
    "listeners": [
      {"name": "clientListener", "address": "127.0.0.1:2045", "bind_port": true,
       "access_logs": [{"log_path": "stdout"}],
       "filter_chains": [{"filters": [{"type": "proxy", "config": {
         "downstream_protocol": "Http1", "router_config_name": "client_router"}}]}]},
      {"name": "serverListener", "address": "127.0.0.1:2046", "bind_port": true,
       "access_logs": [{"log_path": "stdout"}],
       "filter_chains": [{"filters": [{"type": "proxy", "config": {
         "downstream_protocol": "Http1", "router_config_name": "server_router"}}]}]}
    ]
  }],
  "cluster_manager": {"clusters": [
    {"name": "clientCluster", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:2046"}]},
    {"name": "serverCluster", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:8080"}]}
  ]}
}
"""
