"""Who may say it: the admin API; and what the supervisor finds out: health, addresses (xDS comes later).

`updates` changes and `views` what is in force, on the admin API; `health` and `probe` active checks; `discovery` STRICT_DNS;
`plane` what the API asks of the process, `admin` MOSN's paths on it, `guard` what every request to it must pass, `dump`
the answers of `/api/v1/config_dump`; `http_server` runs an app in the supervisor's event loop; `demo` is the upstream of
the built-in example.
"""
