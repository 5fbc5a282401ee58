//! The command line, raw: as clap reads it, before anything is checked against anything else.

// The comments are help texts, where brackets mean optional parts and no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod proxy;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::{
    ControlAddress, Cpus, Driver, LogFormat, TableSize, WhenEmpty, XdpMode, limits, parse_peer, parse_station,
};
pub use proxy::{PensArgs, ProxyArgs};

use crate::lb::{Protocols, Seed};
use crate::port::PortName;
use crate::wire::ether::Mac;

const EXAMPLES: &str = "\
Examples:
  pen-dsr -i eth0 -r 10.0.0.100 be1 be2            every port of 10.0.0.100, TCP and UDP
  pen-dsr -i eth0 10.0.0.100:80 be1::::3 be2       be1 takes three times as many clients
  pen-dsr -i eth0 10.0.0.100 --vip fd00::100 be1   two addresses, the same backends
  pen-dsr -i eth0 --check http/health 10.0.0.100:80 be1 be2
  pen-dsr 80 be1:8080 be2:8080                     without -i a proxy: port 80 of every address
  pen-dsr -h -H -E site.pem 443 be1:80 be2:80      TLS ends here; HTTP; a client address has one server
  pen-dsr -c pen-dsr.toml                          all of it in a file
  pen-dsr check -c pen-dsr.toml                    is the file right, and what would be done?
  pen-dsr ctl -C /run/pen-dsr.sock server be1 weight 3
  pen-dsr -r 10.0.0.100 be1 be2 explain 192.0.2.7:40000
  pen-dsr -r 10.0.0.100 be1 be2 simulate weight be1 3
  pen-dsr 10.0.0.100 be1@02:00:00:00:00:11 replay in.pcap --write out.pcap

With -i, backends have the VIP on their loopback and keep quiet about it; see scripts/backend-setup.
Exit codes: 64 usage, 65 bad capture, 66 no input, 67 no such user, 68 a name does not resolve, 69 no such
interface, 71 system error, 73 cannot create a file, 77 no permission, 78 bad configuration file.";

