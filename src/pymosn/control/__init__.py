"""Who may say it: the admin API (files and xDS come later).

`plane` what the API asks of the process, `admin` MOSN's paths on it, `guard` what every request to it must pass, `dump`
the answers of `/api/v1/config_dump`; `http_server` runs an app in the supervisor's event loop; `demo` is the upstream of
the built-in example.
"""
