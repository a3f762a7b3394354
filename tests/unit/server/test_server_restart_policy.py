from pymosn.server.restart_policy import LONGEST_DELAY, STABLE_TIME, RestartPolicy


def test_a_worker_that_served_is_replaced_at_once_every_time() -> None:
    policy = RestartPolicy()
    assert [policy.delay(STABLE_TIME) for _ in range(5)] == [0.0] * 5


def test_one_that_keeps_dying_at_start_waits_longer_and_longer() -> None:
    policy = RestartPolicy()
    assert [policy.delay(0.0) for _ in range(6)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert [policy.delay(0.0) for _ in range(40)][-1] == LONGEST_DELAY


def test_serving_for_a_while_is_forgiven() -> None:
    policy = RestartPolicy()
    for _ in range(5):
        policy.delay(0.1)
    assert policy.delay(STABLE_TIME + 1) == 0.0
