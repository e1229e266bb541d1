"""A prelude that makes a process take its machine for one with macOS, as far as names go.

Python there has neither epoll nor what else is only in Linux's `socket`, `os`, `select`, `signal` and `resource`. What
a kernel of Apple's does is not shown by this: only that no name is asked for which is not there.
"""

from __future__ import annotations

from typing import Final

MISSING: Final = {
    "select": ("epoll", "EPOLL*"),
    "socket": (
        *("AF_ALG", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "BDADDR*", "BT*", "CAN_*", "IP_TRANSPARENT"),
        *("MSG_CMSG_CLOEXEC", "MSG_ERRQUEUE", "MSG_MORE", "NETLINK*", "PACKET*", "SOCK_CLOEXEC", "SOCK_NONBLOCK"),
        *("SO_BINDTODEVICE", "SO_DOMAIN", "SO_INCOMING_CPU", "SO_MARK", "SO_PASSCRED", "SO_PEERCRED", "SO_PEERSEC"),
        *("SO_PRIORITY", "SO_PROTOCOL", "TCP_CONGESTION", "TCP_CORK", "TCP_DEFER_ACCEPT", "TCP_INFO", "TCP_KEEPIDLE"),
        *("TCP_LINGER2", "TCP_QUICKACK", "TCP_SYNCNT", "TCP_USER_TIMEOUT", "TCP_WINDOW_CLAMP", "UDPLITE*", "VM*"),
    ),
    "os": (
        *("CLONE_*", "copy_file_range", "eventfd*", "EFD_*", "getrandom", "GRND_*", "getresgid", "getresuid"),
        *("memfd_create", "MFD_*", "O_DIRECT", "O_LARGEFILE", "O_NOATIME", "O_PATH", "O_RSYNC", "O_TMPFILE"),
        *("pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "POSIX_FADV*", "sched_g*", "sched_s*", "SCHED_*"),
        *("setns", "setresgid", "setresuid", "splice", "SPLICE*", "unshare", "*xattr"),
    ),
    "signal": (
        "SIGCLD",
        "SIGPOLL",
        "SIGPWR",
        "SIGRT*",
        "SIGSTKFLT",
        "pidfd_send_signal",
        "sigtimedwait",
        "sigwaitinfo",
    ),
    "resource": ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RT*", "RLIMIT_SIGPENDING"),
    "time": ("CLOCK_BOOTTIME", "CLOCK_TAI", "clock_settime", "pthread_getcpuclockid"),
    "errno": (),
}
"""What Python lacks on macOS, by its module."""

PRELUDE: Final = f"""
import fnmatch, importlib, sys, types
sys.platform = "darwin"
for module, patterns in {MISSING!r}.items():
    known = importlib.import_module(module)
    for name in list(vars(known)):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            delattr(known, name)
proxies = types.ModuleType("_scproxy")  # which urllib asks there
proxies._get_proxies = proxies._get_proxy_settings = dict
sys.modules["_scproxy"] = proxies
"""
"""For a process, before anything else is imported."""
