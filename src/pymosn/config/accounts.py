"""Users, groups and modes of files, as they are written in a configuration."""

import grp
import os
import pwd
from typing import NamedTuple


class Account(NamedTuple):
    """A user and a group to run as, by their ids. `groups`: all groups of the user, and the group."""

    name: str
    uid: int
    gid: int
    groups: list[int]


def find_account(user: str, group: str = "") -> Account:
    """The account of a user, by name or number; `group`: instead of the user's own. ValueError if one is unknown."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if not user.isdecimal() or not group or int(user) >= 2**32 - 1:
            hint = "; for a number without an account a group is required" if user.isdecimal() else ""
            raise ValueError(f"unknown user{hint}") from None
        gid = find_group(group)
        return Account(user, int(user), gid, [gid])
    gid = find_group(group) if group else entry.pw_gid
    return Account(entry.pw_name, entry.pw_uid, gid, sorted(os.getgrouplist(entry.pw_name, gid)))


def find_group(group: str) -> int:
    """The id of a group, by name or number. ValueError if it is unknown."""
    if group.isdecimal() and int(group) < 2**32 - 1:
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ValueError("unknown group") from None


def parse_mode(text: str) -> int:
    """The permission bits of an octal text such as `0660`. ValueError if it is not one, or above 0777."""
    if not text or not all("0" <= digit <= "7" for digit in text) or int(text, 8) > 0o777:
        raise ValueError('must be an octal number up to 0777, such as "0660"')
    return int(text, 8)
