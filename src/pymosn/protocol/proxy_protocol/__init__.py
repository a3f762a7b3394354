"""The PROXY protocol: the addresses of a client, sent by a load balancer in front of everything else."""
