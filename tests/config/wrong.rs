//! Wrong configurations, each with what is said about it and the exit code, through `pen-dsr check`.

use crate::call::Folder;

/// What is enough to run.
const ENOUGH: &str =
    "interface = \"eth0\"\n[[vip]]\naddress = \"10.0.0.100\"\nport = 80\n[[backend]]\nhost = \"10.0.0.11\"\n";

/// Files: their text, where `¶` stands at the place that has to be named, and words of the message. A `+` at
/// an end stands for what is enough.
const FILES: &[(&str, &[&str])] = &[
    // No TOML, or another one.
    ("interface = ¶eth0", &["quotes"]),
    ("interface = \"eth0\"\n¶interface = \"eth1\"", &["duplicate key", "leave one out"]),
    ("[balance¶\nseed = \"1\"", &["TOML"]),
    ("¶interfaec = \"eth0\"", &["\"interfaec\"", "\"interface\" is one"]),
    ("[balance]\n¶client_acl = 1", &["\"client-acl\" is one"]),
    ("[¶balnce]\nseed = \"1\"", &["\"balance\" is one"]),
    ("[[vip]]\naddress = \"10.0.0.100\"\n¶wibble = 1", &["these are known: address, port"]),
    ("+[¶healht]\ncheck = \"tcp\"", &["\"health\" is one"]),
    ("interface = ¶5", &["integer `5`", "texts have quotes"]),
    ("busy-poll = ¶\"100\"", &["expected a whole number", "numbers and true or false have none"]),
    ("daemon = ¶\"yes\"", &["boolean"]),
    ("debug = ¶1.5", &["floating point"]),
    ("¶[[backend]]\nweight = 1", &["\"host\" is missing", "add it"]),
    ("¶[[vip]]\nport = 80", &["\"address\" is missing"]),
    ("¶[tarpit]\nrate = 5", &["\"acl\" is missing"]),
    // One setting.
    ("interface = ¶\"em0:1\"", &["netmap:INTERFACE"]),
    ("driver = ¶\"raw\"", &["auto, netmap, xdp, ring or packet"]),
    ("xdp-mode = ¶\"skb\"", &["auto, native or generic"]),
    ("cpus = ¶\"a\"", &["as 2,3 or 4-7"]),
    ("dedicated = ¶\"yes\"", &["boolean"]),
    ("busy-poll = ¶1000001", &["0 to 1000000"]),
    ("vip-mac = ¶\"02:00:00:00:00\"", &["MAC"]),
    ("vip-mac = ¶\"ff:ff:ff:ff:ff:ff\"", &["one station"]),
    ("log-format = ¶\"xml\"", &["human or json"]),
    ("control = [\"/run/x\", ¶\"lb.example:8888\"]", &["127.0.0.1:8888"]),
    ("flow-entries = ¶100", &["1024 to 67108864"]),
    ("pidfile = ¶\"\"", &["leave the key out"]),
    ("[balance]\nseed = ¶\"xyz\"", &["hexadecimal"]),
    ("[balance]\ntable-size = ¶65536", &["prime", "65537"]),
    ("[balance]\nprotocol = ¶\"sctp\"", &["tcp, udp, all"]),
    ("[balance]\nneighbor-interval = ¶0", &["1 to 3600"]),
    ("[balance]\npanic-threshold = ¶101", &["0 to 100"]),
    ("[balance]\nemergency = ¶\"be 1\"", &["\"be 1\" is not a host"]),
    ("[[vip]]\naddress = ¶\"10.0.0.300\"", &["10.0.0.300", "without port or prefix"]),
    ("[[vip]]\naddress = ¶\"10.0.0.100:80\"", &["without port or prefix"]),
    ("[[vip]]\naddress = ¶\"224.0.0.1\"", &["one host"]),
    ("[[vip]]\naddress = \"10.0.0.100\"\nport = ¶65536", &["0 to 65535"]),
    ("[[vip]]\naddress = \"10.0.0.100\"\nwhen-empty = ¶\"close\"", &["neither drop nor reject"]),
    ("[[vip]]\naddress = \"10.0.0.100\"\nclient-acl = ¶10", &["0 to 9"]),
    ("[[backend]]\nhost = ¶\"10.0.0.300\"", &["no IPv4 address either"]),
    ("[[backend]]\nhost = ¶\"be1:80\"", &["\"be1:80\" is not a host"]),
    ("[[backend]]\nhost = \"10.0.0.11\"\naddress = ¶\"10.0.0.12\"", &["an address already"]),
    ("[[backend]]\nhost = \"be1\"\nmac = ¶\"zz\"", &["MAC"]),
    ("[[backend]]\nhost = \"be1\"\nweight = ¶-1", &["0 to 1000000"]),
    ("[[backend]]\nhost = \"be1\"\n[[backend]]\nhost = ¶\"be1\"", &["given twice"]),
    ("[health]\ncheck = ¶\"htpp\"", &["\"http\" is one"]),
    ("[health]\ncheck = ¶\"dns\"", &["name = \"www.example.org\""]),
    ("[health]\ncheck = \"tcp\"\nport = ¶0", &["1 to 65535"]),
    ("[health]\ncheck = \"tcp\"\npath = ¶\"/\"", &["path is of no use with check = \"tcp\"", "leave it out"]),
    ("[health]\ncheck = \"http\"\nstatus = ¶\"2xx\"", &["100 to 599"]),
    ("[health]\ncheck = \"udp\"\npayload = ¶[1, 256]", &["256 is not a byte"]),
    ("[health]\nrise = ¶0", &["1 to 100"]),
    ("[health]\nfall = ¶0", &["1 to 100"]),
    ("[health]\ntimeout = ¶9", &["10 to 600000"]),
    ("[health]\nsource = [\"10.0.0.2\", ¶\"10.0.0.3\"]", &["10.0.0.2 is the source of that family already"]),
    ("+[health]\nsource = [¶\"127.0.0.2\"]", &["checks cannot come from 127.0.0.2", "not the address of one host"]),
    ("[health]\nsource = [¶\"0.0.0.0\"]", &["0.0.0.0 is not the address of one host"]),
    ("[timeouts]\nestablished = ¶0", &["1 to 604800"]),
    ("[acl]\n¶10 = [\"permit all\"]", &["numbers 0 to 9"]),
    ("[acl]\n1 = [\"permit all\", ¶\"allow all\"]", &["neither permit nor deny"]),
    ("[acl]\n1 = [¶\"permit 10.0.0.0 255.0.255.0\"]", &["gap"]),
    ("[acl]\n1 = [¶\"permit 10.0.0.5/8\"]", &["10.0.0.0/8"]),
    ("[acl]\n1 = []\n[tarpit]\nacl = 1\nrate = ¶0", &["1 to 1000000"]),
    // One setting against another.
    ("+[[vip]]\naddress = ¶\"10.0.0.100\"\nport = 80", &["given twice"]),
    ("+[[vip]]\naddress = ¶\"10.0.0.100\"\nport = 80\nprotocol = \"udp\"", &["given twice, for tcp+udp and for udp"]),
    ("+[[backend]]\nhost = \"be2\"\naddress = ¶\"10.0.0.11\"", &["same host as backend \"10.0.0.11\""]),
    ("+[[backend]]\nhost = ¶\"10.0.0.100\"", &["loopback"]),
    ("+[[backend]]\nhost = \"10.0.0.12\"\nport = ¶81", &["cannot change ports"]),
    ("+[balance]\nemergency = ¶\"10.0.0.11\"", &["name another host"]),
    ("+[balance]\nclient-acl = ¶3", &["list 3 has no rules", "acl 3 permit"]),
    ("+[balance]\ncontrol-acl = ¶3\n[acl]\n3 = []", &["list 3 has no rules", "no control_acl"]),
    ("+[[vip]]\naddress = \"10.0.0.101\"\nclient-acl = ¶4", &["list 4 has no rules"]),
    ("+[tarpit]\nacl = ¶5", &["list 5 has no rules", "no tarpit_acl"]),
    ("+[acl]\n5 = [\"permit 10.0.0.0/24\"]\n[tarpit]\nacl = ¶5", &["10.0.0.100", "'deny 10.0.0.100' in front"]),
    (
        "+[acl]\n5 = [\"deny 10.0.0.100\", \"permit 10.0.0.0/24\"]\n[tarpit]\nacl = ¶5",
        &["a backend", "'deny 10.0.0.11' in front"],
    ),
    ("+[health]\ntimeout = ¶5000", &["5000 ms", "2000 ms", "lengthen the interval"]),
    ("+[health]\ninterval = 1000\ndoubt-interval = ¶2000", &["shorten the doubt-interval"]),
    ("+[health]\ncheck = \"http\"\npath = ¶\"health\"", &["slash"]),
    ("+[health]\ncheck = \"http\"\nhost = ¶\"a b\"", &["host name"]),
    ("+[health]\ncheck = \"http\"\nbody = ¶\"\"", &["body"]),
    ("+[health]\ncheck = \"dns\"\nname = ¶\"a..b\"", &["domain name"]),
    ("+[[vip]]\naddress = \"10.0.0.101\"\n[health]\ncheck = ¶\"tcp\"", &["10.0.0.101 is every port", "tcp:PORT"]),
    ("+[[vip]]\naddress = \"10.0.0.101\"\n[health]\ncheck = ¶\"udp\"", &["udp check has no port"]),
    ("+[health]\nsource = [¶\"10.0.0.100\"]", &["a virtual address"]),
    ("+[health]\nsource = [¶\"10.0.0.11\"]", &["backend \"10.0.0.11\""]),
    // The proxy.
    ("¶[[listen]]\nprotocol = \"tcp\"", &["\"address\" is missing"]),
    ("[[listen]]\naddress = ¶\"be1\"", &["no listener", "10.0.0.1:80"]),
    ("[[listen]]\naddress = \"80\"\nprotocol = ¶\"sctp\"", &["tcp or udp"]),
    ("[[listen]]\naddress = \"80\"\nmode = ¶\"https\"", &["neither stream nor http"]),
    ("[[listen]]\naddress = \"80\"\nforwarded = ¶true", &["of no use without mode = \"http\""]),
    ("[[listen]]\naddress = \"80\"\nmode = \"http\"\nown-header = ¶\"keep\"", &["replace, append or drop"]),
    ("[[listen]]\naddress = \"80\"\nbackend-port = ¶65536", &["0 to 65535"]),
    ("[[listen]]\naddress = \"80\"\nbackends = [¶\"a b\"]", &["without blanks"]),
    ("[[listen]]\naddress = \"80\"\nsource = [¶\"10.0.0.0/8\"]", &["without port or prefix"]),
    ("[[listen]]\naddress = \"80\"\naccept-proxy = [¶\"10.0.0.5/8\"]", &["10.0.0.0/8"]),
    ("[[listen]]\naddress = \"80\"\nsend-proxy = ¶\"3\"", &["v1 or v2"]),
    ("[[listen]]\naddress = \"80\"\nclient-acl = ¶10", &["0 to 9"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\n¶cert = \"x\"", &["these are known: certificate"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\nkey = ¶\"x\"", &["belongs to a certificate"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\ncertificate = ¶\"\"", &["leave the key out"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\noldest = ¶\"1.1\"", &["1.2 or 1.3"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\ntickets = ¶604801", &["0 to 604800"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\nciphers = [¶\"a:b\"]", &["no single name"]),
    ("[[listen]]\naddress = \"80\"\n[listen.tls]\nclient-required = ¶true", &["client-authorities"]),
    ("[[backend]]\nhost = \"be1\"\npath = ¶\"/run/x\"", &["host or a Unix socket"]),
    ("[[backend]]\npath = ¶\"run/x\"", &["begin with a slash"]),
    ("[[backend]]\npath = \"/run/x\"\nport = ¶80", &["a Unix socket has no port"]),
    ("[[backend]]\nhost = \"be1\"\nname = ¶\"7\"", &["no number"]),
    ("[[backend]]\nhost = \"be1\"\nacl = ¶10", &["0 to 9"]),
    ("[[backend]]\nhost = \"be1\"\nport = 81\n[[backend]]\nhost = ¶\"be1\"\nport = 81", &["\"be1:81\" is given twice"]),
    ("[proxy]\nthreads = ¶1025", &["0 to 1024"]),
    ("[proxy]\ntrusted = [\"10.0.0.0/8\", ¶\"be1\"]", &["\"be1\" is not a network"]),
    ("[proxy]\nabuse = ¶\"be 1\"", &["is not a host"]),
    ("[proxy.selection]\nmethod = ¶\"random\"", &["write roundrobin, hash"]),
    ("[proxy.selection]\nclients = ¶0", &["1 to 16777216"]),
    ("[proxy.selection]\ntracking = ¶31536001", &["0 to 31536000"]),
    ("[proxy.limits]\nconnections = ¶0", &["1 to 10000000"]),
    ("[proxy.limits]\npending = ¶0", &["1 to 1000000"]),
    ("[proxy.limits]\naccept-batch = ¶0", &["1 to 65536"]),
    ("[proxy.limits]\nbacklog = ¶0", &["1 to 65535"]),
    ("[proxy.limits]\nhead = ¶1023", &["1024 to 1048576"]),
    ("[proxy.limits]\nidlers = ¶65537", &["0 to 65536"]),
    ("[proxy.limits]\nreuse = ¶65537", &["0 to 65536"]),
    ("[proxy.limits]\nudp-clients = ¶0", &["1 to 10000000"]),
    ("[proxy.timeouts]\nconnect = ¶0", &["1 to 3600"]),
    ("[proxy.timeouts]\nidle = ¶-1", &["0 to 31536000"]),
    ("[proxy.timeouts]\nrequest = ¶0", &["1 to 3600"]),
    ("[proxy.timeouts]\nresponse = ¶31536001", &["0 to 31536000"]),
    ("[proxy.timeouts]\nclient-fin = ¶-1", &["0 to 31536000"]),
    ("[proxy.timeouts]\nblacklist = ¶86401", &["0 to 86400"]),
    ("[proxy.timeouts]\nreuse = ¶86401", &["0 to 86400"]),
    ("[proxy.timeouts]\nudp = ¶0", &["1 to 86400"]),
    ("[proxy.timeouts]\ndrain = ¶86401", &["0 to 86400"]),
    ("[proxy.tcp]\nkeepalive = ¶32768", &["0 to 32767"]),
    ("[proxy.access-log]\ntarget = ¶\"udp:10.0.0.9\"", &["udp:ADDRESS:PORT"]),
    ("[proxy.access-log]\ntarget = \"x\"\nlayout = ¶\"xml\"", &["plain, common, combined or json"]),
    ("+[[listen]]\naddress = \"0.0.0.0:81\"\n[[listen]]\naddress = ¶\"81\"", &["given twice"]),
    ("+[[listen]]\naddress = ¶\"10.0.0.100:80\"", &["a virtual address", "address of its own"]),
    ("+[[listen]]\naddress = \"/run/l\"\nprotocol = ¶\"udp\"", &["a stream, no UDP"]),
    ("+[[listen]]\naddress = \"/run/l\"\ntransparent = ¶true", &["leave transparent out"]),
    ("+[[listen]]\naddress = \"/run/l\"\naccept-proxy = [¶\"10.0.0.1\"]", &["leave accept-proxy out"]),
    ("+[[listen]]\naddress = ¶\"/run/l\"", &["no port to connect to backend \"10.0.0.11\"", "backend-port"]),
    ("+[[listen]]\naddress = \"81\"\nprotocol = \"udp\"\nmode = ¶\"http\"", &["read from TCP"]),
    ("+[[listen]]\naddress = \"81\"\nprotocol = \"udp\"\naccept-proxy = [¶\"::1\"]", &["not in UDP"]),
    ("+[[listen]]\naddress = \"81\"\nprotocol = \"udp\"\nsend-proxy = ¶\"v2\"", &["not in UDP"]),
    ("+[[listen]]\naddress = \"81\"\nprotocol = \"udp\"\n¶[listen.tls]\ncertificate = \"x\"", &["TLS is for TCP"]),
    ("+[[listen]]\naddress = \"81\"\nprotocol = \"udp\"\n¶[listen.backend-tls]", &["TLS is for TCP"]),
    ("+[[listen]]\naddress = \"81\"\n¶[listen.tls]\noldest = \"1.3\"", &["needs a certificate", "--sni-path"]),
    (
        "+[[listen]]\naddress = \"81\"\n¶[listen.tls]\nsni-path = \"x\"\noldest = \"1.3\"\nnewest = \"1.2\"",
        &["exchange them"],
    ),
    (
        "+[[listen]]\naddress = \"81\"\nmode = \"http\"\n[listen.tls]\nsni-path = \"x\"\nalpn = [¶\"ssh\"]",
        &["\"ssh\" is none", "leave mode http"],
    ),
    ("+[[listen]]\naddress = \"81\"\n[listen.backend-tls]\nauthorities = ¶\"x\"", &["add verify = true"]),
    ("+[[listen]]\naddress = \"81\"\n[listen.backend-tls]\nname = ¶\"*.x\"", &["no name of a server"]),
    ("+[[listen]]\naddress = \"81\"\ntransparent = true\nsource = [¶\"10.0.0.2\"]", &["leave one out"]),
    ("+[[listen]]\naddress = \"81\"\nsource = [\"10.0.0.2\", ¶\"10.0.0.3\"]", &["one of each"]),
    ("+[[listen]]\naddress = \"81\"\nsource = [¶\"fd00::2\"]", &["no source for backend \"10.0.0.11\"", "IPv4"]),
    (
        "+[[listen]]\naddress = \"81\"\nbackends = [¶\"10.0.0.12\"]",
        &["no backend \"10.0.0.12\"", "\"10.0.0.11\" is one"],
    ),
    ("+[[listen]]\naddress = \"81\"\nbackends = [\"10.0.0.11\", ¶\"10.0.0.11\"]", &["named twice"]),
    ("+[[listen]]\naddress = \"81\"\nclient-acl = ¶4", &["list 4 has no rules"]),
    (
        "+[[backend]]\nhost = \"10.0.0.12\"\nacl = ¶4\n[[listen]]\naddress = \"81\"",
        &["list 4 has no rules", "acl none"],
    ),
    ("+[[backend]]\nhost = \"10.0.0.12\"\nsoft = ¶9\nhard = 5\n[[listen]]\naddress = \"81\"", &["above the hard one"]),
    ("+[[backend]]\nhost = ¶\"127.0.0.1\"", &["not the address of one host", "a proxy does not"]),
    ("+[[backend]]\npath = ¶\"/run/x\"", &["is a Unix socket", "a proxy does not"]),
    ("+[[backend]]\nhost = ¶\"127.0.0.1\"\nport = 80\nname = \"near\"", &["not the address of one host"]),
    (
        "+[proxy]\nhandover = ¶\"/run/x\"\n[proxy.access-log]\ntarget = \"/run/x\"",
        &["both proxy access-log and proxy handover"],
    ),
    ("control = [¶\"127.0.0.1:8888\"]\n+", &["access list", "control_acl 1", "Unix socket"]),
    ("pidfile = \"/run/x\"\nflow-file = ¶\"/run/x\"\n+", &["both pidfile and flow-file"]),
];

#[test]
fn a_wrong_file_is_refused_at_its_line_and_column_with_the_remedy() {
    for (marked, words) in FILES {
        let marked = match marked.split_once('+') {
            Some(("", rest)) => format!("{ENOUGH}{rest}"),
            Some((front, "")) => format!("{front}{ENOUGH}"),
            _ => (*marked).to_owned(),
        };
        let before = marked.split('¶').next().unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let folder = Folder::new();
        folder.file("wrong.toml", marked.replace('¶', ""));

        let answer = folder.pen_dsr(&["check", "-c", "wrong.toml"]);
        let complaint = &answer.complained;
        assert_eq!(answer.code, Some(78), "{marked}: {complaint}{}", answer.said);
        assert!(complaint.starts_with(&format!("pen-dsr: wrong.toml:{line}:{column}: `")), "{marked}: {complaint}");
        for word in *words {
            assert!(complaint.contains(word), "{marked}: {word:?} in {complaint}");
        }
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert_eq!(answer.said, "", "nothing is printed of a configuration that is wrong");
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_the_remedy() {
    const ENOUGH: &str = "-i eth0 10.0.0.100:80 10.0.0.11";
    for (words, code, expected) in [
        ("-i eth0", 64, "nothing to balance"),
        ("-i eth0 10.0.0.100", 64, "no backends"),
        ("10.0.0.100 10.0.0.11", 64, "-i IF"),
        ("-i eth0 be1 be2", 64, "not a virtual address"),
        ("-i eth0 10.0.0.100 10.0.0.11 10.0.0.11", 64, "same host"),
        ("-i eth0 10.0.0.100 10.0.0.11@02:00:00:00:00:11 10.0.0.12@02:00:00:00:00:11", 64, "02:00:00:00:00:11, too"),
        ("-i eth0 10.0.0.100 --vip 10.0.0.100 10.0.0.11", 64, "twice"),
        ("-i eth0 10.0.0.100 10.0.0.300", 64, "no IPv4 address"),
        ("-i eth0 10.0.0.100 no-such-host.invalid", 68, "/etc/hosts"),
        ("-i eth0 10.0.0.100 10.0.0.11 -e no-such-host.invalid", 68, "no-such-host.invalid"),
        ("-i eth0/1 10.0.0.100 10.0.0.11", 64, "cannot be an interface"),
        ("-i an-interface-too-long 10.0.0.100 10.0.0.11", 64, "15 bytes"),
        ("-i em0:1 10.0.0.100 10.0.0.11", 64, "netmap:INTERFACE"),
        ("-i netmap:em0^ 10.0.0.100 10.0.0.11", 64, "--dedicated"),
        ("-i netmap:x{ 10.0.0.100 10.0.0.11", 64, "followed by { or } and a number"),
        ("-i eth0 -o eth1 --driver packet 10.0.0.100 10.0.0.11", 64, "netmap:eth0, netmap:eth1"),
        ("-i netmap:em0 -o netmap:em0-1 10.0.0.100 10.0.0.11", 64, "leave it out for one arm"),
        ("-i netmap:em0 --driver packet 10.0.0.100 10.0.0.11", 64, "leave the driver out"),
        ("-i eth0 --driver raw 10.0.0.100 10.0.0.11", 64, "auto, netmap, xdp, ring or packet"),
        ("-i netmap:em0 --driver ring 10.0.0.100 10.0.0.11", 64, "ring cannot drive"),
        ("-i eth0 --driver ring --xdp-mode native 10.0.0.100 10.0.0.11", 64, "leave xdp-mode out"),
        ("-i eth0 --driver xdp --xdp-pin /sys/fs/bpf/lb 10.0.0.100 10.0.0.11", 64, "flow-file"),
        ("-i eth0 --mac 02:00:00:00:00:09 10.0.0.100 10.0.0.11", 64, "has its own MAC"),
        ("-i eth0 --cpus 3-1 10.0.0.100 10.0.0.11", 64, "as 2,3 or 4-7"),
        ("-i eth0 --cpus 1,1 10.0.0.100 10.0.0.11", 64, "twice"),
        ("--vip-mac 02:00:00:00:00:11 -i eth0 10.0.0.100 10.0.0.11@02:00:00:00:00:11", 64, "announced with"),
        ("-i eth0 10.0.0.100 10.0.0.11 -e 10.0.0.100", 64, "loopback"),
        ("-i eth0 10.0.0.100 10.0.0.11 -e 10.0.0.11", 64, "name another host"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check tcp", 64, "--check tcp:PORT"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check dns", 64, "a name to ask for"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check ping", 64, "\"ping\""),
        ("-i eth0 10.0.0.100 10.0.0.11 --check-interval 500 --check-timeout 1001", 64, "longer than the 500 ms"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check-interval 50", 64, "100 to 3600000"),
        ("-i eth0 10.0.0.100 10.0.0.11 --rise 0", 64, "1 to 100"),
        ("-i eth0 10.0.0.100 10.0.0.11 --fall x", 64, "1 to 100"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check-source 10.0.0.11", 64, "which is backend"),
        ("-i eth0 10.0.0.100 10.0.0.11 --check-source 10.0.0.2 --check-source 10.0.0.3", 64, "already"),
        ("-i eth0 10.0.0.100 10.0.0.11 --panic 101", 64, "0 to 100"),
        ("-i eth0 10.0.0.100 10.0.0.11 --when-empty close", 64, "neither drop nor reject"),
        ("-i eth0 10.0.0.100 10.0.0.11 --flow-entries 67108865", 64, "1024 to 67108864"),
        ("-i eth0 10.0.0.100 10.0.0.11 -C 127.0.0.1:8888", 64, "control_acl 1"),
        ("-i eth0 10.0.0.100 10.0.0.11 -C localhost:8888", 64, "control_acl 1"),
        ("-i eth0 10.0.0.100 10.0.0.11 -C lb.example:8888", 64, "a port of this machine's own address"),
        ("--check tcp --check-source 224.0.0.1 80 10.0.0.11", 64, "not the address of one host"),
        ("-i eth0 10.0.0.100 10.0.0.11 -p x --log-file x", 64, "its own path"),
        ("-i eth0 10.0.0.100 10.0.0.11 -f --daemon", 64, "cannot be used with"),
        // The proxy.
        ("be1 10.0.0.11", 64, "\"be1\" is no listener"),
        ("80", 64, "after the listener name at least one server"),
        ("10.0.0.300:80 10.0.0.11", 64, "no IPv4 address"),
        ("no-such-host.invalid:80 10.0.0.11", 68, "no-such-host.invalid"),
        ("80 no-such-host.invalid:80", 68, "no-such-host.invalid"),
        ("80 10.0.0.11 10.0.0.11", 64, "same host"),
        ("80 10.0.0.11:81 10.0.0.11:81", 64, "\"10.0.0.11:81\" is the same host"),
        ("80 be1@02:00:00:00:00:11 --listen 80", 64, "given twice"),
        ("8080 127.0.0.1:8080", 64, "itself as its server"),
        ("/run/l /run/l", 64, "itself as its server"),
        ("-U 8080 127.0.0.1:8080", 64, "itself as its server"),
        ("-C /run/ctl 8080 /run/ctl", 64, "give commands to this program"),
        ("-e 127.0.0.1 8080 127.0.0.1:8081", 64, "itself as its server, the emergency server \"127.0.0.1\""),
        ("-B 127.0.0.1:8080 8080 127.0.0.1:8081", 64, "itself as its server, the abuse server"),
        ("/run/l 10.0.0.11", 64, "10.0.0.11:PORT"),
        ("80 /run/x:80", 64, "a Unix socket has no port"),
        ("-U 53 /run/x", 64, "a stream, no UDP"),
        ("-U -H 53 10.0.0.11", 64, "read from TCP"),
        ("-i eth0 10.0.0.100 10.0.0.11 -H", 64, "--listen"),
        ("-i eth0 10.0.0.100 127.0.0.1:80", 64, "not the address of one host"),
        ("-i eth0 10.0.0.100 /run/x", 64, "is a Unix socket"),
        ("-i eth0 10.0.0.100:80 10.0.0.11:80 10.0.0.11:81", 64, "same host"),
        ("-h -W 80 10.0.0.11", 64, "say one of them"),
        ("--selection random 80 10.0.0.11", 64, "write roundrobin"),
        ("--own-header drop 80 10.0.0.11", 64, "needs -H"),
        ("--forwarded 80 10.0.0.11", 64, "needs -H"),
        ("-K x 80 10.0.0.11", 64, "needs -E"),
        ("-R 80 10.0.0.11", 64, "needs -G"),
        ("--log-layout json 80 10.0.0.11", 64, "needs -l"),
        ("-Z 80 10.0.0.11", 64, "needs a certificate"),
        ("-E x --tls-versions 1.3-1.2 443 10.0.0.11:80", 64, "exchange them"),
        ("-E x --tls-versions 1.1 443 10.0.0.11:80", 64, "1.2 or 1.3"),
        ("-E x -H --alpn ssh 443 10.0.0.11:80", 64, "\"ssh\" is none"),
        ("--backend-tls=maybe 80 10.0.0.11", 64, "verify"),
        ("--transparent --source 10.0.0.2 80 10.0.0.11", 64, "leave one out"),
        ("--transparent 80 /run/x", 64, "leave transparent out"),
        ("--source fd00::2 80 10.0.0.11", 64, "no source for backend"),
        ("--source 224.0.0.1 80 10.0.0.11", 64, "not the address of one host"),
        ("--accept-proxy 10.0.0.5/8 80 10.0.0.11", 64, "10.0.0.0/8"),
        ("--send-proxy v3 80 10.0.0.11", 64, "v1 or v2"),
        ("-l udp:x 80 10.0.0.11", 64, "udp:ADDRESS:PORT"),
        ("-x 0 80 10.0.0.11", 64, "1 to 10000000"),
        ("-t 0 80 10.0.0.11", 64, "1 to 3600"),
        ("-B no-such-host.invalid:80 80 10.0.0.11", 68, "no-such-host.invalid"),
        ("80 10.0.0.11:80:9:5", 64, "above the hard one"),
        ("--handover x -p x 80 10.0.0.11", 64, "its own path"),
        ("-c no-such-file.toml", 66, "no-such-file.toml"),
        ("-i eth0 10.0.0.100 10.0.0.11 -F no-such-file", 66, "no-such-file"),
    ] {
        let folder = Folder::new();
        let answer = folder.pen_dsr(&["check"].into_iter().chain(words.split(' ')).collect::<Vec<_>>());
        assert_eq!(answer.code, Some(code), "{words}: {}{}", answer.complained, answer.said);
        assert!(answer.complained.contains(expected), "{words}: {}", answer.complained);
        assert!(!answer.complained.contains("panicked"), "{words}: {}", answer.complained);
    }
    assert_eq!(
        Folder::new().pen_dsr(&["check"].into_iter().chain(ENOUGH.split(' ')).collect::<Vec<_>>()).code,
        Some(0)
    );
}

/// Commands that no configuration can be made of, and what is said.
const COMMANDS: &[(&str, &str)] = &[
    ("sevrers", "\"servers\" is one"),
    ("servers", "asks and configures nothing"),
    ("reload", "for a pen-dsr that runs"),
    ("drain 10.0.0.11", "for a pen-dsr that runs"),
    ("exit", "for a pen-dsr that runs"),
    ("server 1 weight 2", "numbers 0 to 0"),
    ("server 0 weight 2000000", "0 to 1000000"),
    ("server 10.0.0.12 weight 2", "no backend \"10.0.0.12\""),
    ("remove 10.0.0.11", "no backends"),
    ("add 10.0.0.11", "same host"),
    ("add 10.0.0.100", "loopback"),
    ("acl 11 permit all", "0 to 9"),
    ("acl 1 permit 10.0.0.0 255.0.255.0", "gap"),
    ("client_acl 1", "list 1 has no rules"),
    ("client_acl 1 10.0.0.9", "no virtual address here"),
    ("control_acl 9", "list 9 has no rules"),
    ("tarpit_acl 1", "list 1 has no rules"),
    ("check tcp:99999", "65535"),
    ("check_timeout 9000", "longer than the 2000 ms"),
    ("source 10.0.0.100", "a virtual address"),
    ("emergency 10.0.0.11", "name another host"),
    ("include no-such-file", "no-such-file"),
    ("debug 9", "0 to 2"),
];

#[test]
fn a_wrong_command_is_refused_in_a_file_with_its_line() {
    for (command, expected) in COMMANDS {
        let folder = Folder::new();
        folder.file("commands", format!("# a comment\n\n   {command}\n"));
        let answer = folder.pen_dsr(&["check", "-i", "eth0", "10.0.0.100:80", "10.0.0.11", "-F", "commands"]);
        let code = if command.starts_with("include") { 66 } else { 78 };
        assert_eq!(answer.code, Some(code), "{command}: {}{}", answer.complained, answer.said);
        assert!(answer.complained.contains(expected), "{command}: {}", answer.complained);
        let place = format!("pen-dsr: commands:3: `{command}`: ");
        // A file that cannot be read is itself what is at fault.
        assert!(code == 66 || answer.complained.starts_with(&place), "{command}: {}", answer.complained);
    }
}

#[test]
fn a_wrong_command_is_refused_on_the_command_line() {
    for (command, expected) in COMMANDS {
        let answer = Folder::new().pen_dsr(&["check", "-i", "eth0", "10.0.0.100:80", "10.0.0.11", "-O", command]);
        let code = if command.starts_with("include") { 66 } else { 64 };
        assert_eq!(answer.code, Some(code), "{command}: {}{}", answer.complained, answer.said);
        assert!(answer.complained.contains(expected), "{command}: {}", answer.complained);
    }
}

#[test]
fn files_that_are_no_text_or_include_themselves_are_refused() {
    let folder = Folder::new();
    folder.file("binary", [b'\n', 0xff, 0xfe]);
    folder.file("loop", "include loop\n");
    folder.file("huge", vec![b'\n'; (16 << 20) + 1]);
    let enough = ["check", "-i", "eth0", "10.0.0.100:80", "10.0.0.11"];
    for (option, file, code, expected) in [
        ("-c", "binary", 78, "line 2 is no UTF-8"),
        ("-F", "binary", 78, "line 2 is no UTF-8"),
        ("-F", "loop", 78, "does one include itself?"),
        ("-F", "huge", 78, "larger than 16 MiB"),
        ("-c", "/dev/zero", 78, "larger than 16 MiB"),
        ("-c", ".", 66, "directory"),
    ] {
        let answer = folder.pen_dsr(&[&enough[..], &[option, file]].concat());
        assert_eq!(answer.code, Some(code), "{option} {file}: {}", answer.complained);
        assert!(answer.complained.contains(expected), "{option} {file}: {}", answer.complained);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_refused_where_it_is_written() {
    let folder = Folder::new();
    folder.file("x.toml", format!("{ENOUGH}[[backend]]\nhost = \"no-such-host.invalid\"\n"));
    let answer = folder.pen_dsr(&["check", "-c", "x.toml"]);
    assert_eq!(answer.code, Some(68), "{}", answer.complained);
    assert!(answer.complained.starts_with("pen-dsr: x.toml:8:8: `"), "{}", answer.complained);
}
