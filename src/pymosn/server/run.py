"""One run of the proxy in this process."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

import uvloop

from pymosn.config.admin_files import token_path
from pymosn.observe.destination import is_file
from pymosn.server.logs import event_logs, log_paths, open_logs, trace_logs
from pymosn.server.pid_file import pid_path
from pymosn.server.privileges import Privileges, apply_umask
from pymosn.server.resources import raise_open_file_limit
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.shutdown import LATER_SIGNALS
from pymosn.server.supervisor import Supervisor
from pymosn.server.upgrade.inheritance import Inheritance
from pymosn.server.upgrade.tether import connect


def run(options: RunOptions, on_ready: Callable[[], None], inheritance: Inheritance | None = None) -> int:
    """Runs the proxy in the foreground: see `Supervisor.run`. `inheritance`: of the process that this one replaces."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        tether = connect(loop, os.environ)
    except ValueError as error:
        raise StartError(lines=[str(error)]) from error
    raise_open_file_limit()
    try:
        apply_umask(options.config)
        privileges = Privileges(options)
        paths = [*log_paths(options.config, options.base_dir), *event_logs(options.config), *trace_logs(options.config)]
        pid = [] if options.is_demo else [pid_path(options.config, options.base_dir)]
        privileges.hand_over([*filter(is_file, paths), *pid], os.path.join(options.base_dir, "logs"))
        admin = options.config.admin
        if admin is not None and admin.token_file:
            with contextlib.suppress(OSError):  # a read-only mount: the error is logged when the token is used
                privileges.hand_over([token_path(admin, options.config_dir)], "")
        with privileges.as_user():
            logs = open_logs(options.config, options.base_dir, options.log_ceiling)
        privileges.log = logs.process_log
    except OSError as error:
        raise StartError(lines=[f"the process log cannot be opened: {error}"]) from error
    try:
        return loop.run_until_complete(Supervisor(options, privileges, logs, loop, tether, inheritance).run(on_ready))
    finally:
        # The event loop takes its handlers along: until the process has ended, these signals must not kill it.
        signal.pthread_sigmask(signal.SIG_BLOCK, LATER_SIGNALS)
        loop.close()
