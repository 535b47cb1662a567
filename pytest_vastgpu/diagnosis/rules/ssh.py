"""Messages of the SSH client. Their meaning depends on whether the host is booting or has run for minutes."""

# ruff: noqa: E501 - a regular expression is read best in one piece
from __future__ import annotations

from pytest_vastgpu.diagnosis.rules.base import CONTAINER
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.diagnosis.rules.base import Weight
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import FailureClass

_SSH = frozenset({Channel.SSH})
_OPENSSH = "OpenSSH client"
_RUNNING = r"phase=running"
_EARLY = r"^$|phase=booting"
_ANOTHER = "another host would do; nothing in the workload caused this"
_WAIT = "wait: the host is still starting its SSH server"

_REFUSED = (
    r"connect to (?:host|address) .*: Connection refused",
    r"Unable to connect to port \d+|ConnectionRefusedError|ECONNREFUSED",
)
_SILENT = (r"connect to (?:host|address) .*: (?:Connection|Operation) timed out", r"^timed out$")
_CUT = (
    r"kex_exchange_identification:",
    r"banner exchange:",
    r"Connection (?:closed|reset) by (?:remote host|\S+ port \d+|authenticating user)",
    r"Connection to \S+ (?:port \d+ )?(?:timed out|closed by remote host)",
    r"ssh_dispatch_run_fatal|ssh_exchange_identification",
)
_KEY_REFUSED = (r"Permission denied \((?:publickey|[\w,-]*publickey[\w,-]*)\)", r"No supported authentication methods")

RULES: tuple[Rule, ...] = (
    Rule(
        "ssh_client_key_invalid",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Load key \".*\":",
            r"UNPROTECTED PRIVATE KEY FILE|Permissions \d+ for '.*' are too open|bad permissions",
            r"Identity file .* not accessible|no such identity:",
            r"sign_and_send_pubkey: (?:signing failed|no mutual signature)",
            r"agent refused operation",
            r"not a valid \w+ private key file|could not deserialize key data|private key file is encrypted",
        ),
        "the key on this side cannot be used: check VAST_SSH_KEY_PATH, the file's mode (600) and its format",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_too_many_keys",
        FailureClass.WORKLOAD_FATAL,
        (r"Too many authentication failures",),
        "the client offers too many keys: set IdentitiesOnly=yes, or empty the agent",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_client_misconfigured",
        FailureClass.WORKLOAD_FATAL,
        (
            r"Bad configuration option|terminating, \d+ bad configuration options|^usage: ssh|unknown option -- ",
            r"ssh: (?:command )?not found|Bad (?:owner or permissions|port|\w+ forwarding specification)",
            r"ControlPath|unix_listener: |cannot listen to port|Could not request local forwarding|Unable to negotiate with",
        ),
        "the fault is in the SSH client's call or configuration on this side",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_host_key_unknown_strict",
        FailureClass.WORKLOAD_FATAL,
        (r"No \S+ host key is known for .* requested strict checking",),
        "strict host key checking cannot work with hosts that are new each time: pin the key at the first connection",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_host_key_differs",
        FailureClass.UNKNOWN,
        (r"REMOTE HOST IDENTIFICATION HAS CHANGED", r"Host key for .* has changed", r"Host key verification failed"),
        "addresses are used again by other hosts: keep a known_hosts file per instance",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_name_unresolvable",
        FailureClass.UNKNOWN,
        (r"Could not resolve hostname",),
        "look whether names resolve on this side at all",
        _OPENSSH,
        channels=_SSH,
    ),
    Rule(
        "ssh_proxy_tunnel_broken",
        FailureClass.INFRA_FATAL,
        (r"(?:remote )?port forwarding failed for listen port",),
        _ANOTHER,
        "the market's SSH proxy on the host",
        channels=_SSH | CONTAINER,
    ),
    Rule(
        "ssh_key_refused", FailureClass.INFRA_FATAL, _KEY_REFUSED, _ANOTHER, _OPENSSH, channels=_SSH, context=_RUNNING
    ),
    Rule("ssh_never_up", FailureClass.INFRA_FATAL, _REFUSED, _ANOTHER, _OPENSSH, channels=_SSH, context=_RUNNING),
    Rule("ssh_black_hole", FailureClass.INFRA_FATAL, _SILENT, _ANOTHER, _OPENSSH, channels=_SSH, context=_RUNNING),
    Rule("ssh_server_broken", FailureClass.INFRA_FATAL, _CUT, _ANOTHER, _OPENSSH, channels=_SSH, context=_RUNNING),
    Rule(
        "ssh_no_route",
        FailureClass.INFRA_FATAL,
        (r"connect to .*: No route to host",),
        _ANOTHER,
        _OPENSSH,
        channels=_SSH,
        context=_RUNNING,
    ),
    Rule(
        "ssh_tunnel_target_not_listening",
        FailureClass.WARMUP,
        (r"open failed: connect failed: Connection refused",),
        "wait: the server behind the tunnel does not listen yet",
        _OPENSSH,
        Weight.SIGN,
        _SSH,
    ),
    Rule(
        "ssh_key_refused_early",
        FailureClass.WARMUP,
        _KEY_REFUSED,
        "wait: a key takes some minutes to reach the host",
        _OPENSSH,
        Weight.SIGN,
        _SSH,
        context=r"phase=booting",
    ),
    Rule(
        "ssh_key_refused_age_unknown",
        FailureClass.UNKNOWN,
        _KEY_REFUSED,
        "nothing yet while the host boots, the host's fault once it has run for minutes: say which with the context",
        _OPENSSH,
        Weight.SIGN,
        _SSH,
        context=r"^$",
    ),
    Rule(
        "ssh_connection_refused_early",
        FailureClass.WARMUP,
        _REFUSED,
        _WAIT,
        _OPENSSH,
        Weight.SIGN,
        _SSH,
        context=_EARLY,
    ),
    Rule("ssh_kex_closed_early", FailureClass.WARMUP, _CUT, _WAIT, _OPENSSH, Weight.SIGN, _SSH, context=_EARLY),
    Rule(
        "ssh_not_yet_open",
        FailureClass.WARMUP,
        (
            r"System is booting up|SSH (?:connection to .* is|is|still) not (?:yet )?(?:ready|available)|(?:reset|refused|disconnect\w*|timed? ?out)\. Retrying",
        ),
        _WAIT,
        "pam_nologin, and tools that wait for SSH",
        Weight.SIGN,
        _SSH,
        context=_EARLY,
    ),
    Rule(
        "ssh_connection_timeout_early",
        FailureClass.WARMUP,
        (*_SILENT, r"connect to .*: (?:No route to host|Network is unreachable)"),
        _WAIT,
        _OPENSSH,
        Weight.SIGN,
        _SSH,
        context=_EARLY,
    ),
    Rule(
        "ssh_session_open",
        FailureClass.READY,
        (
            r"^Authenticated to |Authentication succeeded|Entering interactive session",
            r"^Last login: |root@\S+:[~/]\S*[#$]|^Welcome to |^Have fun!|load average: \d|^Linux \S+ \d+\.\d",
        ),
        "",
        _OPENSSH,
        Weight.SIGN,
        _SSH,
    ),
)
