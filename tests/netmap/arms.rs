//! Two interfaces: clients on the one, backends on the other, whose answers this host routes back.

use nix::sys::signal::Signal;

use crate::harness::{PEN_DSR, machine, skipped, text, wait_until};
use crate::load::macs;
use crate::roles;
use crate::system::{INTERFACE, Segment};

const VIP: &str = "10.77.0.100";
const CLIENT: &str = "10.77.0.1";
const FRONT: &str = "10.77.0.2";
const BACK: &str = "10.79.0.2";
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0x77, 2], [2, 0, 0, 0, 0x79, 2]];
const SERVERS: [(&str, &str, [u8; 6]); 2] =
    [("be1", "10.79.0.11", [2, 0, 0, 0, 0x79, 0x11]), ("be2", "10.79.0.12", [2, 0, 0, 0, 0x79, 0x12])];
const BYTES: &str = "100000";

#[test]
fn backends_on_a_second_interface_serve_and_answer_by_the_hosts_own_routing() {
    machine("arms::backends_on_a_second_interface_serve_and_answer_by_the_hosts_own_routing", |machine| {
        let front = Segment::up(&machine.word(), &[("client", [2, 0, 0, 0, 0x77, 1]), ("lb", MACS[0])]);
        let hosts = [("inner", MACS[1]), (SERVERS[0].0, SERVERS[0].2), (SERVERS[1].0, SERVERS[1].2)];
        let back = front.and_then(|front| Segment::up(&machine.word(), &hosts).map(|back| (front, back)));
        let (front, back) = match back {
            Ok(both) => both,
            Err(why) => return skipped(machine.name, &why),
        };
        back.lend("inner", &front, "lb", "eth1");
        front.add_address("client", CLIENT);
        front.add_address("lb", FRONT);
        front.add_address_on("lb", "eth1", BACK);
        front.be_router("lb");
        front.route_by("client", FRONT);
        let serve = |(host, address, _): (&str, &str, [u8; 6])| {
            back.add_address(host, address);
            back.add_silent_address(host, VIP);
            back.route_by(host, BACK);
            let mut command = back.command(host, "env");
            roles::cast(&mut command, machine.name, &["serve", &format!("{VIP}:8080"), host]);
            let server = machine.start(host, command);
            server.wait_for("the server", |log| !roles::lines(log).is_empty());
            server
        };
        let _servers = SERVERS.map(serve);
        assert!(front.ping("client", SERVERS[0].1), "the lab routes");

        let backends = SERVERS.map(|(_, address, _)| address).join(" ");
        let line = format!("-r -i netmap:{INTERFACE} -o netmap:eth1 {VIP} {backends}");
        let mut balancer = machine.balancer_by(front.command("lb", PEN_DSR), &line);
        assert_eq!(macs(&balancer.output()), MACS);
        wait_until("the backends to be up", || {
            SERVERS.iter().all(|(_, address, _)| machine.server(address, "state") == "up")
        });
        let mut command = front.command("client", "env");
        let target = format!("{VIP}:8080");
        roles::cast(&mut command, machine.name, &[&["ask", &target, BYTES][..], &[CLIENT; 20]].concat());
        let output = command.output().expect("it starts");
        let lines = roles::lines(&text(&output));
        assert!(output.status.success() && lines.len() == 20, "{lines:?}");
        for (name, ..) in SERVERS {
            let expected = format!("{CLIENT} {name} {CLIENT}");
            assert!(lines.contains(&expected), "{name} has served some, and seen the client's address: {lines:?}");
        }
        assert!(front.ping("client", FRONT) && front.ping("client", SERVERS[1].1), "the host answers, and routes");
        assert_eq!(balancer.end_by(Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
        wait_until("the host alone", || front.ping("client", SERVERS[0].1));
    });
}
