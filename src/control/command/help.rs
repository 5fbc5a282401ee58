//! The commands that there are, for `help` and for messages.

/// A command, its words, and what it does.
pub(super) struct Usage {
    pub(super) word: &'static str,
    pub(super) usage: &'static str,
    pub(super) does: &'static str,
}

/// The commands, each once, in the order in which `help` lists them.
pub(super) const COMMANDS: &[Usage] = &[
    does("servers", "servers", "list the backends, numbered from 0"),
    does(
        "server",
        "server N|NAME [address HOST[@MAC] | mac MAC|ask | port P | weight W | max M | hard H | prio P | acl A|none]... or server N|NAME blacklist SECONDS",
        "show a backend, change it, or take it out of service for a while",
    ),
    does(
        "weight",
        "weight NAME W; weight, or no weight",
        "change a backend's share of the clients; the proxy selects by the least connections for the weight",
    ),
    does("prio", "prio, or no prio", "the proxy selects the smallest priority number that can serve"),
    does(
        "selection",
        "selection roundrobin|hash|weight|prio|consistent|least-connections|power-of-two",
        "how the proxy selects servers",
    ),
    does("stubborn", "stubborn, or no stubborn", "the proxy refuses a client whose server cannot serve"),
    does("tracking", "tracking SECONDS", "how long the proxy remembers clients; 0: as long as there is room"),
    does("clients_max", "clients_max N", "how many clients the proxy remembers"),
    does("abuse", "abuse SERVER, or no abuse", "who serves clients of the proxy that an access list keeps out"),
    does("blacklist", "blacklist SECONDS", "how long the proxy leaves out a server that it could not connect to"),
    does("timeout", "timeout SECONDS", "until a server has to have accepted a connection of the proxy"),
    does("idle_timeout", "idle_timeout SECONDS", "when an idle connection of the proxy ends; 0: never"),
    does("conn_max", "conn_max N", "connections of the proxy's clients at a time"),
    does("pending_max", "pending_max N", "connections of the proxy that are being made at a time"),
    does("multi_accept", "multi_accept N", "connections that the proxy accepts before others are served"),
    does("idlers", "idlers N", "idle connections that the proxy keeps ready to each server"),
    does("tcp_nodelay", "tcp_nodelay, or no tcp_nodelay", "the proxy sends what there is at once"),
    does(
        "tcp_fastclose",
        "tcp_fastclose [on|off|up|down|both], or no tcp_fastclose",
        "once a server has closed, the proxy does not wait for its client",
    ),
    does("http", "http, or no http", "the proxy's listeners read HTTP, and add X-Forwarded-For"),
    does("transparent", "transparent, or no transparent", "the proxy's servers see the clients' own addresses"),
    does("ssl_certfile", "ssl_certfile FILE", "the certificate that the proxy's listeners show"),
    does("ssl_keyfile", "ssl_keyfile FILE", "its key; in the same file unless said"),
    does("ssl_ocsp_response", "ssl_ocsp_response FILE", "what is stapled to it"),
    does("ssl_cacertfile", "ssl_cacertfile FILE", "the authorities that clients' certificates may be from"),
    does("ssl_sni_path", "ssl_sni_path DIR", "a folder of certificates for the names that clients ask for"),
    does("ssl_ciphers", "ssl_ciphers SUITE[:SUITE]...", "cipher suites by their IANA names, the best first"),
    does("ssl_session_cache", "ssl_session_cache [on|off]", "can TLS sessions be resumed?"),
    does("add", "add HOST[@MAC][:port:soft:hard:weight:prio]", "add a backend"),
    does("remove", "remove N|NAME", "take a backend off the list; it keeps the flows that it has until none is left"),
    does("drain", "drain N|NAME", "give a backend no new flows; those that it has go on"),
    does("undrain", "undrain N|NAME", "give it new flows again"),
    does("maintenance", "maintenance N|NAME [on|off]", "take a backend out of service until told otherwise, or back"),
    does("emergency", "emergency HOST[@MAC], or no emergency", "who serves when nobody else does"),
    does("status", "status", "say all that is known"),
    does("mode", "mode", "say how backends are chosen"),
    does("table", "table", "digest of the table and share of each backend, to compare two balancers"),
    does("explain", "explain CLIENT[:port]", "say who serves a client, and why"),
    does("flows", "flows [N|NAME]", "how many flows are remembered"),
    does("recent", "recent [SECONDS]", "clients of the last so many seconds (300)"),
    does(
        "hash",
        "hash, or no hash",
        "the client's address alone decides; no hash: its port, too; the proxy: selects by a hash of the address",
    ),
    does(
        "roundrobin",
        "roundrobin, or no roundrobin",
        "the client's port takes part, as no hash; no roundrobin: as hash; the proxy: does not remember clients",
    ),
    does("check", "check link|icmp|tcp[:PORT]|http[:PORT][/PATH]|dns[:PORT]/NAME", "how backends are asked"),
    does("check_interval", "check_interval MS", "between two checks of a backend"),
    does("check_timeout", "check_timeout MS", "how long a check may take"),
    does("rise", "rise N", "checks in a row that make a backend up"),
    does("fall", "fall N", "checks in a row that make it down"),
    does("source", "source ADDRESS", "where checks come from, and connections of the proxy to servers"),
    does("panic", "panic PERCENT", "with fewer backends in service than that, use all; 0: never"),
    does("slow_start", "slow_start SECONDS", "how long a backend that returns takes to its whole weight"),
    does("predecessor", "predecessor SECONDS", "how long a replaced table decides about older flows"),
    does("when_empty", "when_empty drop|reject [VIP[:port]]", "what clients get when no backend is in service"),
    does(
        "acl",
        "acl N permit|deny all|ADDRESS|ADDRESS/PREFIX|ADDRESS MASK; acl [N]; no acl N",
        "add a rule to access list 0 to 9, show it, empty it; the first rule that matches counts",
    ),
    does(
        "client_acl",
        "client_acl [N [VIP[:port]|LISTENER]], or no client_acl [VIP[:port]|LISTENER]",
        "which list clients have to pass, of all or of one virtual address or listener",
    ),
    does(
        "control_acl",
        "control_acl [N], or no control_acl",
        "which list those have to pass who give commands over TCP",
    ),
    does("tarpit_acl", "tarpit_acl [N], or no tarpit_acl", "which addresses are a tarpit"),
    does("tarpit_rate", "tarpit_rate N", "answers a second that the tarpit gives at most"),
    does("write", "write [FILE]", "the configuration as a TOML file, as the answer or into a file"),
    does("include", "include FILE", "carry out the commands in a file, all or none"),
    does("reload", "reload", "read the configuration again, all or nothing, as after HUP"),
    does("takeover", "takeover", "answer for the virtual addresses from now on, and announce them"),
    does("standby", "standby", "fall silent at once"),
    does("statistics", "statistics", "write statistics to the log, as after USR1"),
    does("control", "control", "say where commands are taken"),
    does("listen", "listen", "list the virtual addresses"),
    does("log", "log [FILE], or no log", "say where the log goes; with FILE in a command file alone"),
    does("debug", "debug [0|1|2]", "say or set how much is logged"),
    does("dsr_if", "dsr_if INTERFACE", "the interface; in a command file alone"),
    does("pid", "pid", "the number of the process"),
    does("exit", "exit", "end, if it was started with -X"),
    does("help", "help [COMMAND]", "this"),
];

