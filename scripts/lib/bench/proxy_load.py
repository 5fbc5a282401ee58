"""The loads on a proxy. Each returns its count of units and what else it measured, as numbers."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys

import cables
import candidates
import lab
import load
from rounds import CannotRun

TRAFFIC = str(pathlib.Path(__file__).with_name("traffic.py"))
PAGE_BYTES = 128
H2_STREAMS = 8
UDP_WINDOW = 4
FIRST_SECONDS = 1  # at most; one connection at a time
PATIENCE = 30.0  # seconds for what is not timed

SERVER = """
user root; worker_processes 1; daemon off; pid {directory}/server.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300; open_file_cache max=16;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen 80 reuseport backlog=16384; root {directory};
    location = /seen {{ default_type text/plain; return 200 "$http_x_forwarded_for $connection"; }} }}
}}
"""

# Clients of OpenSSL: TLS 1.3 only, one cipher, so that all proxies agree on the same.
OPENSSL = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519:P-256
"""


class NoLoad(CannotRun):
    """The load did not come about, and why."""


def prepare(directory):
    """The page, a certificate for P-256 with its key, and the clients' settings."""
    (directory / "page").write_bytes(b"x" * PAGE_BYTES)
    (directory / "openssl.cnf").write_text(OPENSSL)
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=proxy",
                    "-addext", "subjectAltName=DNS:proxy"], check=True, capture_output=True)
    (directory / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())


def servers(directory, cpu):
    """nginx for pages, traffic.py for the rest, as programs to be entered."""
    config = directory / "server.conf"
    config.write_text(SERVER.format(directory=directory))
    return [
        lab.Program(cables.SERVER, ["nginx", "-c", str(config), "-e", "stderr"], cpu),
        lab.Program(cables.SERVER, [sys.executable, TRAFFIC, "serve", cables.SERVER_ADDRESS,
                                    str(candidates.BULK_PORT), str(candidates.UDP_PORT)], cpu),
    ]


class Load:
    """Loads from the client's host, on one CPU."""

    def __init__(self, directory, cpu):
        self.directory = directory
        self.cpu = cpu
        self.env = [f"OPENSSL_CONF={directory / 'openssl.cnf'}"]

    def run(self, metric, target, seconds):
        """The load of a metric on an address with its port."""
        if metric.load == "wrk":
            return self.wrk(metric, target, seconds)
        if metric.load == "h2load":
            return self.h2load(metric, target, seconds)
        host, port = target.split(":")
        tls = ["tls"] if metric.mode == candidates.TLS else []
        if metric.load == "first":
            return self.traffic(["first", host, port, min(seconds, FIRST_SECONDS), *tls], PATIENCE)
        if metric.load == "bulk":
            words = ["bulk", metric.direction, host, port, metric.connections, seconds, cables.SERVER_ADDRESS,
                     candidates.BULK_PORT, *tls]
            measured = self.traffic(words, seconds + PATIENCE)
            return {"count": measured["count"] / 1e6, "seconds": measured["seconds"]}
        measured = self.traffic(["udp", host, port, metric.connections, UDP_WINDOW, seconds], seconds + PATIENCE)
        lost = measured.pop("lost")
        return {**measured, "lost": lost / (lost + measured["count"]) if measured["count"] else 1.0}

    def wrk(self, metric, target, seconds):
        """GET of a small page."""
        secure = metric.mode == candidates.TLS
        headers = ["Connection: close"] if metric.close else []
        measured = load.wrk(f"{'https' if secure else 'http'}://{target}/page", seconds, metric.connections, self.cpu,
                            self.directory, headers, self.env)
        if not measured.get("count"):
            raise NoLoad(f"wrk had no answer ({measured.get('errors', 'no report')} errors)")
        measured["seconds"] = measured["count"] / measured.pop("requests")
        return measured

    def h2load(self, metric, target, seconds):
        """The same over HTTP/2."""
        words = ["h2load", "-t", "1", "-c", str(metric.connections), "-m", str(H2_STREAMS), "-D", str(seconds),
                 f"https://{target}/page"]
        text = self.client(words, seconds + PATIENCE).stdout
        found = re.search(r"(\d+) succeeded, (\d+) failed", text)
        if not found or not int(found.group(1)) or "Application protocol: h2" not in text:
            raise NoLoad("h2load had no answer by HTTP/2: " + text[-300:].strip())
        return {"count": int(found.group(1)), "seconds": seconds, "errors": int(found.group(2))}

    def hello(self, target):
        """What TLS agrees on."""
        try:
            measured = self.traffic(["hello", *target.split(":")], PATIENCE)
        except NoLoad as why:
            return str(why)
        return f"{measured['version']} {measured['cipher']}"

    def seen(self, target):
        """Whether each request of two connections had X-Forwarded-For, and whether they shared one to the server.

        The fourth request is pipelined.
        """
        measured = self.traffic(["seen", *target.split(":")], PATIENCE)
        return [bool(header) for header in measured["headers"]], len(set(measured["ways"])) == 1

    def traffic(self, words, timeout):
        """traffic.py to its end: what it measured."""
        done = self.client([sys.executable, TRAFFIC, *map(str, words)], timeout)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            raise NoLoad((done.stderr.strip().splitlines() or ["traffic.py said nothing"])[-1]) from None

    def client(self, words, timeout):
        """A program in the client's host to its end."""
        try:
            return lab.run(cables.CLIENT, "env", *self.env, "taskset", "-c", str(self.cpu), *words, check=False,
                           timeout=timeout)
        except subprocess.TimeoutExpired:
            raise NoLoad(f"no end within {timeout:.0f} s") from None

    @contextlib.contextmanager
    def idle(self, metric, target, number):
        """So many connections, open while this is entered."""
        words = [lab.LAB, "exec", cables.CLIENT, "env", *self.env, "taskset", "-c", str(self.cpu), sys.executable,
                 TRAFFIC, "idle", *target.split(":"), str(number)]
        if metric.mode == candidates.TLS:
            words.append("tls")
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as process:
            try:
                if not process.stdout.readline():
                    raise NoLoad((process.stderr.read().strip().splitlines() or ["it ended"])[-1])
                yield
            finally:
                process.stdin.close()
