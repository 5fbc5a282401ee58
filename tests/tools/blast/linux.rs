//! The generator itself: AF_PACKET and sendmmsg(2), which only Linux has both of.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, socket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self, MutableIpv4Packet};
use pnet::packet::udp::{self, MutableUdpPacket};
use pnet::util::MacAddr;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const HEADERS: usize = ETHERNET + IPV4 + UDP;

/// First source port; flows that share an address count up from here.
const FIRST_PORT: u16 = 20000;

#[derive(Parser)]
#[command(about = "Send UDP frames of many flows on one interface of a sandbox")]
struct Options {
    /// Interface to send on
    #[arg(short, long, default_value = "eth0")]
    interface: String,
    /// Destination MAC address
    #[arg(long)]
    to_mac: MacAddr,
    /// Destination address
    #[arg(long)]
    to: Ipv4Addr,
    /// Destination UDP port
    #[arg(long, default_value_t = 9)]
    port: u16,
    /// First source address; the others follow it
    #[arg(long, default_value = "10.0.1.0")]
    from: Ipv4Addr,
    /// Distinct source addresses
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536))]
    sources: u32,
    /// Distinct flows: pairs of source address and source port
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    flows: u32,
    /// Length of a frame in bytes, Ethernet header included, checksum (FCS) not
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(60..=1514))]
    size: u16,
    /// Stop after so many seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Stop after so many frames, if that comes first
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Frames per second (default: as many as go)
    #[arg(long)]
    rate: Option<f64>,
    /// Frames handed over by one system call
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let sent =
        refuse_outside_sandbox(&options).and_then(|()| open(&options.interface)).and_then(|(socket, own_mac)| {
            let frames = frames(&options, own_mac);
            send(&options, &socket, &frames)
        });
    match sent {
        Ok(sent) => {
            println!("{sent}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("blast: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Nobody should flood a real network by mistake.
///
/// The mount is the proof that `scripts/sandbox` made this place; the variable alone could be anybody's.
fn refuse_outside_sandbox(options: &Options) -> Result<(), String> {
    let named = std::env::var("PEN_DSR_SANDBOX").as_deref() == Ok("1");
    let mounted = std::fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|mount| mount.starts_with("pen-dsr /run")));
    if !(named && mounted) {
        return Err("floods the link it is given, so it runs only inside scripts/sandbox".into());
    }
    if !(0.0..=300.0).contains(&options.seconds) {
        return Err("--seconds: 0 to 300".into());
    }
    if options.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err("--rate: more than 0 frames per second".into());
    }
    Ok(())
}

/// A raw socket that sends on `interface` and receives nothing, and the interface's own MAC address.
fn open(interface: &str) -> Result<(OwnedFd, MacAddr), String> {
    let link: LinkAddr = getifaddrs()
        .map_err(|e| format!("list of interfaces: {e}"))?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or_else(|| format!("{interface}: no such interface"))?;
    let own_mac = link.addr().ok_or_else(|| format!("{interface}: has no MAC address"))?;
    // Protocol 0: packet(7) then queues no received frames on the socket.
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| format!("raw socket: {e} (needs CAP_NET_RAW)"))?;
    bind(fd.as_raw_fd(), &link).map_err(|e| format!("bind to {interface}: {e}"))?;
    Ok((fd, own_mac.into()))
}

/// One frame for each flow, in the order in which they are sent.
fn frames(options: &Options, own_mac: MacAddr) -> Vec<Vec<u8>> {
    (0..options.flows)
        .map(|flow| {
            let from = Ipv4Addr::from(u32::from(options.from).wrapping_add(flow % options.sources));
            let from_port = FIRST_PORT.wrapping_add((flow / options.sources) as u16);
            frame(options, own_mac, from, from_port)
        })
        .collect()
}

fn frame(options: &Options, own_mac: MacAddr, from: Ipv4Addr, from_port: u16) -> Vec<u8> {
    let size = usize::from(options.size);
    let mut bytes = vec![0; size];
    let (link, datagram) = bytes.split_at_mut(ETHERNET);
    let (network, transport) = datagram.split_at_mut(IPV4);

    let mut ether = MutableEthernetPacket::new(link).expect("14 bytes hold an Ethernet header");
    ether.set_destination(options.to_mac);
    ether.set_source(own_mac);
    ether.set_ethertype(EtherTypes::Ipv4);

    let mut ip = MutableIpv4Packet::new(network).expect("20 bytes hold an IPv4 header");
    ip.set_version(4);
    ip.set_header_length(5);
    ip.set_total_length((size - ETHERNET) as u16);
    ip.set_ttl(64);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    ip.set_source(from);
    ip.set_destination(options.to);
    ip.set_checksum(ipv4::checksum(&ip.to_immutable()));

    let mut segment = MutableUdpPacket::new(transport).expect("a frame of 60 bytes holds a UDP header");
    segment.set_source(from_port);
    segment.set_destination(options.port);
    segment.set_length((size - HEADERS + UDP) as u16);
    segment.set_checksum(udp::ipv4_checksum(&segment.to_immutable(), &from, &options.to));
    bytes
}

/// What was offered to the link.
struct Sent {
    frames: u64,
    refused: u64,
    elapsed: Duration,
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{{\"frames\": {}, \"seconds\": {:.6}, \"frames_per_second\": {:.0}, \"refused\": {}}}",
            self.frames,
            seconds,
            self.frames as f64 / seconds,
            self.refused
        )
    }
}

/// Sends the frames in turn until time or count is up.
fn send(options: &Options, socket: &OwnedFd, frames: &[Vec<u8>]) -> Result<Sent, String> {
    let vectors: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let no_address = vec![None::<LinkAddr>; options.batch.into()];
    let mut headers = MultiHeaders::<LinkAddr>::preallocate(options.batch.into(), None);
    let mut sent = Sent { frames: 0, refused: 0, elapsed: Duration::ZERO };
    let mut next = 0;

    let begin = Instant::now();
    let limit = Duration::from_secs_f64(options.seconds);
    while sent.frames < options.count && begin.elapsed() < limit {
        let due = frames_due(options, begin, sent.frames);
        if due == 0 {
            thread::sleep(Duration::from_micros(50));
            continue;
        }
        let batch = usize::from(options.batch).min(due).min(vectors.len() - next);
        let handed_over = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &vectors[next..next + batch],
            &no_address[..batch],
            [],
            MsgFlags::empty(),
        );
        match handed_over {
            Ok(results) => {
                let count = results.count();
                sent.frames += count as u64;
                next = (next + count) % vectors.len();
            }
            // The link is saturated: that is what a flood is for.
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => sent.refused += 1,
            Err(e) => return Err(format!("{}: send: {e}", options.interface)),
        }
    }
    sent.elapsed = begin.elapsed();
    Ok(sent)
}

/// How many frames may leave now without exceeding the rate or the count.
fn frames_due(options: &Options, begin: Instant, sent: u64) -> usize {
    let by_count = options.count - sent;
    let by_rate =
        options.rate.map_or(u64::MAX, |rate| ((begin.elapsed().as_secs_f64() * rate) as u64).saturating_sub(sent));
    by_count.min(by_rate).try_into().unwrap_or(usize::MAX)
}