/// Load balancer for one layer-2 segment, by Direct Server Return; and a proxy.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "pen-dsr",
    version,
    after_help = EXAMPLES,
    subcommand_precedence_over_arg = true,
    disable_help_subcommand = true,
    disable_help_flag = true
)]
pub struct Cli {
    /// Where else the configuration comes from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// What to balance.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// How to run.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// What the proxy does.
    #[command(flatten)]
    pub proxy: ProxyArgs,
    /// This help
    #[arg(long, action = ArgAction::Help, global = true)]
    pub help: Option<bool>,
    /// With -i the virtual address first, then the backends; none with -c, if the file names them:
    /// VIP[:port] HOST[@MAC][:port[:soft[:hard[:weight[:prio]]]]]...
    ///
    /// Without -i the proxy's listener first, then the servers: [HOST:]PORT|/PATH
    /// HOST[:port[:soft[:hard[:weight[:prio]]]]]|/PATH...
    #[arg(value_name = "VIP BACKEND")]
    pub words: Vec<String>,
    /// Something else than running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the configuration comes from, besides words and options. Read in this order: the TOML file, the command
/// line, the command files, the commands.
#[derive(Args, Clone, Debug, Default)]
pub struct SourceArgs {
    /// Read this TOML file first; options of the command line count before it, words are added to it
    #[arg(short = 'c', long = "config", value_name = "FILE.toml", global = true)]
    pub config: Option<PathBuf>,
    /// Then carry out the commands in this file, one a line, as pen-dsr ctl takes them; repeatable
    #[arg(short = 'F', long = "commands", value_name = "FILE", global = true)]
    pub commands: Vec<PathBuf>,
    /// Then carry out this command; repeatable
    #[arg(short = 'O', long = "command", value_name = "COMMAND", global = true)]
    pub command: Vec<String>,
}

/// Options that the choice of a backend depends on. `None`: not given, the file or the default counts.
#[derive(Args, Clone, Debug, Default)]
pub struct BalanceArgs {
    /// The client's port takes part in the choice of its backend; the proxy does not remember who served a client
    #[arg(short = 'r', global = true)]
    pub each_connection: bool,
    /// The client's port takes part in hashes, not its address alone
    #[arg(long, global = true)]
    pub hash_port: bool,
    /// UDP only: the same as --protocol udp
    #[arg(short = 'U', conflicts_with = "protocol", global = true)]
    pub udp: bool,
    /// Which protocols the VIPs serve that do not say themselves, and listeners [default: all; of listeners tcp]
    #[arg(long, value_enum, global = true)]
    pub protocol: Option<Protocol>,
    /// One more virtual address for the same backends; repeatable
    #[arg(long, value_name = "VIP[:port]", global = true)]
    pub vip: Vec<String>,
    /// Key of the hash, up to 32 hexadecimal digits; the same on balancers that are to agree [default: 0]
    #[arg(long, value_name = "HEX", global = true)]
    pub seed: Option<Seed>,
    /// Slots of the table: a prime, some hundred times the number of backends [default: 65537]
    #[arg(long, value_name = "PRIME", value_parser = table_size, global = true)]
    pub table_size: Option<TableSize>,
    /// Serves when no other backend is in service; of the proxy HOST:PORT|/PATH
    #[arg(short = 'e', long = "emergency", value_name = "HOST[@MAC]", global = true)]
    pub emergency: Option<String>,
    /// How backends are asked whether they serve: link (ARP and ND alone), icmp, tcp[:PORT], http[:PORT][/PATH],
    /// dns[:PORT]/NAME [default: link]
    #[arg(long, value_name = "CHECK", global = true)]
    pub check: Option<String>,
    /// Between two checks of a backend [default: 2000]
    #[arg(long, value_name = "MS", value_parser = within(limits::CHECK_INTERVAL), global = true)]
    pub check_interval: Option<u32>,
    /// How long a check may take [default: 1000]
    #[arg(long, value_name = "MS", value_parser = within(limits::CHECK_TIMEOUT), global = true)]
    pub check_timeout: Option<u32>,
    /// Checks in a row that have to succeed until a backend is up [default: 2]
    #[arg(long, value_name = "N", value_parser = within(limits::IN_A_ROW), global = true)]
    pub rise: Option<u32>,
    /// Checks in a row that have to fail until a backend is down [default: 3]
    #[arg(long, value_name = "N", value_parser = within(limits::IN_A_ROW), global = true)]
    pub fall: Option<u32>,
    /// The address that checks come from, one of a family; the interface's own unless given
    #[arg(long, value_name = "ADDR", global = true)]
    pub check_source: Vec<IpAddr>,
    /// With fewer percent of the backends in service than this, use all, whatever the checks say [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = within(limits::PERCENT), global = true)]
    pub panic: Option<u32>,
    /// How long a backend that returns takes to reach its whole weight [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = within(limits::SLOW_START), global = true)]
    pub slow_start: Option<u32>,
    /// What clients get when no backend is in service, of VIPs that do not say themselves: drop or reject (TCP RST,
    /// ICMP port unreachable) [default: drop]
    #[arg(long, value_name = "drop|reject", global = true)]
    pub when_empty: Option<WhenEmpty>,
    /// How long a table that was replaced decides about older flows that are not remembered [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = within(limits::PREDECESSOR), global = true)]
    pub predecessor: Option<u32>,
    /// After how long a backend that answered is asked for its MAC again [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = within(limits::NEIGHBOR_INTERVAL), global = true)]
    pub neighbor_interval: Option<u32>,
}

/// Options of the running program. `None`: not given, the file or the default counts.
#[derive(Args, Clone, Debug, Default)]
pub struct ProcessArgs {
    /// The port whose segment is balanced: an interface, or a port of netmap (netmap:vtnet1, netmap:em0-2, vale0:lb,
    /// netmap:x{1)
    #[arg(short = 'i', long = "interface", value_name = "PORT", global = true)]
    pub interface: Option<PortName>,
    /// The backends are on this port of netmap; the other one is the clients'
    #[arg(short = 'o', long = "out", value_name = "PORT", global = true)]
    pub out: Option<PortName>,
    /// How ports are driven: netmap; xdp (in the kernel, Linux), ring (mapped AF_PACKET rings, Linux), packet (AF_PACKET,
    /// bpf); or auto: netmap where it is said, else the best that can be had [default: auto]
    #[arg(long, value_name = "auto|netmap|xdp|ring|packet", global = true)]
    pub driver: Option<Driver>,
    /// Our MAC on a port that is no interface: a VALE switch's, a pipe [default: made from its name]
    #[arg(long, value_name = "MAC", value_parser = parse_station, global = true)]
    pub mac: Option<Mac>,
    /// With netmap, leave the host's stack without the interface, which saves it work
    #[arg(long, global = true)]
    pub dedicated: bool,
    /// With netmap, leave the interface's flags and offloads as they are
    #[arg(long, global = true)]
    pub no_ifconfig: bool,
    /// With xdp, attach its program in the NIC's driver (native), or behind it (generic) [default: auto]
    #[arg(long, value_name = "auto|native|generic", global = true)]
    pub xdp_mode: Option<XdpMode>,
    /// With xdp, leave program and tables in this folder of a BPF file system, at work, when pen-dsr ends
    #[arg(long, value_name = "DIR", global = true)]
    pub xdp_pin: Option<PathBuf>,
    /// Pin the workers to these processors, the first to the first: 2,3 or 4-7; no more workers than these
    #[arg(long, value_name = "LIST", global = true)]
    pub cpus: Option<Cpus>,
    /// Announce the VIPs with this MAC instead of the interface's
    #[arg(long, value_name = "MAC", value_parser = parse_station, global = true)]
    pub vip_mac: Option<Mac>,
    /// Where frames follow each other within so many microseconds, look for so long for the next before sleeping; 0
    /// sleeps always, which takes less of the CPU and longer [default: 100]
    #[arg(long, value_name = "MICROSECONDS", value_parser = within(limits::BUSY_POLL), global = true)]
    pub busy_poll: Option<u32>,
    /// Let the host's IP stack see the VIPs' frames, too (Linux)
    #[arg(long, global = true)]
    pub no_ingress_drop: bool,
    /// More to say: once for debug, twice for trace
    #[arg(short = 'd', long = "debug", action = ArgAction::Count, global = true)]
    pub debug: u8,
    /// How to say it [default: human]
    #[arg(long, value_name = "human|json", global = true)]
    pub log_format: Option<LogFormat>,
    /// Append the log to this file instead of standard error, or of syslog with --daemon
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// Run in the background, once everything is set up
    #[arg(long, global = true)]
    pub daemon: bool,
    /// Stay in the foreground, which is the default (for Pen's command lines)
    #[arg(short = 'f', hide = true, conflicts_with = "daemon", global = true)]
    pub foreground: bool,
    /// Write the process number to this file; removed at exit where -u and -j let it be
    #[arg(short = 'p', long = "pidfile", value_name = "FILE", global = true)]
    pub pidfile: Option<PathBuf>,
    /// Become this user once everything is set up
    #[arg(short = 'u', long = "user", value_name = "USER", global = true)]
    pub user: Option<String>,
    /// Take commands here: the path of a Unix socket, or [ADDRESS:]PORT, which needs a control_acl; repeatable
    #[arg(short = 'C', long = "control", value_name = "CONTROL", global = true)]
    pub control: Vec<ControlAddress>,
    /// Let a command end the program
    #[arg(short = 'X', long = "allow-exit", global = true)]
    pub allow_exit: bool,
    /// Start silent, as the second of two balancers, until told to take over (ctl takeover, USR2)
    #[arg(long, global = true)]
    pub standby: bool,
    /// Places in the flow table, made a power of two upwards; 20 bytes each [default: 1048576]
    #[arg(long, value_name = "N", value_parser = within(limits::FLOW_ENTRIES), global = true)]
    pub flow_entries: Option<u32>,
    /// Keep flows in this file over a restart
    #[arg(long, value_name = "FILE", global = true)]
    pub flow_file: Option<PathBuf>,
    /// Tell the other balancer, at this address, of flows, so that it knows them when it takes over (UDP, port 7364)
    #[arg(long, value_name = "ADDRESS[:port]", value_parser = parse_peer, global = true)]
    pub peer: Option<SocketAddr>,
}

/// What else can be done with the same configuration.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Say whether the configuration is right, and what would be done with it
    ///
    /// Takes the words and options of the call that it is to check. Looks names up; touches nothing else.
    Check {
        /// The virtual address first, then the backends
        #[arg(value_name = "VIP BACKEND")]
        words: Vec<String>,
    },
    /// Tell a running pen-dsr a command, and print its answer
    ///
    /// Where to is said by -C, or by the file of -c; otherwise it is PEN_DSR_CONTROL in the environment, or
    /// /run/pen-dsr.sock. Called by the name penctl, it takes Pen's words: penctl CONTROL COMMAND...
    Ctl {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
        /// The command and its words; help lists them
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Say which backend serves a client, and why; touches no network
    ///
    /// With the configuration before the word explain, or in a file (-c), what follows are clients; otherwise the
    /// first word that follows is the client, and the VIP and the backends come behind it.
    Explain {
        /// CLIENT[:port]...
        #[arg(value_name = "CLIENT[:port]", required = true)]
        words: Vec<String>,
    },
    /// Run a capture through the engine and print what it decides
    ///
    /// With the configuration before the word replay, or in a file (-c), captures alone follow; otherwise the first
    /// word that follows is the capture, and the VIP and the backends come behind it.
    Replay {
        /// Write what would be sent to this file
        #[arg(long, short = 'w', value_name = "OUT.pcap")]
        write: Option<PathBuf>,
        /// IN.pcap
        #[arg(value_name = "IN.pcap", required = true)]
        words: Vec<String>,
    },
    /// Say which share of the clients a change would move; touches no network
    ///
    /// The configuration comes before the word simulate, or from a file (-c). What follows are commands as ctl takes
    /// them, with commas between them: simulate remove be2, weight be1 3
    Simulate {
        /// The commands
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Send each line of a web server's log to penlogd
    Penlog {
        /// Its own: pen-dsr penlog --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Make one log of what web servers and the balancer send
    Penlogd {
        /// Its own: pen-dsr penlogd --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Make one log of files of web servers and the balancer
    Mergelogs {
        /// Its own: pen-dsr mergelogs --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// TCP, UDP or both.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Protocol {
    /// TCP alone
    Tcp,
    /// UDP alone
    Udp,
    /// TCP and UDP
    All,
}

impl BalanceArgs {
    /// The protocols that are asked for, if any are.
    pub fn protocols(&self) -> Option<Protocols> {
        if self.udp {
            return Some(Protocols::Udp);
        }
        self.protocol.map(|protocol| match protocol {
            Protocol::Tcp => Protocols::Tcp,
            Protocol::Udp => Protocols::Udp,
            Protocol::All => Protocols::All,
        })
    }
}

/// Reads a number within `range`.
pub(in crate::config) fn within(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("not a number from {} to {}", range.start(), range.end()))
    }
}

fn table_size(text: &str) -> Result<TableSize, String> {
    let size = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    TableSize::new(size).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_typical_call_is_read_as_it_stands() {
        let cli = Cli::try_parse_from("pen-dsr -i vtnet1 -r 10.0.0.100 be1 be2".split(' ')).unwrap();
        assert_eq!(cli.process.interface.map(|port| port.to_string()).as_deref(), Some("vtnet1"));
        assert!(cli.balance.each_connection);
        assert_eq!(cli.words, ["10.0.0.100", "be1", "be2"]);
    }

    #[test]
    fn explain_may_stand_behind_the_configuration() {
        let cli = Cli::try_parse_from("pen-dsr -r 10.0.0.100 be1 explain 192.0.2.7:1 192.0.2.8:2".split(' ')).unwrap();
        let Some(Command::Explain { words }) = cli.command else { panic!("{cli:?}") };
        assert_eq!((cli.words.len(), words.len()), (2, 2));
        let cli = Cli::try_parse_from("pen-dsr explain -r 192.0.2.7:1 10.0.0.100 be1".split(' ')).unwrap();
        assert!(cli.balance.each_connection);
    }
}
