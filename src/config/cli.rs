//! The command line, raw: as clap reads it, before anything is checked against anything else.

// The comments are help texts, where brackets mean optional parts and no links.
#![allow(rustdoc::broken_intra_doc_links)]

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::TableSize;
use crate::lb::{Protocols, Seed};
use crate::wire::ether::Mac;

const EXAMPLES: &str = "\
Examples:
  pen-dsr -i eth0 -r 10.0.0.100 be1 be2            every port of 10.0.0.100, TCP and UDP
  pen-dsr -i eth0 10.0.0.100:80 be1::::3 be2       be1 takes three times as many clients
  pen-dsr -i eth0 10.0.0.100 --vip fd00::100 be1   two addresses, the same backends
  pen-dsr -r 10.0.0.100 be1 be2 explain 192.0.2.7:40000
  pen-dsr 10.0.0.100 be1@02:00:00:00:00:11 replay in.pcap --write out.pcap

Backends have the VIP on their loopback and keep quiet about it; see scripts/backend-setup.
Exit codes: 64 usage, 65 bad capture, 66 no input, 67 no such user, 68 a name does not resolve,
69 no such interface, 71 system error, 73 cannot create a file, 77 no permission.";

/// Load balancer for one layer-2 segment, by Direct Server Return.
#[derive(Parser, Debug)]
#[command(name = "pen-dsr", version, after_help = EXAMPLES, subcommand_precedence_over_arg = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to balance.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// How to run.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The virtual address first, then the backends:
    /// VIP[:port] HOST[@MAC][:port[:soft[:hard[:weight[:prio]]]]]...
    #[arg(value_name = "VIP BACKEND")]
    pub words: Vec<String>,
    /// Something else than running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that the choice of a backend depends on.
#[derive(Args, Debug)]
pub struct BalanceArgs {
    /// The client's port takes part in the choice of its backend, not its address alone
    #[arg(short = 'r', long = "hash-port", global = true)]
    pub hash_port: bool,
    /// UDP only: the same as --protocol udp
    #[arg(short = 'U', conflicts_with = "protocol", global = true)]
    pub udp: bool,
    /// Which protocols the VIPs serve
    #[arg(long, value_enum, default_value_t = Protocol::All, global = true)]
    pub protocol: Protocol,
    /// One more virtual address for the same backends; repeatable
    #[arg(long, value_name = "VIP[:port]", global = true)]
    pub vip: Vec<String>,
    /// Key of the hash, up to 32 hexadecimal digits; the same on balancers that are to agree
    #[arg(long, value_name = "HEX", default_value = "0", global = true)]
    pub seed: Seed,
    /// Slots of the table: a prime, some hundred times the number of backends
    #[arg(long, value_name = "PRIME", default_value = "65537", value_parser = table_size, global = true)]
    pub table_size: TableSize,
}

/// Options of the running program.
#[derive(Args, Debug)]
pub struct ProcessArgs {
    /// The interface whose segment is balanced
    #[arg(short = 'i', long = "interface", value_name = "IF")]
    pub interface: Option<String>,
    /// Announce the VIPs with this MAC instead of the interface's
    #[arg(long, value_name = "MAC", value_parser = station)]
    pub vip_mac: Option<Mac>,
    /// Seconds after which a backend that answered is asked again
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub neighbor_interval: u16,
    /// Where frames follow each other within so many microseconds, look for so long for the next before sleeping; 0
    /// sleeps always, which takes less of the CPU and longer
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub busy_poll: u32,
    /// Let the host's IP stack see the VIPs' frames, too (Linux)
    #[arg(long)]
    pub no_ingress_drop: bool,
    /// More to say: once for debug, twice for trace
    #[arg(short = 'd', long = "debug", action = ArgAction::Count, global = true)]
    pub debug: u8,
    /// How to say it
    #[arg(long, value_enum, default_value_t = LogFormat::Human, global = true)]
    pub log_format: LogFormat,
    /// Append the log to this file instead of standard error, or of syslog with --daemon
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Run in the background, once everything is set up
    #[arg(long)]
    pub daemon: bool,
    /// Stay in the foreground, which is the default (for Pen's command lines)
    #[arg(short = 'f', hide = true)]
    pub foreground: bool,
    /// Write the process number to this file; removed at exit
    #[arg(short = 'p', long = "pidfile", value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Become this user once everything is set up
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub user: Option<String>,
}

/// What else can be done with the same configuration.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say which backend serves a client, and why; touches no network
    ///
    /// With the VIP and the backends before the word explain, what follows are clients; otherwise the first word that
    /// follows is the client, and the VIP and the backends come behind it.
    Explain {
        /// CLIENT[:port]...
        #[arg(value_name = "CLIENT[:port]", required = true)]
        words: Vec<String>,
    },
    /// Run a capture through the engine and print what it decides
    ///
    /// With the VIP and the backends before the word replay, the capture alone follows; otherwise they come behind it.
    Replay {
        /// Write what would be sent to this file
        #[arg(long, short = 'w', value_name = "OUT.pcap")]
        write: Option<PathBuf>,
        /// IN.pcap
        #[arg(value_name = "IN.pcap", required = true)]
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

/// How the log is written.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    Human,
    /// For machines, one object a line
    Json,
}

impl BalanceArgs {
    /// The protocols that are asked for.
    pub fn protocols(&self) -> Protocols {
        match self.protocol {
            _ if self.udp => Protocols::Udp,
            Protocol::Tcp => Protocols::Tcp,
            Protocol::Udp => Protocols::Udp,
            Protocol::All => Protocols::All,
        }
    }
}

fn station(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|e: crate::wire::ether::BadMac| e.to_string())?;
    if mac.is_station() { Ok(mac) } else { Err("not the address of one station".to_owned()) }
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
        assert_eq!(cli.process.interface.as_deref(), Some("vtnet1"));
        assert!(cli.balance.hash_port);
        assert_eq!(cli.words, ["10.0.0.100", "be1", "be2"]);
    }

    #[test]
    fn explain_may_stand_behind_the_configuration() {
        let cli = Cli::try_parse_from("pen-dsr -r 10.0.0.100 be1 explain 192.0.2.7:1 192.0.2.8:2".split(' ')).unwrap();
        let Some(Command::Explain { words }) = cli.command else { panic!("{cli:?}") };
        assert_eq!((cli.words.len(), words.len()), (2, 2));
        let cli = Cli::try_parse_from("pen-dsr explain -r 192.0.2.7:1 10.0.0.100 be1".split(' ')).unwrap();
        assert!(cli.balance.hash_port);
    }
}
