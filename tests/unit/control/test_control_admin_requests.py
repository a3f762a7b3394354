"""Any request to the admin API has a response that is meant. `make fuzz` looks longer."""

from hypothesis import HealthCheck, given, settings
from tests.passes import one_of
from tests.unit.control.admin_requests import REQUESTS, Asked, check


@settings(max_examples=150 // one_of(3), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(REQUESTS)
def test_no_request_is_an_error_of_the_server(asked: Asked) -> None:
    check(asked)
