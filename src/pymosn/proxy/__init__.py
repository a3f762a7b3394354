"""Layer 4: one exchange, from the request to the response.

- `proxy.py`: the `proxy` network filter. It detects the protocol and creates an `ExchangeDriver` for each request.
- `exchange.py`: `ExchangeDriver`, the stages of an exchange and the table of its events. It owns the parts below.
- `dispatch.py`, `decision.py`: filter phases of the request, then the route and the action.
- `forwarder.py`: hosts, retries and timeouts (`attempts.py` decides); `attempt.py`: one request to one host.
- `responder.py`, `reply_stream.py`: the response to the client, from the upstream or of the proxy itself.
- `filtering.py`, `stream_filters.py`: calls filters, and handles their errors.
- `body_flow.py`, `bodies.py`: bodies that must wait, or that a filter reads as a whole.
- `sender_wrapper.py`: the base of `mirroring.py`, `transcoding.py` and `tunnel.py`, which change what an attempt sends.
- `internal_request.py`: the base of mirrored requests and of the subrequests of `cluster_client.py`.
- `tcp_proxy.py`: the `tcp_proxy` network filter, which forwards bytes.
"""
