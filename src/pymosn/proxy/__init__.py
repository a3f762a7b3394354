"""Layer 4: one exchange, from the request to the response.

- `proxy.py`: the `proxy` network filter. It detects the protocol and creates an `ExchangeDriver` for each request.
- `exchange.py`: `ExchangeDriver`, the stages of an exchange and the table of its events. The driver owns the parts below.
- `dispatch.py`, `decision.py`: the route, the filters of the route phase, and the route's action.
- `forwarder.py`: hosts, retries and timeouts (`attempts.py` decides); `attempt.py`: one request to one host.
- `responder.py`, `reply_stream.py`: the response to the client: the upstream's or a local reply.
- `filtering.py`, `stream_filters.py`: call filters and handle their errors.
- `body_flow.py`, `bodies.py`: buffer bodies that must wait or that a filter reads whole.
- `sender_wrapper.py`: the base of `mirroring.py`, `transcoding.py` and `tunnel.py`, which change what an attempt sends.
- `internal_request.py`: the base of mirrored requests and of the subrequests of `cluster_client.py`.
- `tcp_proxy.py`: the `tcp_proxy` network filter, which forwards bytes.
"""
