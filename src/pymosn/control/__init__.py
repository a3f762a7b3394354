"""Who may say it: the admin API; and what the supervisor finds out: health, addresses (xDS comes later).

`updates` changes and `views` what is in force, on the admin API; `explain` and `explain_hosts` why a request goes where;
`health` and `probe` active checks; `discovery` STRICT_DNS, with `resolver` for the looking up;
`plane` what the API asks of the process, `admin` MOSN's paths on it, `guard` what every request to it must pass, `dump`
the answers of `/api/v1/config_dump`; `http_server` runs an app in the supervisor's event loop; `demo` is the upstream of
the built-in example.
"""