/// Commands of Pen's that have no effect, on Direct Server Return if they are also among [`COMMANDS`], and why.
pub(super) const NO_EFFECT: &[(&str, &str)] = &[
    ("abort_on_error", "there is nothing here that would abort"),
    ("ascii", "nothing is dumped; debug 2 logs more"),
    (
        "blacklist",
        "a backend that fails is out until its checks succeed (rise); take one out with server N blacklist SECONDS",
    ),
    ("block", "sockets never block here"),
    ("clients_max", "clients are not kept in a list: the hash decides, and the flow table has --flow-entries places"),
    ("close", "connections have no numbers here; drain and maintenance empty a server"),
    ("conn_max", "connections are not counted against a limit: the flow table has --flow-entries places"),
    ("connection", "connections have no numbers here; status and servers count them"),
    ("delayed_forward", "what has come is passed on at once"),
    ("dummy", "there is no server here that would answer clients"),
    ("epoll", WAITING),
    ("http", "what clients send is passed on as it is; the backend sees the client's own address"),
    ("idle_timeout", "connections are between client and backend; how long flows are remembered is said by [timeouts]"),
    ("idlers", PROXY),
    ("kqueue", WAITING),
    (
        "listen",
        "where to listen is said by the command line's words, --listen, [[vip]] and [[listen]]: change those and reload",
    ),
    ("pending_max", PROXY),
    ("poll", WAITING),
    ("prio", "backends are chosen by hash and weight; a weight of 0 or maintenance leaves one out"),
    ("select", WAITING),
    ("socket", "sockets have no numbers here; status counts connections"),
    ("ssl_client_renegotiation_interval", "clients cannot renegotiate"),
    ("ssl_option", "TLS 1.2 and 1.3 are spoken, by a library without such options"),
    ("stubborn", "a client whose backend is out of service always gets another"),
    ("tcp_fastclose", PROXY),
    ("tcp_nodelay", PROXY),
    ("timeout", "nothing is connected to; how long a check may take is said by check_timeout"),
    ("tracking", "a client has its backend by the hash, for ever; how long flows are remembered is said by [timeouts]"),
    ("transparent", "backends always see the client's own address"),
    ("web_stats", "there is no page; status and statistics say the same"),
    ("weight", "weights always count; weight NAME W changes one"),
];

const PROXY: &str = "connections are between client and backend, none ends here";
const WAITING: &str = "how frames are waited for is not a matter of choice";

const fn does(word: &'static str, usage: &'static str, does: &'static str) -> Usage {
    Usage { word, usage, does }
}

/// Why a command that is the proxy's alone has no effect without one.
pub fn without_proxy(word: &str) -> &'static str {
    let known = NO_EFFECT.iter().find(|(known, _)| *known == word);
    known.map_or("there is no listener, and so no proxy", |(_, reason)| reason)
}

/// How a command is written.
pub(super) fn usage(word: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|command| command.word == word).map(|command| command.usage)
}

/// The answer to `help [COMMAND]`: what that command does, or all of them, a line each.
pub fn help(command: Option<&str>) -> String {
    let Some(word) = command else {
        let width = COMMANDS.iter().map(|command| command.word.len()).max().unwrap_or(0);
        let line = |command: &Usage| format!("{:width$}  {}", command.word, command.does);
        return COMMANDS.iter().map(line).collect::<Vec<_>>().join("\n");
    };
    match COMMANDS.iter().find(|command| command.word == word) {
        Some(command) => format!("{}\n    {}", command.usage, command.does),
        None => match NO_EFFECT.iter().find(|(known, _)| *known == word) {
            Some((_, reason)) => format!("{word} has no effect: {reason}"),
            None => "there is no such command; help lists them".to_owned(),
        },
    }
}
