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
        "server N|NAME [address HOST[@MAC] | mac MAC|ask | port P | weight W | max M | hard H | prio P]... or server N|NAME blacklist SECONDS",
        "show a backend, change it, or take it out of service for a while",
    ),
    does("weight", "weight NAME W", "change a backend's share of the clients"),
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
    does("hash", "hash, or no hash", "the client's address alone decides; no hash: its port, too"),
    does(
        "roundrobin",
        "roundrobin, or no roundrobin",
        "the client's port takes part, as no hash; no roundrobin: as hash",
    ),
    does("check", "check link|icmp|tcp[:PORT]|http[:PORT][/PATH]|dns[:PORT]/NAME", "how backends are asked"),
    does("check_interval", "check_interval MS", "between two checks of a backend"),
    does("check_timeout", "check_timeout MS", "how long a check may take"),
    does("rise", "rise N", "checks in a row that make a backend up"),
    does("fall", "fall N", "checks in a row that make it down"),
    does("source", "source ADDRESS", "where checks come from"),
    does("panic", "panic PERCENT", "with fewer backends in service than that, use all; 0: never"),
    does("slow_start", "slow_start SECONDS", "how long a backend that returns takes to its whole weight"),
    does("predecessor", "predecessor SECONDS", "how long a replaced table decides about older flows"),
    does("when_empty", "when_empty drop|reject [VIP[:port]]", "what clients get when no backend is in service"),
    does(
        "acl",
        "acl N permit|deny all|ADDRESS|ADDRESS/PREFIX|ADDRESS MASK; acl [N]; no acl N",
        "add a rule to access list 0 to 9, show it, empty it; the first rule that matches counts",
    ),
    does("client_acl", "client_acl [N [VIP[:port]]], or no client_acl [VIP[:port]]", "which list clients have to pass"),
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

/// Commands of Pen's that have no effect on Direct Server Return, and why.
pub(super) const NO_EFFECT: &[(&str, &str)] = &[
    ("abort_on_error", "there is nothing here that would abort"),
    ("ascii", PROXY),
    (
        "blacklist",
        "a backend that fails is out until its checks succeed (rise); take one out with server N blacklist SECONDS",
    ),
    ("block", PROXY),
    ("clients_max", "clients are not kept in a list: the hash decides, and the flow table has --flow-entries places"),
    ("close", PROXY),
    ("conn_max", "connections are not counted against a limit: the flow table has --flow-entries places"),
    ("connection", PROXY),
    ("delayed_forward", PROXY),
    ("dummy", "there is no server here that would answer clients"),
    ("epoll", WAITING),
    ("http", "what clients send is passed on as it is; the backend sees the client's own address"),
    ("idle_timeout", "connections are between client and backend; how long flows are remembered is said by [timeouts]"),
    ("idlers", PROXY),
    ("kqueue", WAITING),
    ("listen", "the virtual addresses are said by the command line's words and by [[vip]]: change those and reload"),
    ("pending_max", PROXY),
    ("poll", WAITING),
    ("prio", "backends are chosen by hash and weight; a weight of 0 or maintenance leaves one out"),
    ("select", WAITING),
    ("socket", PROXY),
    ("ssl_ciphers", TLS),
    ("ssl_client_renegotiation_interval", TLS),
    ("ssl_ocsp_response", TLS),
    ("ssl_option", TLS),
    ("ssl_session_cache", TLS),
    ("ssl_sni_path", TLS),
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
const TLS: &str = "TLS is between client and backend, it does not end here";
const WAITING: &str = "how frames are waited for is not a matter of choice";

const fn does(word: &'static str, usage: &'static str, does: &'static str) -> Usage {
    Usage { word, usage, does }
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
